"""When runs that have left memory were queued, to the nearest thousand: for what outlives them.

A request may be asked again for a day (core/requests.py), and its runs may have left long before.
One mark stands for many runs, as ids are given in the order of time: so it costs next to nothing a
run, and tells a time that is never too early unless the clock was set back between them.
"""

from __future__ import annotations

from bisect import bisect_left

#: runs for which one mark is enough
_NEAR = 1000


class Gone:
    """Marks of `(id, queued at in ms UTC)`, by id."""

    __slots__ = ("_ats", "_ids")

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._ats: list[int] = []

    def add(self, run: int, queued_at: int) -> None:
        """Take note of a run that leaves."""
        at = bisect_left(self._ids, run)
        if at < len(self._ids) and self._ids[at] - run < _NEAR:
            return
        if at == len(self._ids) > 1 and run - self._ids[-2] < _NEAR:
            # the last mark moves up, until it is far enough from the one before
            self._ids[-1], self._ats[-1] = run, queued_at
            return
        self._ids.insert(at, run)
        self._ats.insert(at, queued_at)

    def queued_at(self, run: int) -> int | None:
        """When the run was queued, or some time after; None where that is not known any more."""
        at = bisect_left(self._ids, run)
        return self._ats[at] if at < len(self._ids) else None

    def expire(self, before: int) -> None:
        """Forget the oldest runs, those queued before `before` (ms UTC)."""
        count = 0
        while count < len(self._ats) and self._ats[count] < before:
            count += 1
        del self._ids[:count], self._ats[:count]

    def marks(self) -> list[list[int]]:
        """All marks, for :meth:`restore`."""
        return [list(pair) for pair in zip(self._ids, self._ats, strict=True)]

    def restore(self, marks: list[list[int]]) -> None:
        """Take the marks in; there are none yet."""
        self._ids = [run for run, _ in marks]
        self._ats = [at for _, at in marks]

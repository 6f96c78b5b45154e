"""How far running attempts say they are: kept in memory, and told a few times a second.

It is nothing that anything is decided by, so it is not in the queue: a loop that tells each of its
million steps costs no disk, and wakes who looks five times a second. The last word of an attempt
goes into its end.
"""

from __future__ import annotations

from collections.abc import Callable

from jobd.server.inside import clean

#: milliseconds between two times that the same run's is told
_APART_MS = 200


class Reports:
    """By run, what its live attempt last said. One thread's, but for :meth:`last` and `late`.

    `touch` has those asked again that wait for a run; `lives` says whether an attempt does.
    """

    def __init__(self, touch: Callable[[int], None], lives: Callable[[int, int], bool]) -> None:
        self._touch = touch
        self._lives = lives
        self._told: dict[int, tuple[int, int | None, str]] = {}
        self._touched: dict[int, int] = {}
        #: runs of which the last word has not been told yet
        self.late: set[int] = set()

    def take(
        self, within: tuple[int, int], percent: int | None, message: str, now_mono: int
    ) -> None:
        """Take note of what an attempt says; at `now_mono`, in monotonic milliseconds."""
        run, attempt = within
        if not self._lives(run, attempt):
            return
        told = (attempt, percent, clean(message))
        if self._told.get(run) == told:
            return
        self._told[run] = told
        if now_mono - self._touched.get(run, -_APART_MS) < _APART_MS:
            self.late.add(run)
            return
        self._touched[run] = now_mono
        self.late.discard(run)
        self._touch(run)

    def of(self, run: int) -> tuple[int | None, str] | None:
        """Percent and message, or None where its attempt has said nothing."""
        told = self._told.get(run)
        return None if told is None or not self._lives(run, told[0]) else told[1:]

    def catch_up(self, now_mono: int) -> None:
        """Tell what was held back."""
        late, self.late = self.late, set()
        for run in late:
            self._touched[run] = now_mono
            self._touch(run)

    def last(self, run: int, attempt: int) -> tuple[int | None, str] | None:
        """The last word of an attempt. Safe in any thread."""
        told = self._told.get(run)
        return None if told is None or told[0] != attempt else told[1:]

    def forget(self, run: int, attempt: int) -> None:
        """The attempt is over."""
        told = self._told.get(run)
        if told is not None and told[0] == attempt:
            del self._told[run]
            self._touched.pop(run, None)
            self.late.discard(run)

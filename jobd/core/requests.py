"""Which runs a request made: so that asking again with the same key makes no more of them.

Keys are 16 random bytes. The table is in 256 parts, as one large dict stalls while it grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

#: for how long a request may be asked again, in milliseconds (INTERFACE, "Keys")
KEEP_MS = 24 * 3_600_000
#: requests from a time to come that are looked past at once
_LOOK_PAST = 1_000
_NONE = range(0)


class Requests:
    """Request key -> the ids of the runs that it queued, which follow each other."""

    __slots__ = ("_order", "_parts")

    def __init__(self) -> None:
        self._parts: list[dict[bytes, int | tuple[int, int]]] = [{} for _ in range(256)]
        self._order: deque[bytes] = deque()

    def add(self, key: bytes, run: int, batch_index: int) -> None:
        """Take note that the request's run number `batch_index` (from 0) is `run`."""
        part = self._parts[key[0]]
        if batch_index == 0:
            part[key] = run
            self._order.append(key)
        else:
            part[key] = (run - batch_index, batch_index + 1)

    def put(self, key: bytes, first: int, count: int) -> None:
        """Take in a request that queued `count` runs from `first` on, younger than all before."""
        self._parts[key[0]][key] = first if count == 1 else (first, count)
        self._order.append(key)

    def oldest_first(self) -> Iterator[tuple[bytes, range]]:
        """Every request and the runs that it queued."""
        for key in self._order:
            runs = self.find(key)
            if runs:
                yield key, runs

    def find(self, key: bytes) -> range:
        """The ids of the runs that the request queued; empty if it is not known."""
        found = self._parts[key[0]].get(key)
        if found is None:
            return _NONE
        first, count = found if isinstance(found, tuple) else (found, 1)
        return range(first, first + count)

    def expire(self, queued_at: Callable[[int], int | None], before: int) -> None:
        """Forget requests whose first run was queued before `before`, or is itself forgotten.

        What was queued more than KEEP_MS later was queued by a clock that was ahead: it is kept,
        and does not keep those after it.
        """
        ahead = 0
        while self._order and ahead < _LOOK_PAST:
            runs = self.find(self._order[0])
            at = queued_at(runs.start) if runs else None
            if at is not None and at > before + KEEP_MS:
                self._order.rotate(-1)
                ahead += 1
                continue
            if at is not None and at >= before:
                break
            key = self._order.popleft()
            self._parts[key[0]].pop(key, None)

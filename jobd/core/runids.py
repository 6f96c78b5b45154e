"""The ids of a job's runs in order, 8 bytes each: its runs are found without looking at others'."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence

#: ids of runs that are gone, from which on it is worth making the list anew
_GONE = 1_024


class RunIds:
    """Ascending ids; some may be of runs that are gone (:meth:`gone`)."""

    __slots__ = ("_gone", "_ids")

    def __init__(self) -> None:
        self._ids = array("Q")
        self._gone = 0

    def __len__(self) -> int:
        """How many runs these are."""
        return len(self._ids) - self._gone

    def add(self, run: int) -> None:
        """Take in an id that is not there; nearly always it is the highest."""
        ids = self._ids
        if ids and run < ids[-1]:
            insort(ids, run)
        else:
            ids.append(run)

    def gone(self, there: Callable[[int], object]) -> None:
        """One of its runs is gone; `there` tells for an id whether its run is."""
        self._gone += 1
        if self._gone > _GONE and self._gone * 2 > len(self._ids):
            self._ids = array("Q", filter(there, self._ids))
            self._gone = 0

    def span(self) -> list[int]:
        """The first and the last id; there must be one."""
        return [self._ids[0], self._ids[-1]]

    def below(self, run: int | None, most: int) -> Sequence[int]:
        """The highest `most` ids that are less than `run`, ascending."""
        end = len(self._ids) if run is None else bisect_left(self._ids, run)
        return self._ids[max(0, end - most) : end]

    def between(self, first: int, last: int) -> Sequence[int]:
        """The ids from `first` to `last`, both included."""
        return self._ids[bisect_left(self._ids, first) : bisect_right(self._ids, last)]

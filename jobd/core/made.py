"""Which runs were queued by which others from inside (core/inside.py); follows from their options.

The word is not "parent", which is a run that another waits for (core/parents.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class Made:
    """Run -> the runs that it queued, by id, oldest first; also those that are forgotten by now."""

    __slots__ = ("_by",)

    def __init__(self) -> None:
        self._by: dict[int, array[int]] = {}

    def add(self, run: int, by: int) -> None:
        """Take in a run that `by` has queued."""
        found = self._by.get(by)
        if found is None:
            found = self._by[by] = array("Q")
        found.append(run)

    def of(self, run: int) -> Sequence[int]:
        """What the run has queued."""
        return self._by.get(run, ())

    def forget(self, run: int) -> None:
        """Let go of a run that nobody asks for any more."""
        self._by.pop(run, None)

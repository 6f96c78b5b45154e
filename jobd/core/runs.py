"""The table of runs by id: a list in pieces, as ids only grow and a dict stalls while it grows.

A dict of a million entries stops everything for 26 to 131 ms when it grows; lists of 4096 slots
never do, and cost 8 bytes a run (measured with the hot path's prototype).
"""

from __future__ import annotations

from collections.abc import Iterator

from jobd.core.entities import Run

_BITS = 12
_SIZE = 1 << _BITS
_MASK = _SIZE - 1


class RunTable:
    """Runs by id, and newest first."""

    __slots__ = ("_count", "_pieces", "_used")

    def __init__(self) -> None:
        self._pieces: dict[int, list[Run | None]] = {}
        self._used: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, run: int) -> Run | None:
        """The run with this id, or None."""
        piece = self._pieces.get(run >> _BITS)
        return piece[run & _MASK] if piece is not None else None

    def add(self, run: Run) -> None:
        """Take in a run under its id, which must be free."""
        number = run.id >> _BITS
        piece = self._pieces.get(number)
        if piece is None:
            piece = self._pieces[number] = [None] * _SIZE
            self._used[number] = 0
        if piece[run.id & _MASK] is not None:
            raise ValueError(f"run {run.id} is already there")
        piece[run.id & _MASK] = run
        self._used[number] += 1
        self._count += 1

    def remove(self, run: int) -> None:
        """Let go of a run, which must be there; a piece without runs goes too."""
        number = run >> _BITS
        piece = self._pieces[number]
        if piece[run & _MASK] is None:
            raise KeyError(run)
        piece[run & _MASK] = None
        self._used[number] -= 1
        self._count -= 1
        if not self._used[number]:
            del self._pieces[number], self._used[number]

    def newest_first(self, below: int | None = None) -> Iterator[Run]:
        """Every run with an id less than `below`, the highest id first."""
        for number in sorted(self._pieces, reverse=True):
            if below is not None and number > (below - 1) >> _BITS:
                continue
            piece = self._pieces.get(number, [])
            for run in reversed(piece):
                if run is not None and (below is None or run.id < below):
                    yield run

    def oldest_first(self) -> Iterator[Run]:
        """Every run, the lowest id first."""
        for number in sorted(self._pieces):
            for run in self._pieces[number]:
                if run is not None:
                    yield run

"""First-fit-decreasing: what dispatch is held against where all is queued at once."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def decreasing(runs: Sequence[tuple[float, float]], room: float) -> float:
    """The makespan of runs, `(size, time)` each, on a host of that room: whenever something ends,
    all that fits is started, the largest first."""
    left = sorted(runs, key=lambda run: -run[0])
    ends: list[tuple[float, float]] = []
    at = 0.0
    while left or ends:
        for run in list(left):
            if run[0] <= room:
                room -= run[0]
                heapq.heappush(ends, (at + run[1], run[0]))
                left.remove(run)
        at, size = heapq.heappop(ends)
        room += size
        while ends and ends[0][0] == at:
            room += heapq.heappop(ends)[1]
    return at

"""Who starts when, over days of mixed work: limits hold, order holds, nothing starves.

`JOBD_SIM_DAYS=0-1999` lives those seeds instead of the first few; a failing one says its seed.
"""

from __future__ import annotations

import os

import pytest

from tests.support.simdays import Days

#: seeds in one test; of so many one is large
PART, LARGE = 10, 25


def seeds() -> list[range]:
    """The seeds to live, in parts."""
    first, _, last = os.environ.get("JOBD_SIM_DAYS", "0-39").partition("-")
    every = range(int(first), int(last or first) + 1)
    return [every[at : at + PART] for at in range(0, len(every), PART)]


def live_through(seed: int) -> Days:
    """Some days to their end: few jobs and runs, or (one seed of LARGE) hundreds of jobs."""
    large = seed % LARGE == LARGE - 1
    try:
        days = Days(seed, *((300, 1_000) if large else (25, 90)))
        days.live()
    except Exception as error:
        error.add_note(
            f"seed {seed}: again with\n"
            f"    JOBD_SIM_DAYS={seed} python -m pytest tests/unit/test_simulation_days.py"
        )
        raise
    return days


@pytest.mark.parametrize("part", seeds(), ids=lambda part: f"{part.start}-{part.stop - 1}")
def test_days(part: range) -> None:
    for seed in part:
        days = live_through(seed)
        assert days.all_over()
        assert days.started

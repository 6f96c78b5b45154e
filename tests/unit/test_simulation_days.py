"""Who starts when, over days of mixed work: limits hold, order holds, nothing starves.

`JOBD_SIM_DAYS=0-1999` lives those seeds instead of the first few; a failing one says its seed.
With the slow tests (`contrib/test --all`) two thousand more are lived.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.support.simdays import Days

#: seeds in one test; of so many one is large
PART, LARGE = 10, 40


def seeds(first: int, last: int) -> list[range]:
    """The seeds to live, in parts."""
    every = range(first, last + 1)
    return [every[at : at + PART] for at in range(0, len(every), PART)]


def named() -> tuple[int, int]:
    """The seeds that every run of the tests lives, or those that somebody names."""
    first, _, last = os.environ.get("JOBD_SIM_DAYS", "0-39").partition("-")
    return int(first), int(last or first)


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


def live_all(part: range) -> None:
    """All of them; something must have happened in each."""
    for seed in part:
        days = live_through(seed)
        assert days.all_over()
        assert days.started


@pytest.mark.parametrize("part", seeds(*named()), ids=lambda part: f"{part.start}-{part.stop - 1}")
def test_days(part: range) -> None:
    live_all(part)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 12_000, 100))
def test_thousands_of_days(first: int) -> None:
    # in a process of its own: measuring the coverage makes it four times as slow
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        apart.submit(live_all, range(first, first + 100)).result()

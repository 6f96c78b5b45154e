"""What runs that have left cost in memory: nothing each, measured."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Iterator

import pytest

from jobd.core import events as e
from jobd.core.archiving import Window, leaving, ranges_of
from jobd.core.state import State
from tests.support.core import START, problems

WHO = [1000, "ann", 4711, ""]
#: runs in a step, steps before the measuring begins, and behind that
STEP, BEFORE, MEASURED = 1000, 5, 10


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def lived(state: State, first: int, keys: bool) -> None:
    """A thousand runs from their queueing to their end, as many ways as there are in short."""
    for run in range(first, first + STEP):
        at = START.wall + run
        options = {"labels": {"n": str(run)}, "key": f"k{run}"} if run % 4 == 0 else None
        key = os.urandom(16) if keys else None
        payload = [f"{run:032x}", 9, 1] if run % 5 == 0 else b"x" * 100
        state.apply(e.RunQueued(run, 1, 1, at, "cli", WHO, payload, 0, options, key))
        if run % 3 == 0:
            state.apply(e.RunFinished(run, at, "cancelled", "cancelled", "was cancelled", WHO))
            continue
        outcome = "failed" if run % 7 == 0 else "succeeded"
        state.apply(e.AttemptClaimed(run, 1, at))
        state.apply(e.AttemptStarted(run, 1, at, at, "c", "sha256:1", 4))
        state.apply(e.AttemptEnded(run, 1, at, outcome, True, 0, None, at, False, 0.5, 4096, "p"))
        state.apply(e.RunFinished(run, at, outcome, outcome, f"ended {run}"))


def archive(state: State) -> None:
    """All but the window leaves, as the daemon's history has it."""
    while runs := leaving(state, Window(500, 1 << 50), START.wall, 200):
        state.apply(e.HostRunsArchived(1, START.wall, ranges_of(run.id for run in runs)))


def used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("keys", [False, True])
def test_a_run_beyond_the_window_costs_nothing(traced: None, keys: bool) -> None:
    state = State()
    state.apply(e.JobRegistered(1, "j", 1, {"name": "j", "image": "i"}, START.wall, WHO))
    figures = []
    for step in range(BEFORE + MEASURED):
        lived(state, 1 + step * STEP, keys)
        archive(state)
        if step in (BEFORE - 1, BEFORE + MEASURED - 1):
            assert list(problems(state)) == []
            if keys:
                # they are kept for a day, whatever becomes of the run: here that is over
                late = START.wall + (1 + step) * STEP
                state.requests.expire(state.queued_at, late)
                state.gone.expire(late)
            figures.append(used())
    assert (state.ended, len(state.runs)) == (500, 500)
    each = (figures[-1] - figures[0]) / (MEASURED * STEP)
    # a run in memory is some 300 bytes and more; of marks there is one for a thousand
    assert each < 3, f"{each} bytes for each run that has left"

"""The whole core in a made-up world: one seed is one life, and nothing may go wrong in any.

`JOBD_SIM_SEEDS=123` (or `0-9999`) lives those lives instead; a failing one says its seed.
"""

from __future__ import annotations

import os

import pytest

from jobd.core.states import Outcome
from tests.support.simulation import Life

#: lives in one test, and what happens in each
LIVES, STEPS = 10, 150


def seeds() -> list[range]:
    """The seeds to live, in parts."""
    first, _, last = os.environ.get("JOBD_SIM_SEEDS", "0-99").partition("-")
    every = range(int(first), int(last or first) + 1)
    return [every[at : at + LIVES] for at in range(0, len(every), LIVES)]


def live_through(seed: int) -> Life:
    """One life to its end."""
    steps = 0
    try:
        life = Life(seed)
        while steps < STEPS:
            life.step()
            steps += 1
        life.settle()
    except Exception as error:
        error.add_note(
            f"seed {seed}, after {steps} of {STEPS} steps: again with\n"
            f"    JOBD_SIM_SEEDS={seed} python -m pytest tests/unit/test_simulation.py"
        )
        raise
    return life


@pytest.mark.parametrize("part", seeds(), ids=lambda part: f"{part.start}-{part.stop - 1}")
def test_lives(part: range) -> None:
    for seed in part:
        live_through(seed)


def test_a_life_is_the_same_each_time() -> None:
    assert live_through(7).events == live_through(7).events


def test_lives_are_full() -> None:
    # a world in which little happens would prove little
    outcomes: dict[str, int] = {}
    attempts = events = 0
    for seed in range(20):
        life = live_through(seed)
        events += len(life.events)
        for run in life.state.runs.oldest_first():
            for attempt in run.attempts or []:
                assert attempt.end is not None
                attempts += 1
                outcomes[attempt.end.outcome] = outcomes.get(attempt.end.outcome, 0) + 1
            outcome = f"run {getattr(run.note, 'outcome', None)}"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert attempts > 200, outcomes
    assert events > 1_500
    for outcome in Outcome:
        if outcome not in (Outcome.EXPIRED, Outcome.SKIPPED):
            assert outcomes.get(outcome), outcomes
    for outcome in Outcome:
        if outcome is not Outcome.INTERRUPTED:
            assert outcomes.get(f"run {outcome}"), outcomes

"""The daemon's own loop, queue and snapshots over a simulated disk, clock and engine.

One seed is one life. `JOBD_WHOLE_SEEDS=123` (or `0-9999`) lives those instead; a failing one says
its seed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from jobd.core.model import Now
from jobd.errors import JobdError
from tests.support.core import ANN
from tests.support.simasks import submission
from tests.support.wholecore import WholeLife

#: lives in one test, and what happens in each
LIVES, STEPS = 5, 120


def seeds() -> list[range]:
    """The seeds to live, in parts."""
    first, _, last = os.environ.get("JOBD_WHOLE_SEEDS", "0-19").partition("-")
    every = range(int(first), int(last or first) + 1)
    return [every[at : at + LIVES] for at in range(0, len(every), LIVES)]


def live_through(seed: int) -> WholeLife:
    """One life."""
    steps = 0
    try:
        life = WholeLife(seed)
        try:
            while steps < STEPS:
                life.step()
                steps += 1
        finally:
            life.close()
    except Exception as error:
        error.add_note(
            f"seed {seed}, after {steps} of {STEPS} steps: again with\n"
            f"    JOBD_WHOLE_SEEDS={seed} python -m pytest tests/unit/test_wholecore.py"
        )
        raise
    return life


@pytest.mark.parametrize("part", seeds(), ids=lambda part: f"{part.start}-{part.stop - 1}")
def test_lives_of_the_whole_core(part: range) -> None:
    for seed in part:
        live_through(seed)


def test_lives_are_full_and_the_same_each_time() -> None:
    deaths: Counter[str] = Counter()
    told = 0
    for seed in range(3):
        one, two = live_through(seed), live_through(seed)
        assert (one.ended, one.disk.ops, one.deaths) == (two.ended, two.disk.ops, two.deaths)
        deaths.update(one.deaths)
        told += len(one.acknowledged)
    assert set(deaths) >= {"power", "kill", "sync"}
    assert told > 30, "little happened"


@contextmanager
def no_memory(at: int) -> Iterator[None]:
    """The line of jobd's that is the `at`th to be reached raises MemoryError."""
    left = at

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if "/jobd/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise MemoryError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_no_memory_at_any_line_of_a_decision_writes_no_half_of_it() -> None:
    """Row 29: the request's guard catches it; state and queue are whole, or the daemon ends."""
    life = WholeLife(3)
    ended = went_on = 0
    for at in range(1, 600, 3):
        life.now = Now(life.now.wall + 1_000, life.now.mono + 1_000)
        command = submission(life.rng, life.now.wall, life.loop.state.next_run - 1)
        try:
            with no_memory(at):
                life.loop.decide(command, ANN)
        except (MemoryError, JobdError):
            pass  # as the server's guard does: this request fails, and the loop goes on
        try:
            life.turn()
        except MemoryError:
            ended += 1
        else:
            went_on += 1
        life.die("kill")
        life.check()
    life.close()
    assert (ended > 5, went_on > 5) == (True, True), f"{ended} ended, {went_on} went on"

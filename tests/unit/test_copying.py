"""A copy of what lives: it goes on as the original would, and the original does not notice."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from jobd.capacity.ledger import Ledger
from jobd.core.copying import copy, some_waiting, waiting
from jobd.core.entities import Run
from jobd.core.limits import PLAIN
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import Kind, RunState
from jobd.forecast.future import Future
from jobd.forecast.pasts import pasts_of_all
from tests.support.core import Bench, dump_all, problems
from tests.support.simlimits import HOST
from tests.support.simulation import Life


def lives(state: State) -> dict[int, Any]:
    """What is told of each run that waits or is active."""
    runs = dump_all(state)["runs"]
    wanted = (RunState.WAITING, RunState.ACTIVE)
    return {run.id: runs[run.id] for run in state.runs.oldest_first() if run.state in wanted}


def queues(state: State) -> dict[int, list[int]]:
    """The runs that could start, by their jobs: in the order in which they would be asked."""
    found: dict[int, list[int]] = {}
    for run in waiting(state, 1 << 30) or []:
        if run.due is None and not run.parents:
            found.setdefault(run.job.id, []).append(run.id)
    return found


def limits(state: State) -> Any:
    told = dump_all(state)["limits"]
    groups, held, buckets, holders, _, breakers = told
    return groups, {n: h for n, h in held.items() if n in groups}, buckets, holders, breakers


def go_on(state: State, life: Bench) -> Future:
    """Play it to its end, or so far."""
    free = Ledger(HOST)
    free.engines = dict.fromkeys(Kind)
    pasts = {job: past.usual() for job, past in pasts_of_all(life.state, life.now.wall).items()}
    future = Future(state, pasts, free, PLAIN, Rules(), life.now, Random(1))
    future.go(life.now.wall + 3_600_000, 300)
    return future


@pytest.mark.parametrize("part", range(4))
def test_in_the_middle_of_any_life(part: int) -> None:
    for seed in range(part * 5, part * 5 + 5):
        life = Life(seed)
        for _ in range(Random(seed).randrange(20, 120)):
            life.step()
        found = waiting(life.state, 1 << 30)
        assert found is not None
        made = copy(life.state, found, schedules=True)
        assert lives(made) == lives(life.state), seed
        assert queues(made) == queues(life.state), seed
        assert limits(made) == limits(life.state), seed
        assert made.reserved == life.state.reserved
        before = dump_all(life.state)
        future = go_on(made, life)
        assert dump_all(life.state) == before, "the original does not notice"
        assert not [text for text in problems(future.state) if "still waits for run" not in text]


def many() -> tuple[Bench, list[Run]]:
    bench = Bench()
    for name in "ab":
        bench.register(name)
    return bench, [bench.queue(name) for name in "aaaab" for _ in range(3)]


def test_too_many_are_told_or_the_first_of_each_job_taken() -> None:
    bench, runs = many()
    assert waiting(bench.state, len(runs) - 1) is None
    found = some_waiting(bench.state, 6)
    assert [run.job.name for run in found] == ["a"] * 3 + ["b"] * 3
    assert found[0] is runs[0]
    made = copy(bench.state, found)
    assert made.waiting == 6
    assert not list(problems(made))

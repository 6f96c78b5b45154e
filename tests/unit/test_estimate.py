"""What is before a run in its queue, and when it will start."""

from __future__ import annotations

import pytest

from jobd.core import events as e
from jobd.core.commands import EditRun, HoldRun, MoveRunFirst, PauseJob
from jobd.core.entities import TIMES, Run
from jobd.core.estimate import MOST, Estimate, estimate
from jobd.core.model import Needs
from tests.support.core import Bench
from tests.support.situations import event_for

HOST = Needs(2.0, 4 << 30)


@pytest.fixture
def bench() -> Bench:
    """A core with one job that runs once at a time, for 10 s each."""
    bench = Bench()
    bench.register(limits={"concurrency": 1})
    live(bench, bench.queue(), 10_000)
    return bench


def start(bench: Bench, run: Run) -> None:
    if run.id not in bench.state.active:
        bench.claim()
    bench.apply(event_for(bench, run.id, e.AttemptStarted))


def live(bench: Bench, run: Run, ms: int) -> None:
    """The run runs for so long, and succeeds."""
    start(bench, run)
    bench.later(ms)
    at = bench.now.wall
    bench.apply(
        e.AttemptEnded(run.id, 1, at, "succeeded", True, 0, finished_at=at),
        e.RunFinished(run.id, at, "succeeded", "succeeded", ""),
    )


def ahead(bench: Bench, run: Run, most: int = MOST) -> list[int]:
    found, _ = bench.state.ready.ahead(run, most, lambda job: not job.paused)
    return [one.id for one in found]


def guess(bench: Bench, run: Run) -> Estimate:
    found, _ = bench.state.ready.ahead(run, MOST, lambda job: not job.paused)
    return estimate(bench.state, run, found, HOST, bench.now)


def test_by_priority_and_turn_by_turn(bench: Bench) -> None:
    bench.register("other")
    bench.register("third")
    mine = [bench.queue() for _ in range(3)]
    first = [bench.queue("other") for _ in range(4)]
    high = bench.queue("third", priority=5)
    low = bench.queue("third", priority=-5)
    run = mine[2]
    before = ahead(bench, run)
    assert before[0] == high.id
    assert low.id not in before
    assert [n for n in before if n in (mine[0].id, mine[1].id)] == [mine[0].id, mine[1].id]
    assert sum(n in [one.id for one in first] for n in before) == 3
    bench.do(PauseJob("other", True))
    assert ahead(bench, run) == [high.id, mine[0].id, mine[1].id]
    assert ahead(bench, run, 2) == [high.id, mine[0].id]


def test_what_left_its_place_is_not_before_it(bench: Bench) -> None:
    one, two, three, four = (bench.queue() for _ in range(4))
    bench.do(HoldRun(one.id))
    bench.do(EditRun(two.id, not_before=bench.now.wall + 5_000))
    bench.do(MoveRunFirst(four.id))
    assert ahead(bench, three) == [four.id]
    assert bench.state.ready.ahead(three, MOST, lambda job: True)[1] == 1


def test_one_after_the_other(bench: Bench) -> None:
    running, *runs = (bench.queue() for _ in range(4))
    start(bench, running)
    bench.later(4_000)
    now = bench.now.wall
    assert [guess(bench, run).at for run in runs] == [now + 6_000, now + 16_000, now + 26_000]
    assert "last 1 run times" in guess(bench, runs[0]).text


def test_as_many_at_once_as_fit(bench: Bench) -> None:
    bench.register("wide")
    live(bench, bench.queue("wide"), 1_000)
    active = [bench.queue("wide"), bench.queue("wide")]
    bench.claim()
    for run in active:
        start(bench, run)
    runs = [bench.queue("wide") for _ in range(4)]
    now = bench.now.wall
    ats = [guess(bench, run).at for run in runs]
    assert ats == [now + 1_000, now + 1_000, now + 2_000, now + 2_000]


def test_longer_than_usual(bench: Bench) -> None:
    running, waiting = bench.queue(), bench.queue()
    start(bench, running)
    bench.later(60_000)
    assert guess(bench, waiting).at == bench.now.wall


def test_nobody_can_tell(bench: Bench) -> None:
    bench.register("new")
    fresh = bench.queue("new")
    start(bench, fresh)
    waiting = bench.queue()
    assert guess(bench, waiting) == (None, "no run of job new has ended yet")
    bench.register("large", resources={"cpus": 2.5})
    bench.apply(event_for(bench, fresh.id, e.AttemptEnded))
    bench.apply(event_for(bench, fresh.id, e.RunFinished))
    large = bench.queue("large", priority=9)
    assert guess(bench, large) == (None, f"run {large.id} does not fit this host")


def test_after_its_parents(bench: Bench) -> None:
    one, two = bench.queue(), bench.queue()
    child = bench.queue(after=((one.id, "ok"),))
    both = bench.queue(after=((one.id, "any"), (two.id, "any")))
    start(bench, one)
    bench.later(3_000)
    assert guess(bench, child).at == bench.now.wall + 7_000
    assert guess(bench, both) == (None, f"run {two.id} has not started yet")


def test_when_it_is_due(bench: Bench) -> None:
    run = bench.queue(not_before=bench.now.wall + 5_000)
    assert guess(bench, run) == (bench.now.wall + 5_000, "when it is due")


def test_the_last_times_are_kept(bench: Bench) -> None:
    for _ in range(TIMES + 5):
        live(bench, bench.queue(), 1_000)
    assert list(bench.state.jobs["job"].times) == [1_000] * TIMES
    bench.restart()
    assert list(bench.state.jobs["job"].times) == [1_000] * TIMES

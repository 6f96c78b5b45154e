"""Who is next: ageing, what is reserved for, and that a pass looks at heads alone."""

from __future__ import annotations

import heapq
from random import Random

import pytest

from jobd.capacity.ledger import Host, Ledger
from jobd.core.commands import ReportEnded
from jobd.core.dispatch import picks
from jobd.core.entities import Run
from jobd.core.events import AttemptClaimed
from jobd.core.limits import Pace
from jobd.core.states import Kind
from tests.support.core import Bench, Open, queueing
from tests.support.packing import decreasing

MINUTE = 60_000


def ledger(cpus: float) -> Ledger:
    """A host of some cores, with memory for everything and no reserve."""
    made = Ledger(Host(cpus, 1 << 40, 0.0, 0))
    made.engines = dict.fromkeys(Kind)
    return made


def claim(bench: Bench, host: Ledger, pace: Pace) -> list[int]:
    claimed = []
    for run in picks(bench.state, host, bench.now, pace):
        bench.apply(AttemptClaimed(run.id, len(run.attempts or ()) + 1, bench.now.wall))
        claimed.append(run.id)
    return claimed


def end(bench: Bench, run: int) -> None:
    bench.do(ReportEnded(run, 1, 0, bench.now.wall))


def stream(pace: Pace, priority: int, minutes: int) -> int | None:
    """After how many minutes a run of priority 0 starts on a host of one, while one of `priority`
    is always waiting; None: not within so many."""
    bench, host = Bench(), ledger(1.0)
    bench.register("low")
    bench.register("high")
    low = bench.queue("low")
    bench.queue("high", priority=priority)
    for minute in range(minutes):
        bench.queue("high", priority=priority)
        (run,) = claim(bench, host, pace)
        if run == low.id:
            return minute
        end(bench, run)
        bench.later(MINUTE)
    return None


def test_waiting_lifts_a_priority_so_that_nothing_starves() -> None:
    assert stream(Pace(age_after=10 * MINUTE), 3, 60) == 40
    assert stream(Pace(age_after=None), 3, 60) is None


def test_each_step_of_waiting_is_one_priority_more() -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register("low")
    bench.register("high")
    bench.queue("low")
    pace = Pace(age_after=10 * MINUTE)
    bench.later(20 * MINUTE)
    bench.queue("high", priority=3)
    assert claim(bench, host, pace) == [2], "two more are not three more"
    end(bench, 2)
    bench.later(10 * MINUTE)
    bench.queue("high", priority=2)
    assert claim(bench, host, pace) == [1]


def test_what_is_put_off_ages_from_its_date_on() -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register("low")
    bench.register("high")
    bench.queue("low", not_before=bench.now.wall + 60 * MINUTE)
    bench.later(60 * MINUTE)
    bench.queue("high", priority=1)
    assert claim(bench, host, Pace(age_after=10 * MINUTE)) == [2]


@pytest.mark.parametrize("minutes", [1, 5])
def test_small_ones_pass_a_big_one_for_as_long_as_is_set(minutes: int) -> None:
    bench, host = Bench(), ledger(2.0)
    pace = Pace(reserve_after=minutes * MINUTE)
    bench.register("big", resources={"cpus": 2})
    bench.register("small", resources={"cpus": 1})
    small = bench.queue("small").id
    assert claim(bench, host, pace) == [small]
    big = bench.queue("big").id
    passed = 0
    while True:
        following = bench.queue("small").id
        claimed = claim(bench, host, pace)
        if claimed != [following]:
            break
        passed += 1
        end(bench, small)
        small = following
        bench.later(MINUTE // 2)
    assert passed == 2 * minutes
    assert claimed == []
    assert bench.timers.wait_ms(bench.now, bench.state.look_at) is None, "nothing to wait for"
    end(bench, small)
    assert claim(bench, host, pace) == [big]


def test_a_pass_looks_at_heads_alone() -> None:
    bench = Bench()
    for name in ("a", "b"):
        bench.register(name, limits={"concurrency": 1})
        bench.do(queueing(*[b""] * 20_000, job=name))
    asked = 0
    get = bench.state.runs.get

    def counted(run: int) -> Run | None:
        nonlocal asked
        asked += 1
        return get(run)

    class Counted:
        get = staticmethod(counted)

    bench.state.ready._runs = Counted()
    assert [run.id for run in _claimed(bench)] == [1, 20_001]
    assert asked < 20


def _claimed(bench: Bench) -> list[Run]:
    found = []
    for run in picks(bench.state, Open(), bench.now):
        bench.apply(AttemptClaimed(run.id, 1, bench.now.wall))
        found.append(run)
    return found


# -- of what was queued at once, the largest first -----------------------------------------------


def makespan(runs: list[tuple[int, int]], memory: int, jobs: int) -> int:
    """Milliseconds until the runs, of so many GiB and milliseconds each, are all over."""
    bench, host = Bench(), Ledger(Host(64.0, memory << 30, 0.0, 0))
    host.engines = dict.fromkeys(Kind)
    takes = {}
    for number, (size, ms) in enumerate(runs):
        name = f"j{number % jobs}-{size}"
        if name not in bench.state.jobs:
            bench.register(name, resources={"memory": f"{size}G", "cpus": 0.1})
        takes[bench.queue(name).id] = ms
    ends: list[tuple[int, int]] = []
    began = bench.now.mono
    while True:
        for run in claim(bench, host, Pace()):
            heapq.heappush(ends, (bench.now.mono + takes[run], run))
        if not ends:
            return bench.now.mono - began
        at, run = heapq.heappop(ends)
        bench.later(at - bench.now.mono)
        end(bench, run)


@pytest.mark.parametrize("jobs", [1, 40])
@pytest.mark.parametrize("longest", [4_000, 80_000])
def test_nearly_as_soon_as_first_fit_decreasing(jobs: int, longest: int) -> None:
    """Also where runs take so long that room is kept for one that waits."""
    for seed in range(10):
        rng = Random(seed)
        runs = [(rng.randint(1, 6), rng.randint(longest // 4, longest)) for _ in range(40)]
        assert makespan(runs, 12, jobs) <= 1.15 * decreasing(runs, 12), seed


@pytest.mark.parametrize(("apart", "first"), [(0, "large"), (2_000, "small")])
def test_who_came_before_is_not_passed_for_size(apart: int, first: str) -> None:
    bench = Bench()
    bench.register("small", resources={"memory": "1G"})
    bench.register("large", resources={"memory": "4G"})
    bench.queue("small")
    bench.later(apart)
    bench.queue("large")
    assert bench.run(claim(bench, ledger(1.0), Pace())[0]).job.name == first


def test_a_flood_of_large_ones_shuts_nobody_out() -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register("large", resources={"memory": "4G"})
    bench.register("small", resources={"memory": "1G"})
    for _ in range(150):
        bench.queue("large")
    small = bench.queue("small").id
    for _ in range(2):
        (run,) = claim(bench, host, Pace())
        if run == small:
            return
        end(bench, run)
    raise AssertionError("it has no turn")

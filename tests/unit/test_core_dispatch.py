"""Which waiting runs start now, in which order, and why the others do not."""

from __future__ import annotations

import pytest

from jobd.capacity.ledger import Host, Ledger
from jobd.core.commands import (
    CancelRun,
    HoldRun,
    PauseJob,
    RegisterJob,
    ReleaseRun,
    ReportEnded,
    ReportUnstarted,
    UnregisterJob,
)
from jobd.core.dispatch import picks
from jobd.core.limits import PLAIN
from jobd.core.model import Reason
from jobd.core.states import Kind
from jobd.core.status import reason
from tests.support.core import Bench, Open, problems

MIB = 1 << 20


def ledger(cpus: float = 4.0) -> Ledger:
    """A host of some cores, with memory for everything and no reserve."""
    made = Ledger(Host(cpus, 1 << 40, 0.0, 0))
    made.engines = dict.fromkeys(Kind)
    return made


def end(bench: Bench, run: int, exit_code: int = 0) -> None:
    attempts = bench.run(run).attempts
    assert attempts is not None
    bench.do(ReportEnded(run, len(attempts), exit_code, bench.now.wall))


def settle(bench: Bench, host: Ledger) -> list[int]:
    """Dispatch as the loop does: only where something may have changed."""
    return bench.claim(host) if bench.state.dirty else []


# -- order ---------------------------------------------------------------------------------


def test_priority_then_jobs_in_turn_then_age() -> None:
    bench = Bench()
    for name in "abc":
        bench.register(name)
    for name, priority in [("a", 0), ("a", 0), ("a", 0), ("b", 0), ("b", 5), ("c", 0), ("c", -5)]:
        bench.queue(name, priority=priority)
    assert bench.claim() == [5, 1, 4, 6, 2, 3, 7]


def test_jobs_take_turns_over_passes() -> None:
    bench, host = Bench(), ledger(1.0)
    for name in "ab":
        bench.register(name)
    for name in "aaabb":
        bench.queue(name)
    order = []
    for _ in range(5):
        claimed = settle(bench, host)
        order += claimed
        end(bench, claimed[0])
    assert order == [1, 4, 2, 5, 3], "one job with many does not shut out another"


def test_a_retried_run_stands_in_front() -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register(retry={"attempts": 2, "delay": "1s", "jitter": 0})
    for _ in range(3):
        bench.queue()
    assert settle(bench, host) == [1]
    end(bench, 1, 1)
    assert settle(bench, host) == [2]
    bench.later(1_000)
    end(bench, 2)
    assert settle(bench, host) == [1]
    end(bench, 1, 1)
    assert settle(bench, host) == [3]


@pytest.mark.parametrize("delay", ["0s", "1s"])
def test_a_retried_run_stands_in_front_after_a_restart_too(delay: str) -> None:
    bench = Bench()
    bench.register(retry={"attempts": 2, "delay": delay, "jitter": 0})
    bench.queue()
    bench.claim()
    for _ in range(3):
        bench.queue()
    end(bench, 1, 1)
    bench.restart()
    bench.later(1_000)
    assert settle(bench, ledger(1.0)) == [1]


def test_a_released_run_stands_in_front() -> None:
    bench = Bench()
    bench.register()
    for _ in range(3):
        bench.queue()
    bench.do(HoldRun(2))
    bench.do(ReleaseRun(2))
    assert bench.claim() == [2, 1, 3]
    assert list(problems(bench.state)) == []


def test_a_delayed_run_stands_behind_what_was_queued_before_it_was_due() -> None:
    bench = Bench()
    bench.register()
    bench.queue(not_before=bench.now.wall + 1_000)
    bench.queue()
    bench.later(1_000)
    bench.queue()
    assert bench.claim() == [2, 1, 3]


# -- why not -------------------------------------------------------------------------------


def test_where_all_is_closed_nothing_starts() -> None:
    bench, host = Bench(), ledger()
    bench.register()
    bench.queue()
    host.hold = Reason("engine", "not reached")
    assert bench.claim(host) == []
    assert reason(bench.run(1), bench.now, host.closed(Kind.CONTAINER)) == host.hold
    host.hold = None
    assert bench.claim(host) == [1]


def test_what_one_engine_keeps_back_holds_up_no_run_of_the_other() -> None:
    bench, host = Bench(), ledger()
    bench.register("boxed", resources={"cpus": 4.0})
    bench.do(RegisterJob({"name": "plain", "command": ["true"]}))
    bench.queue("boxed", priority=5)
    bench.queue("plain")
    bench.later(PLAIN.reserve_after + 1)
    away = host.engines[Kind.CONTAINER] = Reason("engine", "not reached")
    # it has waited longest, has the higher priority, and still nothing is kept free for it
    assert bench.claim(host) == [2]
    assert bench.state.jobs["boxed"].reason == away
    host.engines = {Kind.CONTAINER: None, Kind.PROCESS: Reason("engine", "no such user")}
    bench.do(ReportEnded(2, 1, 0, bench.now.wall))
    bench.queue("plain")
    assert bench.claim(host) == [1]


def test_a_paused_job_starts_nothing_and_others_go_on() -> None:
    bench = Bench()
    bench.register("a")
    bench.register("b")
    for name in "ab":
        bench.queue(name, priority=3)
        bench.queue(name)
    bench.do(PauseJob("a", True))
    assert settle(bench, ledger()) == [3, 4]
    told = bench.state.jobs["a"].reason
    assert told == ("paused", "job a is paused: jobctl resume a")
    assert reason(bench.run(1), bench.now, None) == told
    bench.do(PauseJob("a", False))
    assert settle(bench, ledger()) == [1, 2]
    assert bench.state.jobs["a"].reason is None


def test_no_more_at_once_than_the_job_says() -> None:
    bench, host = Bench(), ledger(64)
    bench.register(limits={"concurrency": 2})
    for priority in (0, 5, 0, 5):
        bench.queue(priority=priority)
    assert settle(bench, host) == [2, 4]
    assert bench.state.jobs["job"].reason == ("limits", "job job has 2 of 2 runs at once")
    end(bench, 4)
    assert settle(bench, host) == [1]
    bench.register(limits={"concurrency": 3})
    assert settle(bench, host) == [3], "the newest word of the job counts"


def test_a_pause_lasts_over_a_restart() -> None:
    bench = Bench()
    bench.register()
    bench.queue()
    bench.do(PauseJob("job", True))
    bench.restart()
    assert bench.claim() == []


def test_a_small_run_passes_one_that_does_not_fit() -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("big", resources={"cpus": 4})
    bench.register("small", resources={"cpus": 1})
    bench.queue("small")
    assert settle(bench, host) == [1]
    bench.queue("big")
    bench.queue("small")
    assert settle(bench, host) == [3]
    told = bench.state.jobs["big"].reason
    assert told is not None
    assert told.code == "capacity"
    assert told.text.startswith("needs 4 cpus: 3.00 of 4 free (1 reserved by 1 running")


def test_one_that_has_waited_long_is_not_passed_any_more() -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("big", resources={"cpus": 4})
    bench.register("small", resources={"cpus": 1})
    for name in ("small", "big", "small"):
        bench.queue(name)
        settle(bench, host)
    bench.later(PLAIN.reserve_after - 1)
    bench.queue("small")
    assert settle(bench, host) == [4]
    bench.later(1)
    bench.queue("small")
    assert settle(bench, host) == []
    told = bench.state.jobs["small"].reason
    assert told == (
        "capacity",
        "what is free is kept for run 2, which has waited longest",
    )
    for run in (1, 3, 4):
        end(bench, run)
    assert settle(bench, host) == [2]
    end(bench, 2)
    assert settle(bench, host) == [5]


def test_beside_one_that_is_waited_for_goes_what_does_not_take_of_it() -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("half", resources={"cpus": 2})
    bench.register("big", resources={"cpus": 3})
    bench.register("small", resources={"cpus": 1})
    bench.queue("half")
    assert settle(bench, host) == [1]
    bench.queue("big")
    bench.later(PLAIN.reserve_after)
    assert settle(bench, host) == []
    bench.queue("small")
    bench.queue("small")
    assert settle(bench, host) == []
    end(bench, 1)
    assert settle(bench, host) == [2, 3]


def test_what_can_never_start_keeps_nothing_from_the_others() -> None:
    # the case: queued on a host of eight cores, which comes up again with four
    bench, host = Bench(), ledger(4.0)
    bench.register("huge", resources={"cpus": 8})
    bench.register("small", resources={"cpus": 1})
    bench.queue("huge")
    bench.later(PLAIN.reserve_after)
    bench.queue("small")
    assert settle(bench, host) == [2]
    told = bench.state.jobs["huge"].reason
    assert told is not None
    assert "needs 8 cpus" in told.text


@pytest.mark.parametrize("jump", [-3_600_000, -30 * 86_400_000])
def test_a_clock_set_back_takes_nobodys_turn(jump: int) -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("big", resources={"cpus": 4})
    bench.register("small", resources={"cpus": 1})
    bench.queue("small")
    bench.later(1_000)
    bench.queue("big")
    assert settle(bench, host) == [1]
    bench.set_clock(jump)
    bench.later(PLAIN.reserve_after)
    bench.queue("small")
    assert settle(bench, host) == []


# -- when it is looked at again ------------------------------------------------------------


def test_when_nothing_has_changed_nothing_is_looked_at() -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register(resources={"cpus": 1})
    bench.queue()
    bench.queue()
    assert settle(bench, host) == [1]
    assert not bench.state.dirty
    bench.queue()
    assert not bench.state.dirty, "behind one that does not fit, another changes nothing"


@pytest.mark.parametrize("how", ["cancel", "hold", "expire"])
def test_when_the_one_that_does_not_fit_goes_away(how: str) -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("job", resources={"cpus": 4})
    bench.register("other", resources={"cpus": 1})
    bench.queue("other")
    bench.later(1_000)
    bench.queue("job", expires=PLAIN.reserve_after + 1)
    bench.register("job", resources={"cpus": 1})
    bench.queue("job")
    assert settle(bench, host) == [1]
    bench.later(PLAIN.reserve_after)
    bench.queue("other")
    assert settle(bench, host) == []
    if how == "cancel":
        bench.do(CancelRun(2))
    elif how == "hold":
        bench.do(HoldRun(2))
    else:
        bench.later(1)
    assert sorted(settle(bench, host)) == [3, 4]


def test_when_one_comes_in_front_of_the_one_that_does_not_fit() -> None:
    bench, host = Bench(), ledger(4.0)
    bench.register("job", resources={"cpus": 1}, retry={"attempts": 2, "delay": 0})
    bench.register("other", resources={"cpus": 2})
    bench.queue()
    bench.queue("other")
    assert sorted(settle(bench, host)) == [1, 2]
    bench.queue()
    bench.do(HoldRun(3))
    bench.register("job", resources={"cpus": 4})
    bench.queue()
    assert settle(bench, host) == []
    bench.do(ReleaseRun(3))
    assert settle(bench, host) == [3]


@pytest.mark.parametrize("how", ["end", "unstarted", "resume", "register"])
def test_what_may_let_a_run_start_is_noticed(how: str) -> None:
    bench, host = Bench(), ledger(1.0)
    bench.register(limits={"concurrency": 1})
    bench.queue()
    settle(bench, host)
    if how == "resume":
        bench.do(PauseJob("job", True))
        end(bench, 1)
    elif how == "register":
        host = ledger(4.0)
    bench.queue()
    assert settle(bench, host) == []
    match how:
        case "end":
            end(bench, 1)
        case "unstarted":
            bench.do(ReportUnstarted(1, 1, "the host"))
        case "resume":
            bench.do(PauseJob("job", False))
        case "register":
            bench.register(limits={"concurrency": 2})
    assert settle(bench, host) == [2]


def test_a_removed_jobs_runs_keep_to_their_own_limit() -> None:
    bench = Bench()
    job = bench.register(limits={"concurrency": 1})
    bench.queue()
    bench.do(CancelRun(1))
    bench.do(UnregisterJob("job"))
    bench.register("other")
    # as a damaged queue that was salvaged may have it
    bench.apply(bench.events[1]._replace(run=2))  # type: ignore[call-arg]
    job.active = 1
    assert bench.claim() == []
    job.active = 0
    assert bench.claim() == [2]


def test_a_pass_that_is_cut_short_can_be_taken_up_again() -> None:
    bench = Bench()
    bench.register("a")
    bench.register("b")
    for name in "aabb":
        bench.queue(name)
    assert next(picks(bench.state, Open(), bench.now)).id == 1
    assert bench.claim() == [1, 3, 2, 4]

"""What follows from failures: the breaker of a job, more memory, and the end of a run's time."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core.commands import (
    PauseJob,
    ReportEnded,
    ReportQuiet,
    ReportStarted,
    ReportUnstarted,
    SetJob,
    UnregisterJob,
)
from jobd.core.events import AttemptEnded, JobBreakerClosed, JobBreakerOpened
from jobd.core.model import Needs
from jobd.core.status import reason, status
from tests.support.core import Bench, dump, live, problems


def fragile(failures: int = 3, **more: Any) -> Bench:
    bench = Bench()
    bench.register(breaker={"failures": failures, "probe_after": "1m"}, **more)
    return bench


def attempt(bench: Bench, exit_code: int, **more: Any) -> int:
    """Queue a run, start it, and let it end so."""
    run = bench.queue()
    assert bench.claim() == [run.id]
    end(bench, run.id, exit_code, **more)
    return run.id


def end(bench: Bench, run: int, exit_code: int, **more: Any) -> None:
    number = len(bench.run(run).attempts or ())
    bench.do(ReportEnded(run, number, exit_code, bench.now.wall, **more))
    assert list(problems(bench.state)) == []


def opened(bench: Bench) -> list[JobBreakerOpened]:
    return [event for event in bench.events if isinstance(event, JobBreakerOpened)]


def why(bench: Bench, run: int) -> str:
    found = reason(bench.run(run), bench.now, None, bench.state)
    assert found is not None
    return f"{found.code}: {found.text}"


def test_so_many_failures_in_a_row_open_it() -> None:
    bench = fragile()
    for exit_code in (1, 1, 0, 1, 1):
        attempt(bench, exit_code)
    assert opened(bench) == []
    attempt(bench, 7)
    (event,) = opened(bench)
    assert (event.failures, event.until - event.at) == (3, 60_000)
    run = bench.queue()
    assert bench.claim() == []
    assert why(bench, run.id) == (
        "breaker: job job is held by its breaker: 3 attempts failed in a row, the last one of "
        "run 6: failed, exit status 7; one run is tried in 1m; jobctl resume job lets all go on"
    )
    assert bench.timers.wait_ms(bench.now, bench.state.look_at) == 60_000


def test_one_is_tried_and_its_success_lets_all_go_on() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    for _ in range(3):
        bench.queue()
    bench.later(59_999)
    assert bench.claim() == []
    bench.later(1)
    assert bench.claim() == [2]
    assert "one run is being tried" in why(bench, 3)
    end(bench, 2, 0)
    assert isinstance(bench.events[-1], JobBreakerClosed)
    assert bench.claim() == [3, 4]


def test_each_probe_that_fails_doubles_the_wait_up_to_a_bound() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    waits = []
    for _ in range(7):
        event = opened(bench)[-1]
        waits.append(event.until - event.at)
        bench.later(waits[-1])
        attempt(bench, 1)
    assert waits == [60_000 * n for n in (1, 2, 4, 8, 16, 16, 16)]


def test_who_was_on_the_way_is_no_probe() -> None:
    bench = fragile(2)
    runs = [bench.queue().id for _ in range(4)]
    assert bench.claim() == runs
    for run in runs:
        bench.later(1)
        end(bench, run, 1)
    assert len(opened(bench)) == 1


def test_the_hosts_fault_and_a_cancelled_run_count_for_nothing() -> None:
    bench = fragile(2)
    attempt(bench, 1)
    run = bench.queue()
    assert bench.claim() == [run.id]
    bench.do(ReportUnstarted(run.id, 1, "the engine is gone"))
    assert opened(bench) == []
    bench.later(1_000)
    assert bench.claim() == [run.id]
    end(bench, run.id, 1)
    assert len(opened(bench)) == 1


def test_a_person_resumes_it() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    bench.queue()
    assert bench.do(PauseJob("job", False)).answer is True
    assert bench.claim() == [2]
    assert bench.do(PauseJob("job", False)).answer is False


def test_it_holds_over_a_restart_and_a_clock_that_is_set() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    bench.queue()
    bench.restart()
    assert dump(bench.state) == dump(live(bench.events))
    assert bench.claim() == []
    bench.set_clock(-3_600_000)
    assert bench.claim() == []
    assert "one run is tried in 1m;" in why(bench, 2)


def test_without_the_setting_it_is_no_more() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    bench.do(SetJob("job", {"breaker.failures": None}))
    bench.queue()
    assert bench.claim() == [2]


def test_a_job_that_is_gone_has_none() -> None:
    bench = fragile(1)
    attempt(bench, 1)
    bench.do(UnregisterJob("job"))
    assert list(problems(bench.state)) == []


# -- memory ------------------------------------------------------------------------------------


def test_what_ran_out_of_memory_gets_more_up_to_a_bound() -> None:
    bench = Bench()
    retry = {"attempts": 5, "delay": 0, "memory_step": "100M", "memory_max": "250M"}
    bench.register(resources={"memory": "100M"}, retry=retry)
    run = bench.queue()
    had = []
    for _ in range(4):
        assert bench.claim() == [1]
        had.append(run.memory >> 20)
        assert bench.state.reserved_memory == run.memory
        end(bench, 1, 137, oom=True)
        bench.restart()
        run = bench.run(1)
    assert had == [100, 200, 250, 250]
    assert run.needs == Needs(1.0, 250 << 20)
    assert bench.state.reserved_memory == 0


def test_another_failure_gets_no_more() -> None:
    bench = Bench()
    retry = {"attempts": 2, "delay": 0, "memory_step": "100M", "memory_max": "250M"}
    bench.register(resources={"memory": "100M"}, retry=retry)
    bench.queue()
    bench.claim()
    end(bench, 1, 1)
    assert bench.run(1).memory == 100 << 20


# -- a run's total time ------------------------------------------------------------------------


def timed(**more: Any) -> Bench:
    bench = Bench()
    retry = {"attempts": 9, "delay": "10s", "factor": 1, "jitter": 0}
    bench.register(total_timeout="60s", timeout="40s", retry=retry, **more)
    bench.queue()
    bench.claim()
    bench.do(ReportStarted(1, 1, "e", "i", bench.now.wall))
    return bench


def test_the_total_time_cuts_an_attempt_short() -> None:
    bench = timed()
    bench.later(30_000)
    end(bench, 1, 1)
    bench.later(10_000)
    bench.claim()
    bench.do(ReportStarted(1, 2, "e", "i", bench.now.wall))
    bench.later(19_999)
    assert status(bench.run(1)) == "running"
    bench.later(1)
    assert status(bench.run(1)) == "stopping"
    end(bench, 1, 143)
    assert status(bench.run(1)) == "timed-out"
    note = bench.run(1).note
    assert note is not None
    assert note.text == "attempt 2 ran out of time; its total time (1m) leaves none for another"


def test_no_attempt_follows_when_its_wait_would_use_up_the_time() -> None:
    bench = timed(stop_grace="1s")
    bench.later(40_000)
    bench.later(12_000)
    end(bench, 1, 143)
    assert status(bench.run(1)) == "timed-out"
    assert type(bench.events[-2]) is AttemptEnded


@pytest.mark.parametrize("restart", [False, True])
def test_the_time_is_over_while_it_waits(restart: bool) -> None:
    bench = timed()
    end(bench, 1, 1)
    bench.later(10_000)
    if restart:
        bench.restart()
    bench.later(49_999)
    assert status(bench.run(1)) == "queued"
    bench.later(1)
    assert status(bench.run(1)) == "timed-out"
    note = bench.run(1).note
    assert note is not None
    assert note.text == "its total time (1m) was over before attempt 2"


# -- without output ----------------------------------------------------------------------------


def test_one_without_output_is_told_to_stop_and_may_be_tried_again() -> None:
    bench = Bench()
    bench.register(idle_timeout="1m", retry={"attempts": 2, "delay": 0})
    bench.queue()
    bench.claim()
    assert bench.do(ReportQuiet(1, 1)).events == [], "it has not started"
    bench.do(ReportStarted(1, 1, "e", "i", bench.now.wall))
    bench.do(ReportQuiet(1, 1))
    assert status(bench.run(1)) == "stopping"
    assert why(bench, 1) == ("timed-out: was told to stop: gave no output for 1m (idle_timeout)")
    assert bench.do(ReportQuiet(1, 1)).events == [], "it was told so already"
    end(bench, 1, 143)
    assert bench.claim() == [1]
    assert bench.do(ReportQuiet(1, 1)).events == [], "that attempt is over"
    assert dump(bench.state) == dump(live(bench.events))

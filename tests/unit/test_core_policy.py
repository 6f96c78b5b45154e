"""What the rules make of an attempt's end: how it ended, and what becomes of its run."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    Body,
    CancelRun,
    ReleaseRun,
    ReportEnded,
    ReportLost,
    ReportRefused,
    ReportStarted,
    ReportUnstarted,
)
from jobd.core.entities import Run
from jobd.core.policy import HOST_DELAY, HOST_MAX_DELAY
from jobd.core.states import AttemptState, RunState
from jobd.core.status import dead, status
from tests.support.core import Bench, problems


def running(bench: Bench, **retry: Any) -> Run:
    """A run whose first attempt runs since five seconds."""
    bench.register(retry=retry)
    run = bench.queue()
    start(bench, run)
    return run


def start(bench: Bench, run: Run) -> None:
    """Claim and start the next attempt of a run that is ready."""
    assert run.id in bench.claim()
    number = len(run.attempts or ())
    bench.do(ReportStarted(run.id, number, "engine", "image", bench.now.wall))
    bench.later(5_000)


def end(bench: Bench, run: Run, exit_code: int = 1, **more: Any) -> list[e.Event]:
    """Report the end of its newest attempt; the events of that."""
    assert run.attempt is not None
    more.setdefault("at", bench.now.wall)
    events = bench.do(ReportEnded(run.id, run.attempt.number, exit_code, **more)).events
    assert list(problems(bench.state)) == []
    return events


def last_outcome(run: Run) -> str:
    assert run.attempt is not None
    assert run.attempt.end is not None
    return run.attempt.end.outcome


# -- how an attempt ended ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "oom", "host_fault", "outcome"),
    [
        (0, False, False, "succeeded"),
        (0, True, False, "succeeded"),  # only a child was killed
        (1, False, False, "failed"),
        (137, True, False, "oom-killed"),
        (137, False, False, "failed"),
        (137, False, True, "interrupted"),
        (0, False, True, "interrupted"),
    ],
)
def test_an_end_that_nobody_asked_for(
    exit_code: int, oom: bool, host_fault: bool, outcome: str
) -> None:
    bench = Bench()
    run = running(bench)
    events = end(bench, run, exit_code, oom=oom, host_fault=host_fault, error="what it said")
    assert isinstance(events[0], e.AttemptEnded)
    assert events[0].outcome == outcome
    assert events[0].oom_hint is oom
    assert events[0].charged is (outcome != "interrupted")
    assert events[0].error == ("what it said" if outcome == "interrupted" else None)


@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_told_to_stop_it_ended_as_that_says(exit_code: int) -> None:
    bench = Bench()
    run = running(bench)
    bench.do(CancelRun(run.id))
    end(bench, run, exit_code)
    assert (last_outcome(run), status(run)) == ("cancelled", "cancelled")
    assert isinstance(run.note, e.RunFinished)
    assert run.note.caller == [1000, "ann", 4711, ""], "who cancelled it"


@pytest.mark.parametrize(("exit_code", "word"), [(0, "succeeded"), (3, "failed")])
def test_one_that_had_ended_before_it_was_told(exit_code: int, word: str) -> None:
    bench = Bench()
    run = running(bench)
    ended_at = bench.now.wall
    bench.later(50)
    bench.do(CancelRun(run.id))
    end(bench, run, exit_code, at=ended_at)
    assert (last_outcome(run), status(run)) == (word, word)


def test_a_cancelled_run_is_not_tried_again_though_its_attempt_failed_by_itself() -> None:
    bench = Bench()
    run = running(bench, attempts=5)
    ended_at = bench.now.wall
    bench.later(50)
    bench.do(CancelRun(run.id))
    end(bench, run, 3, at=ended_at)
    assert (last_outcome(run), status(run)) == ("failed", "cancelled")
    assert isinstance(run.note, e.RunFinished)
    assert run.note.caller == [1000, "ann", 4711, ""]


@pytest.mark.parametrize("host_fault", [False, True])
def test_a_cancelled_run_is_not_held_either(host_fault: bool) -> None:
    bench = Bench()
    run = running(bench)
    at = bench.now.wall - 100
    bench.do(CancelRun(run.id))
    end(bench, run, 137, at=at, host_fault=host_fault)
    assert run.state is RunState.DONE
    assert (status(run) == "cancelled") is host_fault


def test_a_timeout_against_an_end_in_the_same_moment() -> None:
    for before, word in ((1, "succeeded"), (0, "timed-out"), (-1, "timed-out")):
        bench = Bench()
        run = running(bench)
        bench.later(3_600_000)
        assert run.attempt is not None
        assert run.attempt.stopping is not None
        end(bench, run, 0, at=run.attempt.stopping.at - before)
        assert last_outcome(run) == word


def test_cancelled_while_it_was_stopped_for_its_time() -> None:
    bench = Bench()
    run = running(bench, attempts=3)
    bench.later(3_600_000)
    stopped_at = bench.now.wall
    bench.later(1_000)
    bench.do(CancelRun(run.id))
    # it had followed the first word before the second was said
    end(bench, run, 143, at=stopped_at + 500)
    assert (last_outcome(run), status(run)) == ("cancelled", "cancelled")


def test_a_clock_set_back_does_not_make_a_stopped_attempt_one_that_failed() -> None:
    for retries in (1, 3):
        bench = Bench()
        run = running(bench, attempts=retries)
        bench.do(CancelRun(run.id))
        bench.set_clock(-3_600_000)
        bench.later(100)
        end(bench, run, 143)
        assert (last_outcome(run), status(run)) == ("cancelled", "cancelled")


# -- what becomes of the run ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "exit_code", "oom", "again"),
    [
        (["failed"], 1, False, True),
        (["failed"], 137, True, False),
        (["oom-killed"], 137, True, True),
        (["oom-killed"], 1, False, False),
        ([75], 75, False, True),
        ([75], 74, False, False),
        (["1-10"], 1, False, True),
        (["1-10"], 10, False, True),
        (["1-10"], 11, False, False),
        (["1-10", 75], 75, False, True),
        ([75], 75, True, False),  # it was killed for memory, whatever its status
        ([], 1, False, False),
    ],
)
def test_the_selectors_of_retry(on: list[Any], exit_code: int, oom: bool, again: bool) -> None:
    bench = Bench()
    run = running(bench, attempts=3, on=on)
    end(bench, run, exit_code, oom=oom)
    assert run.state is (RunState.WAITING if again else RunState.DONE)


@pytest.mark.parametrize("again", [True, False])
def test_a_timeout_is_tried_again_where_the_job_says_so(again: bool) -> None:
    bench = Bench()
    run = running(bench, attempts=2, on=["timed-out"] if again else ["failed"])
    bench.later(3_600_000)
    end(bench, run, 143)
    assert last_outcome(run) == "timed-out"
    assert run.state is (RunState.WAITING if again else RunState.DONE)


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_no_more_attempts_than_the_job_says(attempts: int) -> None:
    bench = Bench()
    run = running(bench, attempts=attempts, delay=0)
    for number in range(1, attempts + 1):
        assert run.attempt is not None
        assert run.attempt.number == number
        end(bench, run)
        if number < attempts:
            assert run.state is RunState.WAITING
            start(bench, run)
    assert run.state is RunState.DONE
    assert dead(run)
    assert run.charged == attempts
    assert isinstance(run.note, e.RunFinished)
    used_up = f"; all {attempts} attempts are used up" if attempts > 1 else ""
    assert run.note.text == f"attempt {attempts} failed with exit status 1{used_up}"
    assert run.note.code == "exit"


def test_what_could_not_be_started_by_its_own_fault_is_not_tried_again() -> None:
    bench = Bench()
    bench.register(retry={"attempts": 5})
    run = bench.queue()
    bench.claim()
    bench.do(ReportRefused(run.id, 1, "no such image", 125))
    assert status(run) == "failed"
    assert dead(run)
    assert run.note is not None
    assert run.note.text == "attempt 1 could not be started: no such image"
    assert list(problems(bench.state)) == []


@pytest.mark.parametrize(
    ("policy", "attempts", "state"),
    [
        ("retry", 5, RunState.WAITING),
        ("hold", 5, RunState.HELD),
        ("dead", 5, RunState.DONE),
        ("retry", 1, RunState.WAITING),  # not charged, so one attempt is left
        (None, 1, RunState.HELD),
        (None, 2, RunState.WAITING),
    ],
)
def test_an_interrupted_attempt(policy: str | None, attempts: int, state: RunState) -> None:
    bench = Bench()
    more = {} if policy is None else {"interrupted": policy}
    run = running(bench, attempts=attempts, **more)
    end(bench, run, 137, host_fault=True, error="the engine went away")
    assert last_outcome(run) == "interrupted"
    assert run.state is state
    assert run.charged == 0
    if state is RunState.HELD:
        assert run.note is not None
        assert run.note.code == "interrupted"
        assert "may have done part of its work" in run.note.text
    if state is RunState.DONE:
        assert (status(run), dead(run)) == ("lost", True)


@pytest.mark.parametrize(
    ("policy", "on", "attempts", "state"),
    [
        ("retry", ["failed"], 2, RunState.WAITING),
        ("retry", ["failed"], 1, RunState.DONE),  # a lost attempt is charged
        ("hold", ["failed"], 2, RunState.HELD),
        ("hold", ["lost"], 2, RunState.WAITING),
        ("dead", ["failed"], 2, RunState.DONE),
        ("dead", ["lost"], 2, RunState.WAITING),
        ("dead", ["lost"], 1, RunState.DONE),
    ],
)
def test_a_lost_attempt(policy: str, on: list[str], attempts: int, state: RunState) -> None:
    bench = Bench()
    run = running(bench, attempts=attempts, interrupted=policy, on=on)
    bench.do(ReportLost(run.id, 1, "its container is gone"))
    assert last_outcome(run) == "lost"
    assert run.state is state
    assert run.charged == 1
    assert list(problems(bench.state)) == []
    if state is RunState.DONE:
        assert (status(run), dead(run)) == ("lost", True)
    if state is RunState.HELD:
        assert run.note is not None
        assert run.note.code == "lost"
        bench.do(ReleaseRun(run.id))
        start(bench, run)
        end(bench, run, 0)
        assert status(run) == "succeeded"


@pytest.mark.parametrize("policy", ["retry", "hold", "dead"])
def test_what_had_not_started_may_always_start_again(policy: str) -> None:
    bench = Bench()
    bench.register(retry={"interrupted": policy})
    run = bench.queue()
    bench.claim()
    bench.do(ReportUnstarted(run.id, 1, "the host went down"))
    assert (run.state, run.charged) == (RunState.WAITING, 0)
    assert run.due == bench.now.wall + HOST_DELAY


@pytest.mark.parametrize("report", [ReportUnstarted, ReportRefused, ReportLost])
def test_told_to_stop_before_it_began(report: Any) -> None:
    bench = Bench()
    bench.register(retry={"attempts": 3})
    run = bench.queue()
    bench.claim()
    bench.do(CancelRun(run.id))
    bench.do(report(run.id, 1, "was told to stop"))
    assert (last_outcome(run), status(run)) == ("cancelled", "cancelled")
    assert list(problems(bench.state)) == []


def test_the_waits_after_the_hosts_faults_grow_and_are_not_charged() -> None:
    bench = Bench()
    run = running(bench, interrupted="retry")
    waits = []
    for _ in range(12):
        end(bench, run, 137, host_fault=True)
        assert run.due is not None
        waits.append(run.due - bench.now.wall)
        bench.later(waits[-1])
        start(bench, run)
    assert waits[:3] == [HOST_DELAY, 2 * HOST_DELAY, 4 * HOST_DELAY]
    assert max(waits) == waits[-1] == HOST_MAX_DELAY
    end(bench, run, 0)
    assert status(run) == "succeeded"


def test_the_waits_begin_anew_after_an_end_of_its_own() -> None:
    bench = Bench()
    run = running(bench, attempts=9, interrupted="retry", delay=0)
    for fault in (True, True, False, True):
        end(bench, run, 137, host_fault=fault)
        assert run.due is None or run.due > bench.now.wall
        wait = 0 if run.due is None else run.due - bench.now.wall
        if fault:
            last = wait
        bench.later(wait)
        start(bench, run)
    assert last == HOST_DELAY


def test_what_an_end_records() -> None:
    bench = Bench()
    run = running(bench)
    at = bench.now.wall - 20
    end(
        bench, run, 0, at=at, cpu_seconds=1.5, memory_peak=1 << 20, memory_peak_source="cgroup",
        log_bytes=77, log_truncated=True, log_tail=b"last words", result=b"result",
    )  # fmt: skip
    assert run.attempt is not None
    kept = run.attempt.end
    assert kept == e.AttemptEnded(
        run.id, 1, bench.now.wall, "succeeded", True, 0, None, at, False, 1.5, 1 << 20, "cgroup",
        77, True, 6, b"",
    )  # fmt: skip
    written = bench.events[-2]
    assert isinstance(written, e.AttemptEnded)
    assert (written.result, written.log_tail) == (b"result", b"last words")
    assert run.attempt.state is AttemptState.ENDED


def test_a_large_result_is_a_body() -> None:
    bench = Bench()
    run = running(bench)
    end(bench, run, 0, result=Body("name", 5000, 7))
    assert run.attempt is not None
    assert run.attempt.end is not None
    assert run.attempt.end.result == ["name", 5000, 7]

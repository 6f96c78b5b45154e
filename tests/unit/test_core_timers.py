"""What comes due: waits and time-outs by the clock that never goes back, dates by the wall's."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import CancelRun, HoldRun, ReleaseRun, ReportEnded, ReportStarted
from jobd.core.effects import SignalAttempt
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.core.timers import KILL_AGAIN
from tests.support.core import START, Bench, problems

HOUR, DAY = 3_600_000, 86_400_000
#: what may happen to a wall's clock; the last one: a host without a battery starts in 1970
JUMPS = [-30 * DAY, -DAY, -HOUR, -1, 1, HOUR, DAY, 30 * DAY, -START.wall]

jumps = pytest.mark.parametrize("jump", JUMPS)


def running(bench: Bench, **settings: Any) -> Run:
    bench.register(**settings)
    run = bench.queue()
    bench.claim()
    bench.do(ReportStarted(run.id, 1, "engine", "image", bench.now.wall))
    return run


def retrying(bench: Bench) -> Run:
    """A run that waits ten seconds for its second attempt."""
    run = running(bench, retry={"attempts": 3, "delay": "10s", "jitter": 0})
    bench.do(ReportEnded(run.id, 1, 1, bench.now.wall))
    assert status(run) == "retrying"
    return run


@jumps
def test_a_backoff_does_not_notice_that_the_clock_is_set(jump: int) -> None:
    bench = Bench()
    run = retrying(bench)
    bench.later(4_000)
    bench.set_clock(jump)
    bench.later(5_999)
    assert (status(run), bench.claim()) == ("retrying", [])
    bench.later(1)
    assert bench.claim() == [run.id]
    assert list(problems(bench.state)) == []


@jumps
def test_a_timeout_does_not_notice_that_the_clock_is_set(jump: int) -> None:
    bench = Bench()
    run = running(bench, timeout="1h", stop_grace="30s")
    bench.later(1_000)
    bench.set_clock(jump)
    assert bench.later(HOUR - 1_001) == []
    events = bench.later(1)
    assert [type(event) for event in events] == [e.AttemptStopping]
    # and neither does the grace
    bench.set_clock(jump if jump > 0 else -jump)
    bench.later(29_999)
    assert bench.effects[-1] == SignalAttempt(run.id, 1, "SIGTERM")
    bench.later(1)
    assert bench.effects[-1] == SignalAttempt(run.id, 1, "SIGKILL")


@jumps
def test_a_date_is_one_of_the_wall(jump: int) -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(not_before=START.wall + 60_000, expires=60_000)
    bench.set_clock(jump)
    bench.later(0)
    if jump < 60_000:
        assert status(run) == "delayed"
        bench.later(60_000 - jump - 1)
        assert (status(run), bench.claim()) == ("delayed", [])
        bench.later(1)
        assert status(run) == "queued"
        bench.later(60_000)
    assert status(run) == "expired"
    assert bench.claim() == []


@jumps
def test_what_is_due_stays_due_when_the_clock_is_set(jump: int) -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(not_before=START.wall + 1_000)
    bench.later(1_000)
    bench.set_clock(jump)
    bench.later(0)
    assert bench.claim() == [run.id]


@jumps
def test_after_a_restart_a_backoff_is_derived_anew_and_never_longer(jump: int) -> None:
    bench = Bench()
    retrying(bench)
    bench.later(4_000)
    bench.set_clock(jump)
    bench.restart()
    left = min(max(0, 6_000 - jump), 10_000)
    assert bench.timers.wait_ms(bench.now) == left
    if left:
        bench.later(left - 1)
        assert bench.claim() == []
        bench.later(1)
    else:
        bench.due()
    assert bench.claim() == [1]
    assert list(problems(bench.state)) == []


@jumps
def test_after_a_restart_a_timeout_is_derived_anew_and_never_longer(jump: int) -> None:
    bench = Bench()
    running(bench, timeout="1h")
    bench.later(1_000)
    bench.set_clock(jump)
    bench.restart()
    left = min(max(0, HOUR - 1_000 - jump), HOUR)
    assert bench.timers.wait_ms(bench.now) == left
    assert [type(event) for event in bench.later(left)] == [e.AttemptStopping]


def test_after_a_restart_a_grace_goes_on() -> None:
    bench = Bench()
    run = running(bench, stop_grace="30s")
    bench.do(CancelRun(run.id))
    bench.later(10_000)
    bench.restart()
    bench.effects.clear()
    bench.later(19_999)
    assert bench.effects == []
    bench.later(1)
    assert bench.effects == [SignalAttempt(run.id, 1, "SIGKILL")]


def test_after_a_restart_dates_are_kept() -> None:
    bench = Bench()
    bench.register()
    bench.queue(not_before=START.wall + 1_000)
    bench.queue(expires=500)
    bench.queue(not_before=START.wall + 5_000)
    bench.do(HoldRun(3))
    bench.restart()
    assert [type(event) for event in bench.later(600)] == [e.RunFinished]
    assert bench.claim() == []
    bench.later(400)
    assert bench.claim() == [1]
    bench.do(ReleaseRun(3))
    bench.later(4_000)
    assert bench.claim() == [3]


def test_what_came_due_while_the_daemon_was_down() -> None:
    bench = Bench()
    bench.register(expires="1m")
    bench.queue()
    bench.queue(not_before=START.wall + 1_000, expires=DAY)
    bench.now = Now(bench.now.wall + HOUR, bench.now.mono)
    bench.restart()
    bench.due()
    assert status(bench.run(1)) == "expired", "before dispatch could have taken it"
    assert bench.claim() == [2]


def test_a_stop_that_is_not_followed_is_repeated() -> None:
    bench = Bench()
    run = running(bench, stop_grace=0)
    bench.do(CancelRun(run.id))
    bench.effects.clear()
    kill = SignalAttempt(run.id, 1, "SIGKILL")
    bench.later(0)
    assert bench.effects == [kill]
    bench.later(KILL_AGAIN - 1)
    assert bench.effects == [kill]
    bench.later(1)
    assert bench.effects == [kill, kill]
    bench.do(ReportEnded(run.id, 1, 137, bench.now.wall))
    bench.later(10 * KILL_AGAIN)
    assert bench.effects.count(kill) == 2


def test_a_second_word_to_stop_does_not_put_off_the_kill() -> None:
    bench = Bench()
    run = running(bench, timeout="1m", stop_grace="30s")
    bench.later(60_000)
    bench.later(20_000)
    bench.do(CancelRun(run.id))
    bench.later(10_000)
    assert bench.effects[-1] == SignalAttempt(run.id, 1, "SIGKILL")
    bench.restart()
    bench.effects.clear()
    bench.due()
    assert bench.effects == [SignalAttempt(run.id, 1, "SIGKILL")], "nor does a restart"


def test_a_timer_of_an_attempt_that_is_over_says_nothing() -> None:
    bench = Bench()
    run = running(bench, timeout="1m", retry={"attempts": 2, "delay": 0})
    bench.later(59_000)
    bench.do(ReportEnded(run.id, 1, 1, bench.now.wall))
    bench.claim()
    bench.do(ReportStarted(run.id, 2, "engine", "image", bench.now.wall))
    assert bench.later(1_000) == [], "the first attempt's minute is not the second's"
    assert bench.later(58_999) == []
    assert [type(event) for event in bench.later(1)] == [e.AttemptStopping]


def test_what_has_started_once_does_not_expire() -> None:
    bench = Bench()
    bench.register(expires="1m", retry={"attempts": 2, "delay": "2m"})
    run = bench.queue()
    bench.claim()
    bench.do(ReportEnded(run.id, 1, 1, bench.now.wall))
    bench.later(DAY)
    assert run.state is RunState.WAITING
    bench.restart()
    bench.due()
    assert bench.claim() == [run.id]


@pytest.mark.parametrize("how", ["cancel", "forget"])
def test_a_timer_of_a_run_that_is_gone_says_nothing(how: str) -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(not_before=START.wall + 1_000, expires=500)
    bench.do(CancelRun(run.id))
    if how == "forget":
        bench.state.forget(run)
    assert bench.later(HOUR) == []


def test_a_run_whose_date_was_moved_waits_for_the_new_one() -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(not_before=START.wall + 1_000)
    run.due = START.wall + 5_000
    bench.later(1_000)
    assert status(run) == "delayed"
    assert list(problems(bench.state)) == []


def test_how_long_nothing_comes_due() -> None:
    bench = Bench()
    assert bench.timers.wait_ms(bench.now) is None
    bench.register()
    bench.queue(not_before=START.wall + 5_000)
    assert bench.timers.wait_ms(bench.now) == 5_000
    bench.queue(not_before=START.wall + 2_000)
    assert bench.timers.wait_ms(bench.now) == 2_000
    bench.now = Now(START.wall + 3_000, START.mono + 3_000)
    assert bench.timers.wait_ms(bench.now) == 0
    bench.due()
    assert bench.timers.wait_ms(bench.now) == 2_000


def test_a_run_that_is_not_there_arms_nothing() -> None:
    bench = Bench()
    bench.timers.arm(bench.state, e.RunReleased(9, 0), bench.now)
    assert bench.timers.wait_ms(bench.now) is None

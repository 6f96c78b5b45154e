"""The one word and the one sentence that people see for a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import CancelRun, PauseJob, ReportEnded, ReportStarted
from jobd.core.entities import Attempt
from jobd.core.model import Reason
from jobd.core.states import DEAD_OUTCOMES, FINAL, Outcome, Status
from jobd.core.status import dead, ended_text, exit_text, reason, status
from tests.support.core import Bench
from tests.support.situations import SITUATIONS

WORDS = {
    "waiting": "queued", "delayed": "delayed", "held": "held", "held_delayed": "held",
    "claimed": "starting", "running": "running", "stopping": "stopping", "ended": "stopping",
    "requeued": "retrying", "held_after_attempt": "held", "done": "failed",
    "cancelled": "cancelled",
}  # fmt: skip

REASONS = {
    "waiting": ("order", "its turn has not come yet"),
    "delayed": ("delayed", "due in 1m"),
    "held": ("held", "is held by ann: jobctl release 1"),
    "held_delayed": ("held", "is held by ann: jobctl release 1"),
    "claimed": None,
    "running": None,
    "stopping": ("cancelled", "was told to stop: cancelled"),
    "ended": None,
    "requeued": ("backoff", "attempt 2 in 5s: attempt 1 failed with exit status 1"),
    "held_after_attempt": ("held", "text"),
    "done": ("exit", "text"),
    "cancelled": ("cancelled", "was cancelled by ann"),
}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_the_word_and_the_sentence(situation: Callable[[Bench], Any]) -> None:
    bench = Bench()
    bench.register()
    run = situation(bench)
    assert status(run) == WORDS[situation.__name__]
    assert reason(run, bench.now, None) == REASONS[situation.__name__]
    assert dead(run) is (situation.__name__ == "done")


def test_what_keeps_every_run_comes_before_what_keeps_a_job_but_after_a_pause() -> None:
    bench = Bench()
    job = bench.register()
    run = bench.queue()
    host = Reason("engine", "is not reached")
    job.reason = Reason("capacity", "needs more")
    assert reason(run, bench.now, host) == host
    assert reason(run, bench.now, None) == job.reason
    bench.do(PauseJob("job", True))
    assert reason(run, bench.now, host) == ("paused", "job job is paused: jobctl resume job")


@pytest.mark.parametrize(("ms", "text"), [(1, "1s"), (1_000, "1s"), (61_001, "1m2s")])
def test_a_wait_is_told_in_whole_seconds(ms: int, text: str) -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(not_before=bench.now.wall + ms)
    assert reason(run, bench.now, None) == ("delayed", f"due in {text}")
    bench.set_clock(ms + 5_000)
    assert reason(run, bench.now, None) == ("delayed", "due in 0s")


@pytest.mark.parametrize("outcome", Outcome)
def test_what_is_dead(outcome: Outcome) -> None:
    bench = Bench()
    bench.register()
    run = bench.queue()
    bench.apply(e.RunFinished(run.id, 0, outcome, "code", "text"))
    assert dead(run) is (outcome in DEAD_OUTCOMES)
    if outcome is not Outcome.INTERRUPTED:  # an attempt's alone
        assert status(run) in FINAL


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (None, "has not ended"),
        ({"outcome": "succeeded"}, "succeeded"),
        ({"outcome": "failed", "exit_code": 3}, "failed with exit status 3"),
        ({"outcome": "failed", "exit_code": 139}, "failed with exit status 139 (signal 11)"),
        ({"outcome": "failed"}, "failed with no exit status"),
        ({"outcome": "failed", "error": "no such image"}, "could not be started: no such image"),
        ({"outcome": "timed-out"}, "ran out of time"),
        ({"outcome": "oom-killed"}, "was killed for want of memory"),
        ({"outcome": "cancelled"}, "was cancelled"),
        ({"outcome": "interrupted"}, "was interrupted: its host failed"),
        ({"outcome": "interrupted", "error": "reboot"}, "was interrupted: reboot"),
        ({"outcome": "lost"}, "was lost: its container is gone"),
        ({"outcome": "lost", "error": "removed"}, "was lost: removed"),
        ({"outcome": "expired"}, "ended: expired"),
    ],
)
def test_how_an_attempt_ended(end: dict[str, Any] | None, text: str) -> None:
    attempt = Attempt(1, 0)
    if end is not None:
        attempt.end = e.AttemptEnded(1, 1, 0, charged=True, **end)
    assert ended_text(attempt) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit status 0"),
        (128, "exit status 128"),
        (137, "exit status 137 (signal 9)"),
        (192, "exit status 192 (signal 64)"),
        (193, "exit status 193"),
        (255, "exit status 255"),
        (None, "no exit status"),
    ],
)
def test_an_exit_status_in_words(code: int | None, text: str) -> None:
    assert exit_text(code) == text


def test_the_runs_that_are_not_over_newest_first() -> None:
    bench = Bench()
    bench.register()
    for _ in range(3):
        bench.queue()
    bench.do(CancelRun(2))
    bench.claim()
    bench.do(ReportStarted(1, 1, "e", "i", 0))
    bench.do(ReportEnded(1, 1, 0, bench.now.wall))
    assert [run.id for run in bench.state.live_runs()] == [3]
    assert status(bench.run(1)) == Status.SUCCEEDED


def test_origins_are_shared_and_do_not_pile_up() -> None:
    bench = Bench()
    bench.register()
    for number in range(5_000):
        bench.apply(e.RunQueued(number + 1, 1, 1, 0, "cli", [number, "u", number, ""], b""))
    assert len(bench.state._origins) <= 4_096
    assert bench.run(1).origin == ("cli", 0, "u", 0, "")

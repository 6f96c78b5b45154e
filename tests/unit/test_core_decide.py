"""Each command of people: what follows from it, and each refusal, which changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    CancelRun,
    Command,
    HoldRun,
    PauseJob,
    RegisterJob,
    ReleaseRun,
    TimeOver,
    UnregisterJob,
)
from jobd.core.decide import decide
from jobd.core.effects import SignalAttempt
from jobd.core.policy import Rules
from jobd.core.spec import parse
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.errors import ConflictError, InvalidError, NotFoundError
from tests.support.core import (
    START,
    SYSTEM,
    Bench,
    problems,
    queueing,
    refused,
    replay,
)
from tests.support.situations import SITUATIONS, event_for, running

WHO = [1000, "ann", 4711, ""]
KEY = bytes(range(16))


@pytest.fixture
def bench() -> Bench:
    """A core with one job."""
    bench = Bench()
    bench.register(retry={"attempts": 3})
    return bench


# -- jobs ----------------------------------------------------------------------------------


def test_registering(bench: Bench) -> None:
    settings = {"name": "mail", "image": "mail:1", "env": {"A": "1"}}
    decision = bench.do(RegisterJob(settings))
    assert decision.answer == (1, True)
    job = bench.state.jobs["mail"]
    assert (job.id, job.spec, job.registered_at) == (2, parse(settings), START.wall)
    assert bench.do(RegisterJob(settings)).answer == (1, False), "the same again is no revision"
    assert bench.do(RegisterJob({**settings, "timeout": "5m"})).answer == (2, True)
    assert job.revisions[1].timeout == 3_600_000
    assert job.spec.timeout == 300_000
    assert job.rev == 2


def test_a_run_keeps_the_revision_that_was_current_when_it_was_queued(bench: Bench) -> None:
    run = bench.queue()
    bench.register(image="other", resources={"cpus": 2})
    assert run.revision == 1
    assert run.spec.image == "busybox"
    assert bench.queue().spec.image == "other"
    assert bench.claim() == [1, 2]
    assert bench.state.reserved_millicpus == 3000


def test_a_removed_name_goes_on_with_its_number_and_revisions(bench: Bench) -> None:
    run = bench.queue()
    bench.do(CancelRun(run.id))
    bench.do(PauseJob("job", True))
    assert bench.do(UnregisterJob("job")).answer == "job"
    assert "job" not in bench.state.jobs
    refused(bench, UnregisterJob("job"), NotFoundError, "^job job: no such job")
    refused(bench, queueing(), NotFoundError, "^job job: no such job")
    job = bench.register()
    assert (job.id, job.revision, job.paused) == (1, 2, False)
    assert run.spec.retry.attempts == 3


def test_a_job_with_live_runs_stays(bench: Bench) -> None:
    runs = [bench.queue(), bench.queue()]
    refused(bench, UnregisterJob("job"), ConflictError, "^job job: has 2 live runs")
    bench.do(CancelRun(runs[0].id))
    bench.do(HoldRun(runs[1].id))
    refused(bench, UnregisterJob("job"), ConflictError, "^job job: has 1 live run;")
    bench.do(ReleaseRun(runs[1].id))
    bench.claim()
    refused(bench, UnregisterJob("job"), ConflictError, "has 1 live run;")


@pytest.mark.parametrize(
    ("rules", "settings", "match"),
    [
        (Rules(networks=frozenset({"none"})), {}, "network 'bridge' is not allowed here"),
        (Rules(max_cpus=1), {"resources": {"cpus": 2}}, "resources.cpus 2: .* 1 at most"),
        (
            Rules(max_memory=1 << 29),
            {"resources": {"memory": "1G"}},
            "resources.memory 1G: .* 512M at most",
        ),
        (Rules(max_timeout=60_000), {}, "timeout 1h: 1m at most"),
        (Rules(max_attempts=2), {"retry": {"attempts": 3}}, "retry.attempts 3: 2 at most"),
    ],
)
def test_what_this_host_does_not_let_a_job_be(
    rules: Rules, settings: dict[str, Any], match: str
) -> None:
    spec = {"name": "job", "image": "busybox", **settings}
    refused(Bench(rules), RegisterJob(spec), InvalidError, f"^job job: .*{match}")
    # registered under other rules, it is not queued under these either
    bench = Bench()
    bench.do(RegisterJob(spec))
    bench.rules = rules
    refused(bench, queueing(), InvalidError, f"^job job: .*{match}")
    loose = Rules(max_cpus=2, max_memory=1 << 30, max_timeout=3_600_000, max_attempts=3)
    Bench(loose).do(RegisterJob(spec))


def test_a_job_that_cannot_be_read_is_refused(bench: Bench) -> None:
    refused(bench, RegisterJob({"name": "x", "image": "i", "cpus": 1}), InvalidError, "'cpus'")


def test_defaults_come_from_the_rules_and_are_written_down() -> None:
    bench = Bench(Rules(defaults={"timeout": "5m"}))
    assert bench.register().spec.timeout == 300_000
    assert replay(bench.events).jobs["job"].spec.timeout == 300_000


def test_pausing(bench: Bench) -> None:
    assert bench.do(PauseJob("job", True)).answer is True
    assert bench.do(PauseJob("job", True)).answer is False
    run = bench.queue()
    assert bench.claim() == []
    assert bench.do(PauseJob("job", False)).answer is True
    assert bench.do(PauseJob("job", False)).answer is False
    assert bench.claim() == [run.id]
    refused(bench, PauseJob("nope", True), NotFoundError, "^job nope: no such job")


# -- one run -------------------------------------------------------------------------------

FINISHES = {"waiting", "delayed", "held", "held_delayed", "requeued", "held_after_attempt"}
OVER = {"done", "cancelled"}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_cancelling(bench: Bench, situation: Callable[[Bench], Any]) -> None:
    run, name = situation(bench), situation.__name__
    if name == "ended":
        return  # only between two events of one decision
    if name in OVER:
        refused(bench, CancelRun(run.id), ConflictError, f"^run {run.id}: is over already: ")
        return
    decision = bench.do(CancelRun(run.id))
    assert list(problems(bench.state)) == []
    if name in FINISHES:
        assert status(run) == "cancelled"
        assert run.note == e.RunFinished(
            run.id, bench.now.wall, "cancelled", "cancelled", "was cancelled by ann", WHO
        )
        assert decision.effects == []
        assert run.id not in bench.claim()
    else:
        assert status(run) == "stopping"
        expected = [] if name == "stopping" else [SignalAttempt(run.id, 1, "SIGTERM")]
        assert decision.effects == expected
        assert bench.do(CancelRun(run.id)).events == [], "twice is once"


def test_a_stop_for_time_that_is_then_cancelled_sends_no_second_signal(bench: Bench) -> None:
    run = running(bench)
    bench.later(3_600_000)
    assert bench.effects == [SignalAttempt(run.id, 1, "SIGTERM")]
    decision = bench.do(CancelRun(run.id))
    assert [type(event) for event in decision.events] == [e.AttemptStopping]
    assert decision.effects == []
    assert run.attempt is not None
    assert run.attempt.stopping is not None
    assert run.attempt.stopping.why == "cancelled"


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_holding_and_releasing(bench: Bench, situation: Callable[[Bench], Any]) -> None:
    run, name = situation(bench), situation.__name__
    due, was = run.due, run.state
    if was is RunState.HELD:
        assert bench.do(HoldRun(run.id)).events == []
    elif was is RunState.WAITING:
        refused(bench, ReleaseRun(run.id), ConflictError, f"^run {run.id}: is .*, not held")
        bench.do(HoldRun(run.id))
        assert status(run) == "held"
        assert bench.claim() == []
    else:
        refused(bench, HoldRun(run.id), ConflictError, "only a waiting run can be held")
        refused(bench, ReleaseRun(run.id), ConflictError, "not held")
        return
    assert list(problems(bench.state)) == []
    bench.do(ReleaseRun(run.id))
    assert list(problems(bench.state)) == []
    assert (run.state, run.due, run.note) == (RunState.WAITING, due, None)
    assert bench.claim() == ([] if due else [run.id])
    if due:
        bench.later(due - bench.now.wall)
        assert bench.claim() == [run.id], name


def test_a_run_that_came_due_while_it_was_held(bench: Bench) -> None:
    run = bench.queue(not_before=bench.now.wall + 1_000)
    bench.do(HoldRun(run.id))
    bench.later(5_000)
    assert bench.claim() == []
    bench.do(ReleaseRun(run.id))
    bench.later(0)
    assert bench.claim() == [run.id]


@pytest.mark.parametrize("command", [CancelRun(9), HoldRun(9), ReleaseRun(9)])
def test_a_run_that_is_not_there(bench: Bench, command: Command) -> None:
    refused(bench, command, NotFoundError, "^run 9: no such run")


# -- time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("what", ["timeout", "grace", "expires"])
def test_time_is_over(bench: Bench, situation: Callable[[Bench], Any], what: str) -> None:
    run, name = situation(bench), situation.__name__
    decision = decide(bench.state, TimeOver(what, run.id, 1), bench.now, bench.rules, SYSTEM)
    if what == "timeout" and name == "running":
        assert decision.events == [e.AttemptStopping(run.id, 1, bench.now.wall, "timed-out")]
        assert decision.effects == [SignalAttempt(run.id, 1, "SIGTERM")]
    elif what == "grace" and name == "stopping":
        assert decision.events == []
        assert decision.effects == [SignalAttempt(run.id, 1, "SIGKILL")]
    elif what == "expires" and name in ("waiting", "delayed", "held", "held_delayed"):
        assert [type(event) for event in decision.events] == [e.RunFinished]
        bench.apply(*decision.events)
        assert status(run) == "expired"
        assert list(problems(bench.state)) == []
    else:
        assert (decision.events, decision.effects) == ([], [])


def test_time_that_is_over_for_an_earlier_attempt(bench: Bench) -> None:
    run = running(bench)
    bench.apply(event_for(bench, run.id, e.AttemptEnded), event_for(bench, run.id, e.RunRequeued))
    bench.later(5_000)
    assert bench.claim() == [run.id]
    bench.apply(event_for(bench, run.id, e.AttemptStarted))
    assert bench.do(TimeOver("timeout", run.id, 1)).events == []
    assert len(bench.do(TimeOver("timeout", run.id, 2)).events) == 1


def test_a_process_is_registered_where_processes_are_allowed() -> None:
    spec = {"name": "job", "command": ["true"], "user": "ann"}
    closed = Bench(Rules(no_processes="processes are off: [process] enabled = true"))
    refused(closed, RegisterJob(spec), InvalidError, "processes are off")
    refused(Bench(), RegisterJob(spec), InvalidError, "user .ann.: processes run as")
    bench = Bench(Rules(process_user="ann", networks=frozenset()))
    bench.do(RegisterJob(spec))
    assert bench.state.jobs["job"].spec.image is None

"""Every situation that a run can be in, made by commands and events; and an event of each class."""

from __future__ import annotations

from collections.abc import Callable

from jobd.core import events as e
from jobd.core.commands import CancelRun, HoldRun
from jobd.core.entities import Run
from tests.support.core import Bench

WHO = [0, "root", 1, ""]


def waiting(bench: Bench) -> Run:
    return bench.queue()


def delayed(bench: Bench) -> Run:
    return bench.queue(not_before=bench.now.wall + 60_000)


def held(bench: Bench) -> Run:
    run = bench.queue()
    bench.do(HoldRun(run.id))
    return run


def held_delayed(bench: Bench) -> Run:
    run = delayed(bench)
    bench.do(HoldRun(run.id))
    return run


def claimed(bench: Bench) -> Run:
    run = bench.queue()
    assert bench.claim() == [run.id]
    return run


def running(bench: Bench) -> Run:
    run = claimed(bench)
    bench.apply(event_for(bench, run.id, e.AttemptStarted))
    return run


def stopping(bench: Bench) -> Run:
    run = running(bench)
    bench.do(CancelRun(run.id))
    return run


def ended(bench: Bench) -> Run:
    run = running(bench)
    bench.apply(event_for(bench, run.id, e.AttemptEnded))
    return run


def requeued(bench: Bench) -> Run:
    run = ended(bench)
    bench.apply(event_for(bench, run.id, e.RunRequeued))
    return run


def held_after_attempt(bench: Bench) -> Run:
    run = ended(bench)
    bench.apply(event_for(bench, run.id, e.RunHeld))
    return run


def done(bench: Bench) -> Run:
    run = ended(bench)
    bench.apply(event_for(bench, run.id, e.RunFinished))
    return run


def cancelled(bench: Bench) -> Run:
    run = bench.queue()
    bench.do(CancelRun(run.id))
    return run


SITUATIONS: list[Callable[[Bench], Run]] = [
    waiting,
    delayed,
    held,
    held_delayed,
    claimed,
    running,
    stopping,
    ended,
    requeued,
    held_after_attempt,
    done,
    cancelled,
]

RUN_EVENTS = [cls for cls, kind in e.KIND_OF.items() if kind == e.RUN]
ATTEMPT_EVENTS = [e.AttemptStarted, e.AttemptStopping, e.AttemptEnded]


def event_for(bench: Bench, run: int, cls: type) -> e.Event:
    """An event of the class about the run; its attempt is the newest one (a claim: the next)."""
    found = bench.state.runs.get(run)
    number = len(found.attempts or ()) if found is not None else 0
    at = bench.now.wall
    events: dict[type, e.Event] = {
        e.RunQueued: e.RunQueued(run, 1, 1, at, "cli", WHO, b""),
        e.RunRequeued: e.RunRequeued(run, at, 5_000),
        e.RunFinished: e.RunFinished(run, at, "failed", "exit", "text"),
        e.RunHeld: e.RunHeld(run, at, "held", "text"),
        e.RunReleased: e.RunReleased(run, at),
        e.RunEdited: e.RunEdited(run, at, {"priority": 7}, WHO),
        e.RunMovedFirst: e.RunMovedFirst(run, at, WHO),
        e.DropSettled: e.DropSettled(run, at),
        e.AttemptClaimed: e.AttemptClaimed(run, number + 1, at),
        e.AttemptStarted: e.AttemptStarted(run, max(1, number), at, at, "engine", "image"),
        e.AttemptStopping: e.AttemptStopping(run, max(1, number), at, "cancelled"),
        e.AttemptEnded: e.AttemptEnded(run, max(1, number), at, "failed", True, 1),
    }
    return events[cls]

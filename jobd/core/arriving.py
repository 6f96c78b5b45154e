"""What follows from files that were dropped and paths that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import events as e
from jobd.core.arrivals import QueueDrop, SettleDrop, TakeChanges
from jobd.core.commands import Caller, QueueRun
from jobd.core.decision import NOTHING, Decision
from jobd.core.drops import with_drop
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.queueing import queue
from jobd.core.state import State
from jobd.core.states import RunState
from jobd.errors import DiskFailedError, JobdError, RefusedError


def _queue(state: State, command: QueueDrop, now: Now, rules: Rules, caller: Caller) -> Decision:
    """The answer is the run's id."""
    known = state.drops.find(command.drop.key)
    if known is not None:
        return Decision([], [], known)
    made = queue(state, command.run, now, rules, caller)
    events = [
        with_drop(event, command.drop) if type(event) is e.RunQueued else event
        for event in made.events
    ]
    return Decision(events, made.effects, made.answer[0][0][0])


def _settle(state: State, command: SettleDrop, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = state.runs.get(command.run)
    if run is None or run.state is not RunState.DONE or run.option("drop") is None:
        return NOTHING
    return Decision([e.DropSettled(run.id, now.wall)], [])


def _changed(
    state: State, command: TakeChanges, now: Now, rules: Rules, caller: Caller
) -> Decision:
    """The answer is how many runs were made. Raises RefusedError: to be asked again later."""
    watch = state.watches.get(command.job, command.name)
    job = state.jobs_by_id.get(command.job)
    if watch is None or job is None or job.removed:
        return Decision([], [], 0)
    made, refused, count = NOTHING, "", len(command.payloads)
    if command.payloads:
        run = QueueRun(
            job.name,
            command.payloads,
            "path",
            # as for a schedule: whoever registered the job has said that this is to be done
            Caller(*job.made[job.revision][1]),
            sources=[(command.name, None)] * count,
        )
        try:
            made = queue(state, run, now, rules, caller)
        except (RefusedError, DiskFailedError):
            raise
        except JobdError as error:
            refused, count = str(error)[:500], 0
    moved = e.WatchMoved(job.id, command.name, command.mark, now.wall, command.seen, count, refused)
    return Decision([*made.events, moved], made.effects, count)


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    QueueDrop: _queue,
    SettleDrop: _settle,
    TakeChanges: _changed,
}

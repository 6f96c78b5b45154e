"""What follows from people's changes to runs that are there, and to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jobd.core import events as e
from jobd.core.commands import (
    Caller,
    CancelJob,
    CancelRun,
    CancelRuns,
    DrainHost,
    EditRun,
    HoldRun,
    MoveRunFirst,
    ReleaseRun,
    SetGroups,
)
from jobd.core.decision import (
    NOTHING,
    Decision,
    caller_fields,
    check_due,
    check_priority,
    check_timeout,
    find_job,
    find_run,
    held_as,
)
from jobd.core.edits import cancelled_by
from jobd.core.effects import Effect, SignalAttempt
from jobd.core.entities import Job, Run
from jobd.core.groups import groups_mapping, read_groups
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.salvage import UNREADABLE
from jobd.core.state import State
from jobd.core.states import Outcome, RunState
from jobd.core.status import status
from jobd.errors import ConflictError, InvalidError

#: fewer runs than this are cancelled by a record each
_FEW = 4
_IDLE = (RunState.WAITING, RunState.HELD)
#: pairs of ids in one record
_RANGES = 10_000


def _cancel(state: State, command: CancelRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is RunState.DONE:
        raise ConflictError(f"run {run.id}: is over already: {status(run)}")
    if run.state is RunState.ACTIVE:
        return stop(run, now, "cancelled", caller_fields(caller))
    return Decision([_cancelled(run, now, caller_fields(caller))], [])


def _cancelled(run: Run, now: Now, who: list[Any]) -> e.RunFinished:
    text = cancelled_by(who)
    return e.RunFinished(run.id, now.wall, Outcome.CANCELLED, "cancelled", text, who)


def stop(run: Run, now: Now, why: str, who: list[Any] | None, text: str = "") -> Decision:
    """Tell the run's attempt to stop, if it has not been told so already."""
    attempt = run.attempt
    assert attempt is not None
    if attempt.stopping is not None and attempt.stopping.why in (why, "cancelled"):
        return NOTHING
    event = e.AttemptStopping(run.id, attempt.number, now.wall, why, who, text)
    if attempt.stopping is not None:
        return Decision([event], [])
    return Decision([event], [SignalAttempt(run.id, attempt.number, run.spec.stop_signal)])


def _cancel_many(
    state: State, command: CancelRuns, now: Now, rules: Rules, caller: Caller
) -> Decision:
    who = caller_fields(caller)
    events: list[e.Event] = []
    effects: list[Effect] = []
    idle: list[Run] = []
    for number in dict.fromkeys(command.runs):
        run = find_run(state, number)
        if run.state is RunState.ACTIVE:
            decision = stop(run, now, "cancelled", who)
            events += decision.events
            effects += decision.effects
        elif run.state is not RunState.DONE:
            idle.append(run)
    if len(idle) < _FEW:
        events += [_cancelled(run, now, who) for run in idle]
        return Decision(events, effects)
    for job, ranges in _ranges(state, idle).items():
        for start in range(0, len(ranges), _RANGES):
            part = ranges[start : start + _RANGES]
            events.append(e.JobRunsCancelled(job, part, now.wall, who))
    return Decision(events, effects)


def _ranges(state: State, runs: Iterable[Run]) -> dict[int, list[list[int]]]:
    """Job -> as few `[first, last]` as hold its runs among `runs`, and no other idle run of it.

    A long queue of one job is one range, also where the ids of other jobs lie between.
    """
    chosen: dict[Job, set[int]] = {}
    for run in runs:
        chosen.setdefault(run.job, set()).add(run.id)
    return {job.id: _ranges_of(state, job, ids) for job, ids in chosen.items()}


def _ranges_of(state: State, job: Job, chosen: set[int]) -> list[list[int]]:
    made: list[list[int]] = []
    open_ = False
    for number in job.runs.between(min(chosen), max(chosen)):
        run = state.runs.get(number)
        if run is None or run.state not in _IDLE:
            continue
        if number not in chosen:
            open_ = False
        elif open_:
            made[-1][1] = number
        else:
            made.append([number, number])
            open_ = True
    return made


def _cancel_job(
    state: State, command: CancelJob, now: Now, rules: Rules, caller: Caller
) -> Decision:
    job = find_job(state, command.job)
    who = caller_fields(caller)
    events: list[e.Event] = []
    effects: list[Effect] = []
    for run in state.active.values():
        if run.job is job:
            decision = stop(run, now, "cancelled", who)
            events += decision.events
            effects += decision.effects
    if job.waiting or job.held:
        events.append(e.JobRunsCancelled(job.id, [job.runs.span()], now.wall, who))
    return Decision(events, effects)


def _hold(state: State, command: HoldRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is RunState.HELD:
        return NOTHING
    if run.state is not RunState.WAITING:
        raise ConflictError(f"run {run.id}: is {status(run)}: only a waiting run can be held")
    text = f"is held by {caller.user}: jobctl release {run.id}"
    return Decision([e.RunHeld(run.id, now.wall, "held", text, caller_fields(caller))], [])


def _release(state: State, command: ReleaseRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is not RunState.HELD:
        raise ConflictError(f"run {run.id}: is {status(run)}, not held")
    if held_as(run) == UNREADABLE:
        raise ConflictError(
            f"run {run.id}: what it was to do could not be read after damage to the queue: it "
            f"cannot be released; jobctl cancel {run.id}, and queue it anew"
        )
    return Decision([e.RunReleased(run.id, now.wall, caller_fields(caller))], [])


def _move_first(
    state: State, command: MoveRunFirst, now: Now, rules: Rules, caller: Caller
) -> Decision:
    run = find_run(state, command.run)
    if run.state is not RunState.WAITING or run.due is not None or run.parents:
        hint = {
            "held": f": jobctl release {run.id}",
            "delayed": f": jobctl edit {run.id} --at now",
            "retrying": f": jobctl edit {run.id} --at now",
        }.get(str(status(run)), "")
        raise ConflictError(
            f"run {run.id}: is {status(run)}: only a queued run can be the next{hint}"
        )
    if state.ready.head(run.job, run.priority) is run:
        return NOTHING
    return Decision([e.RunMovedFirst(run.id, now.wall, caller_fields(caller))], [])


def _edit(state: State, command: EditRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    _check_edit(run, command, now, rules)
    changes: dict[str, Any] = {}
    if command.priority is not None and command.priority != run.priority:
        changes["priority"] = command.priority
    if command.not_before is not None:
        changes.update(_put_off(run, command.not_before, now))
    if command.timeout is not None and command.timeout != run.option("timeout"):
        changes["timeout"] = command.timeout
    kept = run.option("labels") or {}
    labels = {name: value for name, value in command.labels.items() if kept.get(name) != value}
    if labels:
        if len({**kept, **labels}) > 64:
            raise InvalidError(f"run {run.id}: labels: 64 at most")
        changes["labels"] = labels
    if not changes:
        return NOTHING
    return Decision([e.RunEdited(run.id, now.wall, changes, caller_fields(caller))], [])


def _check_edit(run: Run, command: EditRun, now: Now, rules: Rules) -> None:
    if run.state is RunState.DONE:
        raise ConflictError(f"run {run.id}: is over: {status(run)}; `jobctl retry` makes a new one")
    given = {
        "priority": command.priority,
        "at": command.not_before,
        "timeout": command.timeout,
    }
    late = next((name for name, value in given.items() if value is not None), None)
    if run.state is RunState.ACTIVE and late is not None:
        raise ConflictError(
            f"run {run.id}: is {status(run)}: its {late} can be changed while it waits; "
            "its labels can at any time"
        )
    if command.priority is not None:
        check_priority(command.priority)
    if command.timeout is not None:
        check_timeout(command.timeout, rules)
    if command.not_before is not None:
        check_due(command.not_before, now)


def _put_off(run: Run, not_before: int, now: Now) -> dict[str, Any]:
    """Another date; the time within which it has to start moves with it."""
    due = max(not_before, now.wall)
    changes = {"not_before": due}
    if run.expires_at is not None and not run.attempts:
        before = max(run.queued_at, run.option("not_before") or 0)
        changes["expires_at"] = run.expires_at - before + due
    return changes


def _drain(state: State, command: DrainHost, now: Now, rules: Rules, caller: Caller) -> Decision:
    if (state.host.drained_at is not None) == command.draining:
        return Decision([], [], False)
    event = e.HostDrainStarted if command.draining else e.HostDrainEnded
    return Decision([event(1, now.wall, caller_fields(caller))], [], True)


def _set_groups(
    state: State, command: SetGroups, now: Now, rules: Rules, caller: Caller
) -> Decision:
    groups = read_groups(command.groups)
    if groups == state.groups.limits():
        return NOTHING
    who = caller_fields(caller)
    return Decision([e.HostGroupsSet(1, now.wall, groups_mapping(groups), who)], [])


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    CancelRun: _cancel,
    CancelRuns: _cancel_many,
    CancelJob: _cancel_job,
    HoldRun: _hold,
    ReleaseRun: _release,
    MoveRunFirst: _move_first,
    EditRun: _edit,
    DrainHost: _drain,
    SetGroups: _set_groups,
}

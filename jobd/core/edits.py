"""What the events of people's changes to waiting runs and to the host do to the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from jobd.core import breaker, machine
from jobd.core import events as e
from jobd.core.entities import Job, Run
from jobd.core.groups import read_groups
from jobd.core.moves import Moves
from jobd.core.states import Outcome, RunState

#: the states that a cancel of many at once means
_IDLE = tuple(
    state for state in RunState if machine.RUN.get((state, e.JobRunsCancelled)) is RunState.DONE
)
#: options of runs that more follows from than the end itself
_LINKS = frozenset({"mutex", "after", "drop"})


def _runs_cancelled(state: Moves, event: e.JobRunsCancelled) -> None:
    job = state.job(event.job)
    # one note for all of them: that there are many is why this event is there
    note = e.RunFinished(0, event.at, Outcome.CANCELLED, "cancelled", cancelled_by(event.caller))
    note = note._replace(caller=event.caller)
    before = job.waiting - sum(job.parked.values())
    for first, last in event.ranges:
        for idle in _IDLE:
            for runs in state.runs.end_many(job, first, last, idle, event.at):
                _cancelled(state, job, runs, idle, note)
    ready = job.waiting - sum(job.parked.values())
    if ready * 2 < before:
        state.ready.clean(job)


def _cancelled(
    state: Moves, job: Job, runs: list[Run], idle: RunState, note: e.RunFinished
) -> None:
    """What `leave` and `finish` do, for many runs of a job at once: a million take 0.1 s."""
    done, few, mixed = RunState.DONE, [], False
    origin = runs[0].origin if runs else ()
    options: dict[str, Any] | None = None
    linked = False
    for run in runs:
        run.state = done
        run.note = note
        if run.options is not options:
            # those of one request share theirs
            options = run.options
            linked = options is not None and not _LINKS.isdisjoint(options)
        if linked:
            few.append(run)
        if run.origin is not origin:
            mixed = True
    users: dict[int | str, int] = {run.user: len(runs) for run in runs[:1]}
    if mixed:
        users = Counter([run.user for run in runs])
    waited = idle is RunState.WAITING
    if not waited or any(job.parked.values()):
        for run in runs:
            if run.due is not None or run.parents is not None:
                if waited:
                    state.lift(run)
                run.due = run.parents = None
    if waited:
        state.waiting -= len(runs)
        job.waiting -= len(runs)
        for user, number in users.items():
            state.count_user(user, -number)
        if job.reason is not None:
            state.dirty = True  # one of them may be what others had to wait behind
    else:
        state.held -= len(runs)
        job.held -= len(runs)
    state.finished.extend([run.id for run in runs])
    state.count_done(job, Outcome.CANCELLED, len(runs))
    if job.id in state.replaceable:
        for run in runs:
            state.replaceable[job.id].pop(run.id, None)
    for run in few:
        state.mutexes.leave(run)
        state.children.over(run)
        state.drops.ended(run)
    for run in few:
        state.let_go(run)
    if state.children:
        for run in runs:
            state.free_children(run, Outcome.CANCELLED)


def cancelled_by(caller: list[Any]) -> str:
    """The sentence that a run keeps which was cancelled before it ran."""
    return f"was cancelled by {caller[1]}"


def _edited(state: Moves, event: e.RunEdited) -> None:
    run = state.run(event.run)
    machine.run_after(run.id, run.state, e.RunEdited)
    changes = dict(event.changes)
    if "not_before" in changes and run.state is RunState.ACTIVE:
        raise machine.TransitionError(f"run {run.id}: is active and cannot be put off")
    waits = run.state is RunState.WAITING
    ready = waits and run.due is None and not run.parents
    if waits:
        state.lift(run)
    priority = changes.pop("priority", None)
    # ready and not moved, it keeps its place
    moved = (priority is not None and priority != run.priority) or "not_before" in changes
    if priority is not None:
        run.priority = priority
    if "labels" in changes:
        state.runs.labelled(run.id)
        changes["labels"] = {**(run.option("labels") or {}), **changes["labels"]}
    if changes:
        # not changed in place: the runs of one request share theirs
        run.options = {**(run.options or {}), **changes}
    if "not_before" in changes:
        due = changes["not_before"]
        run.due = due if due > event.at else None
    if waits and (moved or not ready):
        state.mutexes.leave(run)
        state.settle(run)
        state.let_go(run)
    state.dirty = True


def _moved_first(state: Moves, event: e.RunMovedFirst) -> None:
    run = state.run(event.run)
    after = machine.run_after(run.id, run.state, e.RunMovedFirst)
    if run.parents:
        raise machine.TransitionError(f"run {run.id}: moved while it waits for parents")
    state.runs.move(run, after)
    # it was due: in a replay, where that is no event, it may still be put aside
    state.lift(run)
    run.due = None
    state.mutexes.leave(run)
    state.settle(run, front=True)


def _drain_started(state: Moves, event: e.HostDrainStarted) -> None:
    state.host.drained_at = event.at
    state.host.drained_by = event.caller[1]


def _drain_ended(state: Moves, event: e.HostDrainEnded) -> None:
    state.host.drained_at = None
    state.host.drained_by = ""
    state.dirty = True


def _groups_set(state: Moves, event: e.HostGroupsSet) -> None:
    state.groups.set(read_groups(event.groups))
    state.dirty = True


def _salvaged(state: Moves, event: e.HostSalvaged) -> None:
    state.host.salvaged_at = event.at
    state.next_run = max(state.next_run, event.next_run)
    state.next_job = max(state.next_job, event.next_job)


APPLIERS: dict[type[Any], Callable[[Moves, Any], None]] = {
    e.JobBreakerOpened: breaker.opened,
    e.JobBreakerClosed: breaker.closed,
    e.JobRunsCancelled: _runs_cancelled,
    e.RunEdited: _edited,
    e.RunMovedFirst: _moved_first,
    e.HostDrainStarted: _drain_started,
    e.HostDrainEnded: _drain_ended,
    e.HostGroupsSet: _groups_set,
    e.HostSalvaged: _salvaged,
}

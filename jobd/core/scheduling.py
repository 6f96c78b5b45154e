"""What follows when a schedule's time has come, and from changes to schedules."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from jobd.core import events as e
from jobd.core import schedule as one
from jobd.core.commands import (
    AddSchedule,
    Caller,
    FireSchedule,
    PauseSchedule,
    QueueRun,
    RemoveSchedule,
    ScheduleDue,
)
from jobd.core.decision import NOTHING, Decision, caller_fields, find_job
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.queueing import queue
from jobd.core.schedules import Schedule
from jobd.core.state import State
from jobd.cron.firing import Firing, between, missed
from jobd.errors import ConflictError, InvalidError, JobdError, NotFoundError, RefusedError

#: a firing that is no later than this is on time, whatever the catch-up says, in milliseconds
ON_TIME = 60_000
#: how many missed firings are counted; of more it is said that they are more
COUNTED = 1_000


def find_schedule(state: State, job: str, name: str) -> Schedule:
    """The schedule of that name. Raises NotFoundError."""
    found = state.schedules.get(find_job(state, job).id, name)
    if found is None:
        raise NotFoundError(
            f"schedule {job}/{name:.80}: no such schedule; `jobctl schedule ls` lists them"
        )
    return found


def _add(state: State, command: AddSchedule, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = find_job(state, command.job)
    given = dict(command.spec)
    spec = one.parse(given, "schedule", rules.timezone)
    if not given.get("name"):
        taken = {each.spec.name for each in state.schedules.of(job)}
        names = [spec.name, *(f"{spec.name}-{number}" for number in range(2, one.MOST + 2))]
        given["name"] = next(name for name in names if name not in taken)
        spec = one.parse(given, "schedule", rules.timezone)
    old = state.schedules.get(job.id, spec.name)
    if old is not None and old.from_file:
        raise ConflictError(
            f"schedule {job.name}/{spec.name}: stands in the job's definition: change it there"
        )
    if old is None and len(state.schedules.of(job)) >= one.MOST:
        raise RefusedError(f"job {job.name}: has {one.MOST} schedules, and no more are taken")
    if spec.at is not None and spec.at <= now.wall:
        raise InvalidError(f"schedule.at: {command.spec['at']} is over: it would never fire")
    if spec.end is not None and spec.end <= now.wall:
        raise InvalidError(f"schedule.end: {command.spec['end']} is over: it would never fire")
    if old is not None and old.spec == spec:
        return Decision([], [], (spec.name, False))
    event = e.ScheduleAdded(
        job.id, spec.name, one.to_mapping(spec), now.wall, caller_fields(caller)
    )
    return Decision([event], [], (spec.name, True))


def _remove(
    state: State, command: RemoveSchedule, now: Now, rules: Rules, caller: Caller
) -> Decision:
    found = find_schedule(state, command.job, command.name)
    if found.from_file:
        raise ConflictError(
            f"schedule {command.job}/{command.name}: stands in the job's definition: take it out "
            "there, or pause it"
        )
    who = caller_fields(caller)
    return Decision([e.ScheduleRemoved(found.job.id, command.name, now.wall, who)], [], None)


def _pause(
    state: State, command: PauseSchedule, now: Now, rules: Rules, caller: Caller
) -> Decision:
    found = find_schedule(state, command.job, command.name)
    if found.paused == command.paused:
        return Decision([], [], False)
    event = e.SchedulePaused if command.paused else e.ScheduleResumed
    return Decision([event(found.job.id, command.name, now.wall, caller_fields(caller))], [], True)


def _fire(state: State, command: FireSchedule, now: Now, rules: Rules, caller: Caller) -> Decision:
    """By hand: a run now, as if it were time; the schedule stands where it stood."""
    found = find_schedule(state, command.job, command.name)
    firing = one.now(found.spec, now.wall)
    made = _queued(state, found, [firing], now, rules, caller)
    return Decision(made.events, made.effects, made.answer[0][0][0])


def _due(state: State, command: ScheduleDue, now: Now, rules: Rules, caller: Caller) -> Decision:
    found = state.schedules.get(command.job, command.name)
    if found is None or found.paused or found.job.removed:
        return NOTHING
    if command.mark is not None:
        return _made(state, found, [one.now(found.spec, now.wall)], 0, now, rules, command.mark)
    first = found.next
    if first is None or first.at <= found.cursor:
        return NOTHING
    until = now.wall - found.jitter
    following = found.following if found.ahead else found.after(first.at)
    if following is None or following.at > until:
        late = now.wall - found.jitter - first.at > ON_TIME
        if late and found.spec.catchup == "none":
            return _made(state, found, [], 1, now, rules, cursor=first.at)
        return _made(state, found, [first], 0, now, rules, cursor=first.at)
    return _catch_up(state, found, until, now, rules)


def _catch_up(state: State, found: Schedule, until: int, now: Now, rules: Rules) -> Decision:
    """Several have become due: jobd was down, or the clock went forward."""
    spec = found.spec
    assert found.timing is not None
    until = until if spec.end is None else min(until, spec.end)
    all_ = missed(found.timing, found.cursor, until, COUNTED)
    assert all_ is not None
    if spec.catchup == "none":
        start = max(found.cursor, until - ON_TIME)
        made = list(between(found.timing, start, until))[-1:]
    elif spec.catchup == "last":
        made = [all_.last]
    else:
        made = _latest(found, until, spec.catchup_most)
    if spec.catchup_window is not None:
        made = [firing for firing in made if firing.at > until - spec.catchup_window]
    if spec.times is not None:
        made = made[: spec.times - found.fired]
    return _made(state, found, made, all_.counted - len(made), now, rules, cursor=all_.last.at)


def _latest(found: Schedule, until: int, most: int) -> list[Firing]:
    """The last firings in (cursor, until], `most` at most, the earliest first."""
    assert found.timing is not None
    span = 1_000
    while True:
        start = max(found.cursor, until - span)
        firings = list(islice(between(found.timing, start, until), most * 8 + 1))
        if len(firings) > most * 8:
            # so dense that the span was too long by far: they are at its end
            span //= 3
            firings = list(between(found.timing, max(found.cursor, until - span), until))
            return firings[-most:]
        if len(firings) >= most or start == found.cursor:
            return firings[-most:]
        span *= 4


def _made(
    state: State,
    found: Schedule,
    firings: list[Firing],
    lost: int,
    now: Now,
    rules: Rules,
    mark: str = "",
    cursor: int | None = None,
) -> Decision:
    """The runs of these firings, and in the same batch where the schedule stands then."""
    uid, user, pid, principal = found.caller
    caller = Caller(uid, user, pid, principal)
    made, refused = NOTHING, ""
    if firings:
        try:
            made = _queued(state, found, firings, now, rules, caller)
        except RefusedError as error:
            if "disk" in error.details:
                raise
            refused = str(error)
        except JobdError as error:
            refused = str(error)
    runs = [event[0] for event in made.events if type(event) is e.RunQueued]
    fired = e.ScheduleFired(
        found.job.id,
        found.spec.name,
        found.cursor if cursor is None else cursor,
        now.wall,
        len(firings),
        lost,
        runs[-1] if runs else None,
        refused[:500],
        mark,
    )
    return Decision([*made.events, fired], made.effects, runs)


def _queued(
    state: State, found: Schedule, firings: list[Firing], now: Now, rules: Rules, caller: Caller
) -> Decision:
    command = QueueRun(
        found.job.name,
        [one.payload(found.spec, firing) for firing in firings],
        "schedule",
        caller,
        sources=[(found.spec.name, firing.at) for firing in firings],
        overlap=found.spec.overlap,
    )
    return queue(state, command, now, rules, caller)


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    AddSchedule: _add,
    RemoveSchedule: _remove,
    PauseSchedule: _pause,
    FireSchedule: _fire,
    ScheduleDue: _due,
}

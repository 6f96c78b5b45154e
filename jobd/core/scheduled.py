"""What events of schedules do to the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import events as e
from jobd.core import machine
from jobd.core.moves import Moves
from jobd.core.schedule import parse
from jobd.core.schedules import Schedule
from jobd.errors import InvalidError


def _added(state: Moves, event: e.ScheduleAdded) -> None:
    try:
        spec = parse(event.spec, "schedule", "UTC")
    except InvalidError as error:
        raise machine.TransitionError(f"job {event.job}: {error}") from None
    state.schedules.add(state.job(event.job), spec, event.at, event.caller)


def _removed(state: Moves, event: e.ScheduleRemoved) -> None:
    _find(state, event.job, event.name)
    state.schedules.remove(event.job, event.name)


def _paused(state: Moves, event: e.SchedulePaused) -> None:
    _find(state, event.job, event.name).paused = True


def _resumed(state: Moves, event: e.ScheduleResumed) -> None:
    found = _find(state, event.job, event.name)
    found.paused = False
    state.schedules.moved(found, event.at, event.at)


def _fired(state: Moves, event: e.ScheduleFired) -> None:
    found = _find(state, event.job, event.name)
    found.fired += event.fired
    found.missed += event.lost
    found.refused = event.refused
    if event.fired:
        found.last_at = event.at
        found.last_run = event.run
    if event.mark:
        found.mark = event.mark
    state.schedules.moved(found, event.cursor, event.at)


def _find(state: Moves, job: int, name: str) -> Schedule:
    found = state.schedules.get(job, name)
    if found is None:
        raise machine.TransitionError(f"job {job}: no schedule {name!r:.80}")
    return found


APPLIERS: dict[type[Any], Callable[[Any, Any], None]] = {
    e.ScheduleAdded: _added,
    e.ScheduleRemoved: _removed,
    e.SchedulePaused: _paused,
    e.ScheduleResumed: _resumed,
    e.ScheduleFired: _fired,
}

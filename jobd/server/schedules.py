"""The verbs of schedules."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from jobd.core import schedule as one
from jobd.core.commands import AddSchedule, FireSchedule, PauseSchedule, RemoveSchedule
from jobd.core.decision import find_job
from jobd.core.schedules import Schedule
from jobd.core.scheduling import find_schedule
from jobd.core.status import status
from jobd.cron.firing import Timing, warnings
from jobd.errors import InvalidError, UsageError
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Parts, Request

#: firings that are told at once, at most, and milliseconds ahead that are looked through for
#: changes of the clock
_MOST, _AHEAD = 1_000, 366 * 86_400_000
_ROOM = 1 << 20
_PAGE = 200


def add(kernel: Kernel, request: Request) -> Any:
    """schedule.add"""
    kernel.require_room(_ROOM)
    job, given = request.arguments["job"], request.arguments["schedule"]
    name, changed = kernel.decide(AddSchedule(job, given), request.caller)
    found = find_schedule(kernel.state, job, name)
    told = _warnings(kernel, found)
    return {"schedule": _row(kernel, found), "changed": changed, "warnings": told}


def _warnings(kernel: Kernel, found: Schedule) -> list[str]:
    """What is likely not meant, or not thought of."""
    if found.timing is None:
        return []
    if found.after(found.cursor) is None:
        return ["it never fires"]
    return warnings(found.timing, kernel.now.wall, kernel.now.wall + _AHEAD)


def remove(kernel: Kernel, request: Request) -> Any:
    """schedule.remove"""
    job, name = request.arguments["job"], request.arguments["name"]
    kernel.decide(RemoveSchedule(job, name), request.caller)
    return {"job": job, "name": name}


def pause(kernel: Kernel, request: Request) -> Any:
    """schedule.pause"""
    return _pause(kernel, request, True)


def resume(kernel: Kernel, request: Request) -> Any:
    """schedule.resume"""
    return _pause(kernel, request, False)


def _pause(kernel: Kernel, request: Request, paused: bool) -> Any:
    job, name = request.arguments["job"], request.arguments["name"]
    changed = kernel.decide(PauseSchedule(job, name, paused), request.caller)
    return {"job": job, "name": name, "paused": paused, "changed": changed}


def fire(kernel: Kernel, request: Request) -> Any:
    """schedule.fire"""
    kernel.require_room(_ROOM)
    job, name = request.arguments["job"], request.arguments["name"]
    return {"run": kernel.decide(FireSchedule(job, name), request.caller)}


def list_(kernel: Kernel, request: Request) -> Any:
    """schedule.list"""
    sight = Sight(kernel, request.caller)
    name = request.arguments.get("job")
    if name is not None:
        found = kernel.state.schedules.of(find_job(kernel.state, name))
    else:
        found = [each for each in kernel.state.schedules.every() if sight.job(each.job)]
    return Parts(_list(kernel, sorted(found, key=lambda each: each.seed)))


def _list(kernel: Kernel, found: list[Schedule]) -> Generator[Any, None, Any]:
    for start in range(0, len(found), _PAGE):
        yield {"schedules": [_row(kernel, each) for each in found[start : start + _PAGE]]}
    clock = None
    schedules = kernel.state.schedules
    if schedules.is_wrong(kernel.now):
        behind = (schedules.newest - kernel.now.wall) // 86_400_000
        clock = (
            f"the host's clock is {behind} days behind what was written last: nothing fires by it "
            "until it is right"
        )
    return {"count": len(found), "clock": clock}


def _row(kernel: Kernel, found: Schedule) -> dict[str, Any]:
    following = found.next or found.after(found.cursor)
    run = kernel.state.runs.get(found.last_run) if found.last_run is not None else None
    return {
        "job": found.job.name,
        **one.to_mapping(found.spec),
        "paused": found.paused,
        "from_file": found.from_file,
        "next_at": None if following is None else following.at + found.jitter,
        "last_at": found.last_at,
        "last_run": found.last_run,
        "last_status": str(status(run)) if run is not None else None,
        "refused": found.refused or None,
        "fired": found.fired,
        "missed": found.missed,
    }


def next_(kernel: Kernel, request: Request) -> Any:
    """schedule.next"""
    arguments = request.arguments
    most = arguments.get("count", 5)
    if not 1 <= most <= _MOST:
        raise UsageError(f"schedule.next: count: {most}: expected 1 to {_MOST}")
    zone = arguments.get("timezone")
    if ("job" in arguments) == ("cron" in arguments):
        raise UsageError("schedule.next: expected either a job with a name or an expression")
    at = arguments.get("from", kernel.now.wall)
    if "job" in arguments:
        if zone is not None:
            raise UsageError("schedule.next: timezone: a schedule has a zone of its own")
        found = find_schedule(kernel.state, arguments["job"], arguments.get("name", ""))
        return {"next": _firings(found.timing, at, most, found), "timezone": found.spec.timezone}
    spec = one.parse({"cron": arguments["cron"]}, "schedule", zone or kernel.rules.timezone)
    if spec.moment:
        raise InvalidError(f"cron {spec.cron!r}: fires when something is started, and at no time")
    return {"next": _firings(spec.timing("", at), at, most), "timezone": spec.timezone}


def _firings(
    timing: Timing | None, at: int, most: int, schedule: Schedule | None = None
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    while timing is not None and len(made) < most:
        firing = schedule.after(at) if schedule else timing.after(at)
        if firing is None:
            break
        jitter = schedule.jitter if schedule else 0
        local = f"{firing.nominal:%Y-%m-%dT%H:%M:%S}"
        made.append({"at": firing.at + jitter, "local": local, "note": firing.note or None})
        at = firing.at
    return made

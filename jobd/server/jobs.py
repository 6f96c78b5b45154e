"""The verbs of jobs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from jobd.core.commands import PauseJob, RegisterJob, SetJob, UnregisterJob
from jobd.core.decision import find_job
from jobd.core.entities import Job
from jobd.core.settings import differences
from jobd.server.access import Sight, unknown_people
from jobd.server.kernel import Kernel, Parts, Request
from jobd.server.rows import by_of, job_row

#: a registration's record is bounded by what a job file may hold (core/specvalues.py)
_ROOM = 1 << 20


def register(kernel: Kernel, request: Request) -> Any:
    """job.register"""
    kernel.require_room(_ROOM)
    spec = request.arguments["spec"]
    revision, changed = kernel.decide(RegisterJob(spec), request.caller)
    return {
        "job": spec["name"],
        "revision": revision,
        "changed": changed,
        "warnings": _warnings(kernel, spec["name"]),
    }


def _warnings(kernel: Kernel, job: str) -> list[str]:
    registered = kernel.state.jobs[job].spec
    warnings = unknown_people(registered.access)
    hold = kernel.hold_reason(registered.kind)
    if hold is not None:
        warnings.append(f"its runs will wait: {hold.text}")
    return warnings


def set_(kernel: Kernel, request: Request) -> Any:
    """job.set"""
    kernel.require_room(_ROOM)
    name = request.arguments["job"]
    job = find_job(kernel.state, name)
    before = job.spec
    revision, changed = kernel.decide(SetJob(name, request.arguments["settings"]), request.caller)
    return {
        "job": name,
        "revision": revision,
        "changed": changed,
        "changes": differences(before, job.spec),
        "warnings": _warnings(kernel, name),
    }


def history(kernel: Kernel, request: Request) -> Any:
    """job.history"""
    return Parts(_history(find_job(kernel.state, request.arguments["job"])))


def _history(job: Job) -> Generator[Any, None, Any]:
    numbers = sorted(job.revisions)
    for number, earlier in zip(reversed(numbers), [*reversed(numbers[:-1]), None], strict=True):
        at, caller = job.made[number]
        changes = []
        if earlier is not None:
            changes = differences(job.revisions[earlier], job.revisions[number])
        row = {"revision": number, "at": at, "by": by_of(caller), "changes": changes}
        yield {"revisions": [row]}
    return {"count": len(numbers)}


def unregister(kernel: Kernel, request: Request) -> Any:
    """job.unregister"""
    return {"job": kernel.decide(UnregisterJob(request.arguments["job"]), request.caller)}


def pause(kernel: Kernel, request: Request) -> Any:
    """job.pause"""
    return _pause(kernel, request, True)


def resume(kernel: Kernel, request: Request) -> Any:
    """job.resume"""
    return _pause(kernel, request, False)


def _pause(kernel: Kernel, request: Request, paused: bool) -> Any:
    job = request.arguments["job"]
    changed = kernel.decide(PauseJob(job, paused), request.caller)
    return {"job": job, "paused": paused, "changed": changed}


def show(kernel: Kernel, request: Request) -> Any:
    """job.show"""
    return job_row(kernel, find_job(kernel.state, request.arguments["job"]))


def list_(kernel: Kernel, request: Request) -> Any:
    """job.list"""
    return Parts(_list(kernel, Sight(kernel, request.caller)))


def _list(kernel: Kernel, sight: Sight) -> Generator[Any, None, Any]:
    names = sorted(name for name, job in kernel.state.jobs.items() if sight.job(job))
    for name in names:
        job = kernel.state.jobs.get(name)  # it may be gone since the pass before
        if job is not None:
            yield {"jobs": [job_row(kernel, job)]}
    return {"count": len(names)}

"""The verbs of jobs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from jobd.core.commands import PauseJob, RegisterJob, SetJob, UnregisterJob
from jobd.core.decision import find_job
from jobd.core.entities import Job
from jobd.core.settings import differences
from jobd.core.spec import to_mapping
from jobd.server.access import require_admin
from jobd.server.kernel import Kernel, Parts, Request
from jobd.server.rows import by_of, job_row

#: a registration's record is bounded by what a job file may hold (core/specvalues.py)
_ROOM = 1 << 20


def register(kernel: Kernel, request: Request) -> Any:
    """job.register"""
    require_admin(kernel, request)
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
    hold = kernel.hold_reason(kernel.state.jobs[job].spec.kind)
    return [f"its runs will wait: {hold.text}"] if hold is not None else []


def set_(kernel: Kernel, request: Request) -> Any:
    """job.set"""
    require_admin(kernel, request)
    kernel.require_room(_ROOM)
    name = request.arguments["job"]
    job = find_job(kernel.state, name)
    before = to_mapping(job.spec)
    revision, changed = kernel.decide(SetJob(name, request.arguments["settings"]), request.caller)
    return {
        "job": name,
        "revision": revision,
        "changed": changed,
        "changes": differences(before, to_mapping(job.spec)),
        "warnings": _warnings(kernel, name),
    }


def history(kernel: Kernel, request: Request) -> Any:
    """job.history"""
    require_admin(kernel, request)
    return Parts(_history(find_job(kernel.state, request.arguments["job"])))


def _history(job: Job) -> Generator[Any, None, Any]:
    numbers = sorted(job.revisions)
    for number, earlier in zip(reversed(numbers), [*reversed(numbers[:-1]), None], strict=True):
        at, caller = job.made[number]
        changes = []
        if earlier is not None:
            mappings = (to_mapping(job.revisions[n]) for n in (earlier, number))
            changes = differences(*mappings)
        row = {"revision": number, "at": at, "by": by_of(caller), "changes": changes}
        yield {"revisions": [row]}
    return {"count": len(numbers)}


def unregister(kernel: Kernel, request: Request) -> Any:
    """job.unregister"""
    require_admin(kernel, request)
    return {"job": kernel.decide(UnregisterJob(request.arguments["job"]), request.caller)}


def pause(kernel: Kernel, request: Request) -> Any:
    """job.pause"""
    return _pause(kernel, request, True)


def resume(kernel: Kernel, request: Request) -> Any:
    """job.resume"""
    return _pause(kernel, request, False)


def _pause(kernel: Kernel, request: Request, paused: bool) -> Any:
    require_admin(kernel, request)
    job = request.arguments["job"]
    changed = kernel.decide(PauseJob(job, paused), request.caller)
    return {"job": job, "paused": paused, "changed": changed}


def show(kernel: Kernel, request: Request) -> Any:
    """job.show"""
    require_admin(kernel, request)
    return job_row(kernel, find_job(kernel.state, request.arguments["job"]))


def list_(kernel: Kernel, request: Request) -> Any:
    """job.list"""
    require_admin(kernel, request)
    return Parts(_list(kernel))


def _list(kernel: Kernel) -> Generator[Any, None, Any]:
    names = sorted(kernel.state.jobs)
    for name in names:
        job = kernel.state.jobs.get(name)  # it may be gone since the pass before
        if job is not None:
            yield {"jobs": [job_row(kernel, job)]}
    return {"count": len(names)}

"""The verbs of jobs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from jobd.codec import MAX_FRAME
from jobd.core.commands import (
    APPLIED,
    ApplyJobs,
    PauseJob,
    RegisterJob,
    SetJob,
    UnregisterJob,
)
from jobd.core.decision import find_job
from jobd.core.entities import Job
from jobd.core.listening import unheard
from jobd.core.settings import differences
from jobd.errors import UsageError
from jobd.server.access import Sight, require_admin, unknown_people
from jobd.server.kernel import Kernel, Parts, Request
from jobd.server.rows import by_of, job_row

#: a registration's record is bounded by what a job file may hold (core/specvalues.py)
_ROOM = 1 << 20
#: jobs in one apply, and what each takes beside what its spec says: defaults are filled in
_MOST, _FILLED = 2_000, 4 << 10
#: jobs in one part of a brief list
_PAGE = 500


def register(kernel: Kernel, request: Request) -> Any:
    """job.register"""
    kernel.require_room(_ROOM)
    spec = request.arguments["spec"]
    revision, changed = kernel.decide(RegisterJob(spec), request.caller)
    return {
        "job": spec["name"],
        "revision": revision,
        "changed": changed,
        "warnings": _warnings(kernel, [spec["name"]]),
    }


def apply(kernel: Kernel, request: Request) -> Any:
    """job.apply"""
    arguments = request.arguments
    if arguments.get("prune"):
        # who may register a job may not for that reason remove it
        require_admin(kernel, request)
    specs = arguments["specs"]
    if len(specs) > _MOST or not all(isinstance(spec, dict) for spec in specs):
        raise UsageError(f"job.apply: specs: expected at most {_MOST} maps")
    kernel.require_room(MAX_FRAME + len(specs) * _FILLED)
    command = ApplyJobs(
        [(spec, APPLIED) for spec in specs],
        prune=APPLIED if arguments.get("prune") else None,
        dry_run=arguments.get("dry_run", False),
    )
    rows = kernel.decide(command, request.caller)
    return {"jobs": rows, "warnings": _warnings(kernel, [row["job"] for row in rows])}


def _warnings(kernel: Kernel, names: list[str]) -> list[str]:
    """What is likely a slip, and why runs of these jobs would wait for now; each once."""
    jobs = [kernel.state.jobs[name] for name in names if name in kernel.state.jobs]
    warnings = [text for job in jobs for text in unknown_people(job.spec.access)]
    warnings += [text for job in jobs for text in unheard(kernel.state, job.spec)]
    holds = {job.spec.kind: kernel.hold_reason(job.spec.kind) for job in jobs}
    warnings += [f"its runs will wait: {h.text}" for h in holds.values() if h is not None]
    return list(dict.fromkeys(warnings))


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
        "warnings": _warnings(kernel, [name]),
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
    sight = Sight(kernel, request.caller)
    return Parts((_brief if request.arguments.get("brief") else _list)(kernel, sight))


def _brief(kernel: Kernel, sight: Sight) -> Generator[Any, None, Any]:
    jobs = sorted((name, job) for name, job in kernel.state.jobs.items() if sight.job(job))
    for start in range(0, len(jobs), _PAGE):
        rows = [
            {"name": name, "revision": job.revision, "paused": job.paused}
            for name, job in jobs[start : start + _PAGE]
        ]
        yield {"jobs": rows}
    return {"count": len(jobs)}


def _list(kernel: Kernel, sight: Sight) -> Generator[Any, None, Any]:
    names = sorted(name for name, job in kernel.state.jobs.items() if sight.job(job))
    for name in names:
        job = kernel.state.jobs.get(name)  # it may be gone since the pass before
        if job is not None:
            yield {"jobs": [job_row(kernel, job)]}
    return {"count": len(names)}

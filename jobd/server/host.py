"""The verbs about the daemon itself, and uploads."""

from __future__ import annotations

import os
from typing import Any

from jobd.core.commands import DrainHost
from jobd.errors import UsageError
from jobd.server.access import Sight, require_admin
from jobd.server.kernel import Kernel, Later, Offload, Request
from jobd.wire.envelope import CHUNK, HOLD_MS, KEY_BYTES

#: ids in one answer
_IDS = 1000


def ping(kernel: Kernel, request: Request) -> Any:
    """ping"""
    status = kernel.status()
    return {
        "version": status["version"],
        "pid": os.getpid(),
        "store": status["store"],
        "uptime_ms": int(status["uptime_s"] * 1000),
        "user": {"uid": request.caller.uid, "admin": kernel.is_admin(request.caller)},
    }


def status(kernel: Kernel, request: Request) -> Any:
    """status"""
    answer = kernel.status()
    sight, jobs = Sight(kernel, request.caller), kernel.state.jobs
    # figures are everybody's; the names of jobs are not
    answer["paused"] = [name for name in answer["paused"] if sight.job(jobs[name])]
    answer["waiting"] = [row for row in answer["waiting"] if sight.job(jobs[row["job"]])]
    return answer


def doctor(kernel: Kernel, request: Request) -> Any:
    """host.doctor"""
    alerts = _alerts(kernel)
    return Offload(lambda: {"findings": [*kernel.findings(), alerts]})


def _alerts(kernel: Kernel) -> dict[str, Any]:
    problem, waiting = kernel.alerts_problem(), len(kernel.state.alerts.waiting)
    text = problem or (f"{waiting} messages wait" if waiting else "none waits to be delivered")
    level = "wrong" if problem else "ok"
    return {"about": "alerts", "level": level, "text": text, "remedy": None}


def drain(kernel: Kernel, request: Request) -> Any:
    """host.drain"""
    return _drain(kernel, request, True)


def undrain(kernel: Kernel, request: Request) -> Any:
    """host.undrain"""
    return _drain(kernel, request, False)


def _drain(kernel: Kernel, request: Request, draining: bool) -> Any:
    changed = kernel.decide(DrainHost(draining), request.caller)
    return {"draining": draining, "changed": changed, "active": len(kernel.state.active)}


def snapshot(kernel: Kernel, request: Request) -> Any:
    """host.snapshot"""
    return {"number": kernel.ask_snapshot()}


def idle(kernel: Kernel, request: Request) -> Any:
    """host.idle"""
    active = list(kernel.state.active)
    if active and not request.final:
        raise Later(active, min(request.arguments.get("hold", HOLD_MS), HOLD_MS))
    return {
        "ready": not active,
        "draining": kernel.state.host.drained_at is not None,
        "active": active[:_IDS],
    }


def upload(kernel: Kernel, request: Request) -> Any:
    """upload.put"""
    name, offset, data, last = (
        request.arguments[key] for key in ("upload", "offset", "data", "last")
    )
    if len(name) != KEY_BYTES:
        raise UsageError(f"upload.put: the name is not {KEY_BYTES} bytes")
    if len(data) > CHUNK or offset < 0:
        raise UsageError(f"upload.put: a chunk has at most {CHUNK} bytes, from offset 0 on")
    context = request.arguments.get("context", False)
    if context:
        require_admin(kernel, request)
    return Offload(
        lambda: {"size": kernel.upload(request.caller, name, offset, data, last, context)}
    )

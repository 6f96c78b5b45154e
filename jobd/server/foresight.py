"""The verbs that look ahead: what will happen, and what a job should be given."""

from __future__ import annotations

import threading
import time
from typing import Any

from jobd.capacity.ledger import Ledger
from jobd.core.access import Right
from jobd.core.decision import find_job
from jobd.core.states import Kind
from jobd.errors import RefusedError, UsageError
from jobd.forecast import advice
from jobd.forecast.outlook import Collision, Outlook, outlook, view
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Offload, Request

_HOUR = 3_600_000
#: hours that may be looked ahead, and that are where nobody says
_MOST, _USUAL = 31 * 24, 24
_ONE = threading.Lock()


def forecast(kernel: Kernel, request: Request) -> Any:
    """host.forecast"""
    hours = request.arguments.get("hours", _USUAL)
    if not 1 <= hours <= _MOST:
        raise UsageError(f"host.forecast: hours: {hours}: expected 1 to {_MOST}")
    host, sight = kernel.ledger.host, Sight(kernel, request.caller)
    free = Ledger(host, kernel.ledger.pace)
    free.engines = dict.fromkeys(Kind)
    state = kernel.state
    seen, left = view(state, free, free.pace, kernel.rules, kernel.now, host.gpus)
    names = {job.id: job.name for job in state.jobs_by_id.values() if sight.job(job)}
    base = {
        "capacity": {"cpus": host.cpus, "memory": host.memory, "gpus": host.gpus},
        "draining": state.host.drained_at is not None,
        "paused": sorted(job.name for job in state.jobs.values() if job.paused and job.id in names),
    }

    def work() -> dict[str, Any]:
        # it takes seconds, and the threads are few: logs and payloads have to get through
        if not _ONE.acquire(blocking=False):
            raise RefusedError("host.forecast: another one is being made; ask again")
        try:
            return {**base, **_told(outlook(seen, left, hours * _HOUR, _rest), names)}
        finally:
            _ONE.release()

    return Offload(work)


def _rest() -> None:
    """Let the core loop go before: it has the same processor's interpreter."""
    time.sleep(0.002)


def _told(found: Outlook, names: dict[int, str]) -> dict[str, Any]:
    """All of it, less what is about jobs that the caller may not see."""
    return {
        "at": found.at,
        "ends_at": found.until,
        "complete": found.complete,
        "runs": {
            "queued": found.queued,
            "started": found.started,
            "waiting": found.waiting,
            "left_out": found.left_out,
        },
        "backlog": {"most": found.peak, "peak_at": found.peak_at or None, "end": found.waiting},
        "hours": [
            {
                "at": hour.at,
                "started": hour.started,
                "waiting": hour.waiting,
                "active": hour.active,
                "cpus": round(hour.cpus, 3),
                "memory": round(hour.memory),
            }
            for hour in found.hours
        ],
        "collisions": [_collision(one, names) for one in found.collisions if one.job in names],
        "clock": [
            {"job": names.get(job), "name": name or None, "text": text}
            for job, name, text in found.clock
            if job in names or not job
        ],
        "unknown": sorted(names[job] for job in found.unknown if job in names),
    }


def _collision(one: Collision, names: dict[int, str]) -> dict[str, Any]:
    return {
        "job": names[one.job],
        "name": one.name,
        "fires": one.fires,
        "late": one.late,
        "skipped": one.skipped,
        "refused": one.refused,
        "longest_ms": one.longest,
        "at": one.at or None,
        "reason": {"code": one.reason.code, "text": one.reason.text} if one.reason else None,
        "beside": [names[job] for job in one.beside if job in names],
    }


def suggest(kernel: Kernel, request: Request) -> Any:
    """job.suggest"""
    job = find_job(kernel.state, request.arguments["job"])
    sight, runs = Sight(kernel, request.caller), kernel.state.runs
    newest = (runs.get(number) for number in reversed(job.runs.below(None, advice.MOST)))
    seen = [run for run in newest if run is not None and sight.run(run, Right.READ)]
    found = advice.used(seen)
    made = advice.proposals(job, found, kernel.rules)
    return {
        "job": job.name,
        "attempts": len(found),
        "few": len(found) < advice.FEW,
        "origin": job.origin,
        "proposals": [one._asdict() for one in made],
        "lines": list(advice.lines(made)),
    }

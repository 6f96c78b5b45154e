"""The short way of a schedule's firing, where nothing speaks against it. Pure.

A thousand that fire together have 50 ms until they are on disk, so one may take 25 us of the loop;
by `decide` it takes four times that. Whatever is not the plain case, one firing that is due and a
run that nothing refuses, is left to core/scheduling.py: this way never says no. A test holds both
ways to the same events.
"""

from __future__ import annotations

from typing import Any

from jobd.core import events as e
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.queueing import check_allowed
from jobd.core.schedule import payload
from jobd.core.schedules import Schedule
from jobd.core.scheduling import ON_TIME
from jobd.core.state import State
from jobd.errors import InvalidError


def fire(state: State, found: Schedule, now: Now, rules: Rules) -> list[e.Event] | None:
    """What follows from a schedule that has come due, or None: then `decide` has to look."""
    first, job = found.next, found.job
    if first is None or not found.ahead or found.paused or job.removed:
        return None
    late = now.wall - found.jitter
    following = found.following
    if first.at <= found.cursor or (following is not None and following.at <= late):
        return None
    spec, wanted = job.spec, found.spec
    if late - first.at > ON_TIME and wanted.catchup == "none":
        return None
    if spec.overlap not in ("allow", "queue") or wanted.overlap not in (None, spec.overlap):
        return None
    if spec.expires is not None or spec.mutex is not None or rules.max_user_queue is not None:
        return None
    if spec.queue is not None and job.waiting >= spec.queue:
        return None
    data = payload(wanted, first)
    if len(data) > rules.max_payload:
        return None
    try:
        check_allowed(job, rules)
    except InvalidError:
        return None
    options: dict[str, Any] = {"source": [wanted.name, first.at]}
    run = state.next_run
    return [
        e.RunQueued(
            run,
            job.id,
            job.revision,
            now.wall,
            "schedule",
            found.caller,
            data,
            spec.priority,
            options,
        ),
        e.ScheduleFired(job.id, wanted.name, first.at, now.wall, 1, 0, run),
    ]

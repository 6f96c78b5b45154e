"""Plain submissions, a job and a payload and nothing else, decided on by the shortest way. Pure.

What a queue is fed with fast is nearly all of this kind, and much of what `queueing` asks of it has
the same answer for each of the same caller to the same job. A grant holds those answers for one
pass of the loop. Whatever is not plain success, a refusal above all, is left to `decide`: this way
never says no. A test holds both ways to the same events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core.commands import Caller
from jobd.core.decision import caller_fields
from jobd.core.entities import Job
from jobd.core.events import RunQueued
from jobd.core.policy import Rules
from jobd.core.queueing import check_allowed
from jobd.core.state import State
from jobd.errors import InvalidError


class Grant(NamedTuple):
    """That a caller may queue plain runs of a job in this pass, by what was looked at once."""

    job: Job
    id: int
    revision: int
    priority: int
    #: the caller as it stands in events
    who: list[Any]
    at: int
    #: bytes that a payload may have
    most: int
    #: whether how many wait has to be looked at each time
    limited: bool


def grant(state: State, name: str, caller: Caller, rules: Rules, at: int) -> Grant | None:
    """A grant for the pass that happens at `at` (ms UTC), or None: then `decide` has to look.

    Whether the caller has the right, and the host the size, is the asker's to know.
    """
    job = state.jobs.get(name)
    if job is None:
        return None
    spec = job.spec
    if spec.expires is not None:
        return None  # each of its runs has a date
    try:
        check_allowed(job, rules)
    except InvalidError:
        return None
    who = caller_fields(caller)
    return Grant(
        job, job.id, job.revision, spec.priority, who, at, rules.max_payload, spec.queue is not None
    )


def plain(state: State, by: Grant, payload: bytes, request: bytes) -> RunQueued | None:
    """What follows from one plain submission, or None: then `decide` has to look."""
    job, job_id, revision, priority, who, at, most, limited = by
    if len(payload) > most or state.requests.find(request):
        return None
    if limited and job.waiting >= (job.spec.queue or 0):
        return None
    return RunQueued(
        state.next_run, job_id, revision, at, "cli", who, payload, priority, None, request
    )

"""Which waiting runs start now, and why the others do not.

By priority, then job by job in turn, then age. A small run may pass one that does not fit
(backfill); but one that has waited long is reserved for: then nothing passes it any more that would
take of what it waits for, so nothing starves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from jobd.core.entities import Job, Run
from jobd.core.model import Needs, Now, Reason
from jobd.core.state import State
from jobd.core.states import Kind

#: how long a run may be passed by smaller ones, in milliseconds
RESERVE_AFTER = 60_000


class Admission(Protocol):
    """What the host lets start; capacity/ledger.py is the one that is used."""

    def closed(self, kind: Kind) -> Reason | None:
        """What keeps every run of that kind from starting (its engine, the disk), or None."""

    def shortfall(self, needs: Needs, reserved: Needs, running: int) -> Reason | None:
        """Why `needs` do not fit beside what is reserved by `running` attempts, or None."""


def picks(state: State, admission: Admission, now: Now) -> Iterator[Run]:
    """The runs to claim, one by one: the caller applies each claim before it asks for the next.

    Leaves in each job's `reason` why its first waiting run did not start.
    """
    state.dirty = False
    if state.host.drained_at is not None:
        return
    found = {kind: admission.closed(kind) for kind in Kind}
    closed = {kind: reason for kind, reason in found.items() if reason is not None}
    if len(closed) == len(Kind):
        return
    blocked: set[Job] = set()
    reserved_for: Run | None = None
    for priority in state.ready.priorities():
        claimed = True
        while claimed:
            claimed = False
            for run in state.ready.heads(priority):
                job = run.job
                if job in blocked:
                    continue
                if run.spec.kind in closed:
                    # nothing is kept free for it either: its engine may be long in coming
                    job.reason = closed[run.spec.kind]
                    blocked.add(job)
                    continue
                reason = _limits(run)
                if reason is None:
                    reason = _capacity(state, admission, run, reserved_for)
                    if reason is not None and reserved_for is None:
                        reserved_for = run if _waited(run, now) and _could(admission, run) else None
                job.reason = reason
                if reason is None:
                    claimed = True
                    yield run
                else:
                    blocked.add(job)


def _limits(run: Run) -> Reason | None:
    job = run.job
    if job.paused:
        return Reason("paused", f"job {job.name} is paused: jobctl resume {job.name}")
    limit = job.spec.concurrency if not job.removed else run.spec.concurrency
    if limit is not None and job.active >= limit:
        return Reason("limits", f"job {job.name} has {job.active} of {limit} runs at once")
    return None


def _capacity(state: State, admission: Admission, run: Run, before: Run | None) -> Reason | None:
    reserved = Needs(state.reserved_millicpus / 1000, state.reserved_memory)
    reason = admission.shortfall(run.spec.needs, reserved, len(state.active))
    if reason is not None or before is None:
        return reason
    # what would still fit beside the one that waits longest may go on
    together = Needs(
        reserved.cpus + before.spec.cpus,
        reserved.memory + before.spec.memory,
    )
    if admission.shortfall(run.spec.needs, together, len(state.active) + 1) is None:
        return None
    return Reason("capacity", f"what is free is kept for run {before.id}, which has waited longest")


def _waited(run: Run, now: Now) -> bool:
    # queued in a time to come: the clock was set back, and would take its turn from it until then
    return not 0 <= now.wall - run.queued_at < RESERVE_AFTER


def _could(admission: Admission, run: Run) -> bool:
    """Whether it would start if nothing ran: waiting for what never comes, one that was queued
    on a larger host kept this one empty for ever."""
    return admission.shortfall(run.spec.needs, Needs(0.0, 0), 0) is None

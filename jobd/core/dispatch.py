"""Which waiting runs start now, and why the others do not.

By priority, then job by job in turn, then age; waiting lifts a priority (`[order] age_after`). Of
what was queued at once the largest is first, as first-fit-decreasing packs a host best. A
small run may pass one that does not fit (backfill); but one that has waited long is reserved for
(`[order] reserve_after`): then nothing passes it any more that would take of what it waits for, so
nothing starves.

Only the heads of the jobs' queues are looked at, so a pass costs as much as there are jobs,
whatever the number of runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Protocol

from jobd.core.entities import Run
from jobd.core.limits import PLAIN, Pace, blocking
from jobd.core.model import Needs, Now, Reason
from jobd.core.state import State
from jobd.core.states import Kind

#: runs whose key is held that one pass sets aside of a job; the next pass goes on
_ASIDE = 1_000
#: runs that were queued so near to each other are of one age, and the larger ones go first: small
#: ones fit beside them, or behind. But not of a job of which more than so many wait: a flood of
#: large runs would shut others out. Milliseconds, runs
_SAME_AGE, _FEW = 1_000, 100


class Admission(Protocol):
    """What the host lets start; capacity/ledger.py is the one that is used."""

    def closed(self, kind: Kind) -> Reason | None:
        """What keeps every run of that kind from starting (its engine, the disk), or None."""

    def shortfall(self, needs: Needs, reserved: Needs, running: int) -> Reason | None:
        """Why `needs` do not fit beside what is reserved by `running` attempts, or None."""


def picks(state: State, admission: Admission, now: Now, pace: Pace = PLAIN) -> Iterator[Run]:
    """The runs to claim, one by one: the caller applies each claim before it asks for the next.

    Leaves in each job's `reason` why its first waiting run did not start, and in the state's
    `look_at` when time alone may let one start.
    """
    state.dirty = False
    state.look_at = None
    if state.host.drained_at is not None:
        return
    found = {kind: admission.closed(kind) for kind in Kind}
    closed = {kind: reason for kind, reason in found.items() if reason is not None}
    if len(closed) == len(Kind):
        return
    reserved_for: Run | None = None
    order = _Order(state, now, pace)
    for run in order:
        job = run.job
        if run.spec.kind in closed:
            # nothing is kept free for it either: its engine may be long in coming
            job.reason = closed[run.spec.kind]
            continue
        if job.paused:
            text = f"job {job.name} is paused: jobctl resume {job.name}"
            job.reason = Reason("paused", text)
            continue
        limit = blocking(state, run, now, pace)
        if limit is not None:
            job.reason = Reason(limit.code, limit.text)
            if limit.name == "mutex":
                order.set_aside(run)
            elif limit.again is not None:
                _look_in(state, now, limit.again)
            continue
        reason = _capacity(state, admission, run, reserved_for)
        job.reason = reason
        if reason is None:
            yield run
            order.again(run)
        elif reserved_for is None and _could(admission, run):
            passed = now.wall - _since(run)
            # queued in a time to come: the clock was set back, and would take its turn from it
            if not 0 <= passed < pace.reserve_after:
                reserved_for = run
            if passed < pace.reserve_after:
                _look_in(state, now, -passed if passed < 0 else pace.reserve_after - passed)


class _Order:
    """The heads of all queues, best first; the caller says of which queue the next is wanted.

    A job whose head did not start is not asked again in this pass, at no priority.
    """

    def __init__(self, state: State, now: Now, pace: Pace) -> None:
        self._state = state
        self._now = now
        self._age_after = pace.age_after
        self._turns = count()
        self._asided: dict[int, int] = {}
        self._over: set[int] = set()
        #: rank, turn of the first of its age, size, turn; priority, run
        self._heap: list[tuple[int, int, float, int, int, Run]] = []
        self._groups: dict[int, int] = {}
        for priority in state.ready.priorities():
            for run in state.ready.heads(priority):
                self._push(run, priority)

    def _push(self, run: Run, priority: int) -> None:
        rank = priority
        if self._age_after is not None:
            rank += waited(run, self._now) // self._age_after
        turn = next(self._turns)
        group, size = turn, 0.0
        if run.job.waiting <= _FEW:
            group, size = self._groups.setdefault(_since(run) // _SAME_AGE, turn), _size(run)
        heapq.heappush(self._heap, (-rank, group, -size, turn, priority, run))

    def __iter__(self) -> Iterator[Run]:
        heap, over = self._heap, self._over
        while heap:
            run = heapq.heappop(heap)[-1]
            if run.job.id not in over:
                over.add(run.job.id)
                yield run

    def again(self, run: Run) -> None:
        """It was claimed: the next of its queue has its turn after the others of that rank."""
        self._over.discard(run.job.id)
        head = self._state.ready.head(run.job, run.priority)
        if head is not None:
            self._push(head, run.priority)

    def set_aside(self, run: Run) -> None:
        """Its key is held: it waits where it holds up nobody; the next of its queue is asked."""
        number = self._asided[run.job.id] = self._asided.get(run.job.id, 0) + 1
        if number > _ASIDE:
            _look_in(self._state, self._now, 0)
            return
        self._state.ready.pop(run)
        self._state.mutexes.set_aside(run)
        self.again(run)


def waited(run: Run, now: Now) -> int:
    """How long a ready run has waited, in milliseconds.

    Queued in a time to come: the clock was set back; then it counts as just queued.
    """
    return max(0, now.wall - _since(run))


def _size(run: Run) -> float:
    """How much of a host the run takes, in cores; of the usual ones, with 4 GiB for each."""
    needs = run.needs
    return needs.cpus + needs.memory / (4 << 30) + 4 * needs.gpus


def _since(run: Run) -> int:
    return max(run.queued_at, run.option("not_before") or 0)


def _look_in(state: State, now: Now, ms: int) -> None:
    at = now.mono + ms
    if state.look_at is None or at < state.look_at:
        state.look_at = at


def _capacity(state: State, admission: Admission, run: Run, before: Run | None) -> Reason | None:
    reserved = state.reserved
    reason = admission.shortfall(run.needs, reserved, len(state.active))
    if reason is not None or before is None:
        return reason
    # what would still fit beside the one that waits longest may go on
    together = Needs(
        reserved.cpus + before.spec.cpus,
        reserved.memory + before.memory,
        reserved.gpus + before.spec.gpus,
    )
    if admission.shortfall(run.needs, together, len(state.active) + 1) is None:
        return None
    return Reason("capacity", f"what is free is kept for run {before.id}, which has waited longest")


def _could(admission: Admission, run: Run) -> bool:
    """Whether it would start if nothing ran: waiting for what never comes, one that was queued
    on a larger host kept this one empty for ever."""
    return admission.shortfall(run.needs, Needs(0.0, 0), 0) is None

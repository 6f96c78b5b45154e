"""When a waiting run will probably start, from how long the last attempts of each job took. Pure.

A guess for people: the runs before it are let in one after the other as capacity and limits allow,
and each takes as long as its job's attempts took on average. Retries, memory that is really free,
and whatever is queued later are left out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import NamedTuple

from jobd.core.entities import Job, Run
from jobd.core.limits import concurrency
from jobd.core.model import Needs, Now
from jobd.core.state import State
from jobd.core.states import RunState

#: runs before it that are gone through; behind more of them nobody can tell
MOST = 5_000


class Estimate(NamedTuple):
    """When it will start (ms UTC; None: nobody can tell), and what that is taken from."""

    at: int | None
    text: str


def usual(job: Job) -> int | None:
    """How long an attempt of the job takes, in milliseconds; None: none has ended yet."""
    return sum(job.times) // len(job.times) if job.times else None


def remaining(run: Run, now: Now) -> int | None:
    """How long an active run will probably go on, in milliseconds; None: unknown."""
    whole = usual(run.job)
    if whole is None:
        return None
    attempt = run.attempt
    began = attempt.started.started_at if attempt is not None and attempt.started else now.wall
    return max(0, whole - max(0, now.wall - began))


def estimate(state: State, run: Run, ahead: list[Run], host: Needs, now: Now) -> Estimate:
    """When a waiting run will start; `ahead` are those before it, `host` what runs may use of it.

    For a run that nothing keeps back but its date, its parents, or its turn.
    """
    if run.due is not None:
        return Estimate(run.due, "when it is due")
    if run.parents:
        return _after_parents(state, run, now)
    if len(ahead) >= MOST:
        return Estimate(None, f"{MOST} runs or more are before it")
    return _simulate(state, [*ahead, run], host, now)


def _after_parents(state: State, run: Run, now: Now) -> Estimate:
    longest = 0
    for number in run.parents or ():
        parent = state.runs.get(number)
        if parent is None or parent.state is not RunState.ACTIVE:
            return Estimate(None, f"run {number} has not started yet")
        left = remaining(parent, now)
        if left is None:
            return Estimate(None, f"no run of job {parent.job.name} has ended yet")
        longest = max(longest, left)
    return Estimate(now.wall + longest, "when its parents end, if they take as long as usual")


def _simulate(state: State, order: list[Run], host: Needs, now: Now) -> Estimate:
    """Let the runs in, in that order, as those that run now end."""
    ends: list[tuple[int, int, Run]] = []
    for active in state.active.values():
        left = remaining(active, now)
        if left is None:
            return Estimate(None, f"no run of job {active.job.name} has ended yet")
        heapq.heappush(ends, (now.wall + left, active.id, active))
    cpus = host.cpus - state.reserved_millicpus / 1000
    memory = host.memory - state.reserved_memory
    busy = Counter(active.job.id for active in state.active.values())
    at = now.wall
    for run in order:
        while not _fits(run, cpus, memory, busy):
            if not ends:
                return Estimate(None, f"run {run.id} does not fit this host")
            end, _, over = heapq.heappop(ends)
            at = max(at, end)
            cpus += over.spec.cpus
            memory += over.memory
            busy[over.job.id] -= 1
        if run is order[-1]:
            break
        takes = usual(run.job)
        if takes is None:
            return Estimate(None, f"no run of job {run.job.name} has ended yet")
        heapq.heappush(ends, (at + takes, run.id, run))
        cpus -= run.spec.cpus
        memory -= run.memory
        busy[run.job.id] += 1
    return Estimate(at, f"from the last {len(order[-1].job.times) or 'few'} run times")


def _fits(run: Run, cpus: float, memory: int, busy: Counter[int]) -> bool:
    limit = concurrency(run)
    if limit is not None and busy[run.job.id] >= limit:
        return False
    return run.spec.cpus <= cpus + 1e-9 and run.memory <= memory

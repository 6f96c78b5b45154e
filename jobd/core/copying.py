"""A copy of what lives in a state, to try out on it what will happen. Pure.

The copy has the same definitions, events and origins (they never change), and of all that changes
its own. Left out is what has no say in who starts: runs that are over or held, requests, keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from jobd.core.entities import Attempt, Breaker, Job, Run
from jobd.core.moves import aside
from jobd.core.rates import Bucket
from jobd.core.schedules import Schedule
from jobd.core.state import State
from jobd.core.states import RunState

#: what of a run and of a schedule is taken over as it is
_RUN = ("rev", "priority", "queued_at", "where", "origin", "options", "size", "body", "due", "note")
_SCHEDULE = ("cursor", "paused", "fired", "missed", "last_at", "last_run", "refused", "mark")


def waiting(state: State, most: int) -> list[Run] | None:
    """Every waiting run, those of one queue in the order of their turns; None: more than `most`."""
    if state.waiting > most:
        return None
    asides: list[Run] = []
    parked: list[Run] = []
    for run in _all_waiting(state):
        if run.id in state.mutexes:
            asides.append(run)
        elif aside(run) is not None:
            parked.append(run)
    ready = [run for job in list(state.jobs_by_id.values()) for run in _queued(state, job)]
    # who is set aside for a key is before all that still stand in the queue
    return [*sorted(asides, key=lambda run: run.id), *ready, *parked]


def _all_waiting(state: State) -> Iterator[Run]:
    below: int | None = None
    while True:
        found, below = state.runs.scan({RunState.WAITING}, below)
        yield from found
        if below is None:
            return


def _queued(state: State, job: Job) -> Iterator[Run]:
    seen: set[int] = set()
    for priority, queue in job.ready.items():
        for number in queue:
            run = state.runs.get(number)
            fits = run is not None and run.state is RunState.WAITING and aside(run) is None
            if run is not None and fits and run.priority == priority and number not in seen:
                seen.add(number)
                yield run


def copy(state: State, chosen: Iterable[Run], *, schedules: bool = False) -> State:
    """The state with its active runs, and of the waiting ones those that are `chosen`: of each
    queue in the order in which they are given."""
    made = State()
    made.host.drained_at, made.host.drained_by = state.host.drained_at, state.host.drained_by
    made.next_run, made.next_job = state.next_run, state.next_job
    for job in state.jobs_by_id.values():
        if not job.removed or job.active or job.waiting:
            _job(made, job)
    chosen = list(chosen)
    for run in sorted([*chosen, *state.active.values()], key=lambda run: run.id):
        _run(made, run)
    for number in state.active:
        made.active[number] = made.run(number)
    _ready(made, state, chosen)
    _limits(made, state)
    if schedules:
        made.schedules.newest = state.schedules.newest
        for schedule in state.schedules.every():
            _schedule(made, schedule)
    return made


def _job(made: State, old: Job) -> None:
    job = Job(old.id, old.name)
    job.rev, job.revision, job.registered_at = old.rev, old.revision, old.registered_at
    job.revisions, job.made = old.revisions, old.made
    job.origin, job.paused, job.removed = old.origin, old.paused, old.removed
    job.times = old.times.copy()
    made.jobs_by_id[job.id] = job
    if not job.removed:
        made.jobs[job.name] = job


def _run(made: State, old: Run) -> None:
    run = Run(old.id, made.jobs_by_id[old.job.id], old.revision)
    for name in _RUN:
        setattr(run, name, getattr(old, name))
    run.state = old.state
    if old.parents:
        run.parents = set(old.parents)
        made.children.restore(run)
    if old.attempts:
        run.attempts = [*old.attempts[:-1], _attempt(old.attempts[-1])]
    made.runs.add(run)
    if run.options is not None:
        made.children.read_by(run)
    if run.state is RunState.ACTIVE:
        made.count_active(run)
        return
    made.count(run, 1)
    word = aside(run)
    if word is not None:
        made.parked[word] += 1
        run.job.parked[word] += 1


def _attempt(old: Attempt) -> Attempt:
    attempt = Attempt(old.number, old.claimed_at, old.gpus)
    for name in ("end", "started", "state", "stopping", "where"):
        setattr(attempt, name, getattr(old, name))
    return attempt


def _ready(made: State, state: State, chosen: list[Run]) -> None:
    queues: dict[tuple[int, int], list[int]] = {}
    for run in chosen:
        if aside(run) is None:
            queues.setdefault((run.job.id, run.priority), []).append(run.id)
    for (job, priority), ids in queues.items():
        made.ready.restore(made.jobs_by_id[job], priority, ids)
    turns = {priority: list(jobs) for priority, jobs in state.ready.rings().items()}
    for job, priority in queues:
        # one whose runs were all set aside stands in no ring
        if job not in turns.setdefault(priority, []):
            turns[priority].append(job)
    made.ready.restore_rings(
        {
            priority: [made.jobs_by_id[job] for job in jobs if job in made.jobs_by_id]
            for priority, jobs in turns.items()
        }
    )


def _limits(made: State, state: State) -> None:
    made.groups.set(state.groups.limits())
    for name, group in state.groups.named.items():
        made.groups.restore(name, group.bucket.full_at, group.active)
    made.buckets = {job: Bucket(bucket.full_at) for job, bucket in state.buckets.items()}
    for job, old in state.breakers.items():
        breaker = made.breakers[job] = Breaker()
        breaker.failures, breaker.opened_at = old.failures, old.opened_at
        breaker.until, breaker.text = old.until, old.text
    made.replaceable = {
        job: {number: None for number in runs if made.runs.get(number) is not None}
        for job, runs in state.replaceable.items()
    }


def _schedule(made: State, old: Schedule) -> None:
    job = made.jobs_by_id.get(old.job.id)
    if job is None:
        return
    schedule = Schedule(job, old.spec, old.added_at, old.caller, old.from_file)
    for name in _SCHEDULE:
        setattr(schedule, name, getattr(old, name))
    made.schedules.restore(schedule)


def some_waiting(state: State, most: int) -> list[Run]:
    """As :func:`waiting`; where more wait than `most`, the first of each job, as many of each."""
    every = waiting(state, most)
    if every is not None:
        return every
    jobs = [job for job in state.jobs_by_id.values() if job.waiting]
    share = max(1, most // len(jobs))
    return [run for job in jobs for run in islice(_queued(state, job), share)][:most]

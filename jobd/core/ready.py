"""The runs that could start now, in the order in which they are asked: priority, then turn by turn.

At each priority the jobs stand in a ring, each with a queue of its own, so that one job with a
million runs does not shut out another. Adding and taking cost the same at any length. An entry is
not searched for when its run is cancelled or changed: it goes stale and is dropped when met.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from jobd.core.entities import Job, Run
from jobd.core.states import RunState


class Runs(Protocol):
    """Where a run is found by its id."""

    def get(self, run: int) -> Run | None:
        """The run, or None."""


class Ready:
    """The ready index over all jobs."""

    __slots__ = ("_rings", "_runs")

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._rings: dict[int, deque[Job]] = {}

    def push(self, run: Run, *, front: bool = False) -> None:
        """Put a run at the end of its job's queue, or (a retried one, which is older) in front."""
        queue = run.job.ready.get(run.priority)
        if queue is None:
            queue = run.job.ready[run.priority] = deque()
            self._rings.setdefault(run.priority, deque()).append(run.job)
        if front:
            queue.appendleft(run.id)
        else:
            queue.append(run.id)

    def priorities(self) -> list[int]:
        """The priorities that have runs, highest first."""
        return sorted(self._rings, reverse=True)

    def heads(self, priority: int) -> Iterator[Run]:
        """The first run of each job at this priority, the job whose turn it is first."""
        for job in list(self._rings.get(priority, ())):
            run = self.head(job, priority)
            if run is not None:
                yield run

    def head(self, job: Job, priority: int) -> Run | None:
        """The job's first run at this priority; stale entries before it are dropped."""
        queue = job.ready.get(priority)
        while queue:
            run = self._runs.get(queue[0])
            if run is not None and self._fits(run, priority):
                return run
            queue.popleft()
        if queue is not None:
            self._drop(job, priority)
        return None

    def ahead(self, run: Run, most: int, open_: Callable[[Job], bool]) -> tuple[list[Run], int]:
        """The runs that are asked before a ready one, and how many are of its job; `most` of each.

        Of other jobs only where they are `open_`, and of those with its priority as many as their
        turns bring before it.
        """
        own = self._before(run.job, run.priority, run.id, most)
        found: list[Run] = []
        for priority in self.priorities():
            if priority <= run.priority:
                break
            for job in list(self._rings.get(priority, ())):
                if job is run.job or open_(job):
                    found += self._before(job, priority, None, most - len(found))
        others = [
            self._before(job, run.priority, None, min(len(own) + 1, most))
            for job in list(self._rings.get(run.priority, ()))
            if job is not run.job and open_(job)
        ]
        for turn, mine in enumerate([*own, None]):
            found += [queue[turn] for queue in others if turn < len(queue)]
            if mine is not None:
                found.append(mine)
            if len(found) >= most:
                break
        return found[:most], len(own)

    def _before(self, job: Job, priority: int, until: int | None, most: int) -> list[Run]:
        """The job's ready runs at a priority, each once, up to the one with the id `until`."""
        found: dict[int, Run] = {}
        for number in job.ready.get(priority, ()):
            if number == until or len(found) >= most:
                break
            run = self._runs.get(number)
            if run is not None and self._fits(run, priority):
                found[number] = run
        return list(found.values())

    @staticmethod
    def _fits(run: Run, priority: int) -> bool:
        """Whether the entry still means the run."""
        return run.state is RunState.WAITING and run.due is None and run.priority == priority

    def take(self, run: Run) -> None:
        """Take out the head of a job's queue; the job's turn comes after the others'."""
        queue = run.job.ready[run.priority]
        if not queue or queue.popleft() != run.id:
            raise ValueError(f"run {run.id} is not the next of job {run.job.name}")
        ring = self._rings[run.priority]
        ring.remove(run.job)
        if queue:
            ring.append(run.job)
        else:
            del run.job.ready[run.priority]
            if not ring:
                del self._rings[run.priority]

    def pop(self, run: Run) -> None:
        """Take out the head of a job's queue without its turn being over."""
        queue = run.job.ready[run.priority]
        if not queue or queue.popleft() != run.id:
            raise ValueError(f"run {run.id} is not the next of job {run.job.name}")
        if not queue:
            self._drop(run.job, run.priority)

    def rings(self) -> dict[int, list[int]]:
        """At each priority the ids of the jobs that have a queue, by their turns."""
        return {priority: [job.id for job in ring] for priority, ring in self._rings.items()}

    def restore(self, job: Job, priority: int, ids: Iterable[int]) -> None:
        """Put ids at the end of a job's queue, as they stood in it; `restore_rings` comes last."""
        job.ready.setdefault(priority, deque()).extend(ids)

    def restore_rings(self, rings: dict[int, list[Job]]) -> None:
        """Let the jobs take turns in this order: those of them that have a queue."""
        for priority, jobs in rings.items():
            for job in jobs:
                if priority in job.ready:
                    job.ready[priority] = self._shared(job.ready[priority])
            ring = deque(job for job in jobs if priority in job.ready)
            if ring:
                self._rings[priority] = ring

    def _shared(self, ids: deque[int]) -> deque[int]:
        """The same ids, each as the object that its run has: one of its own takes 32 bytes."""
        runs = ((number, self._runs.get(number)) for number in ids)
        return deque(number if run is None else run.id for number, run in runs)

    def clean(self, job: Job) -> None:
        """Drop a job's stale entries: worth it where most of them are."""
        some = job.waiting > sum(job.parked.values())
        for priority, queue in list(job.ready.items()):
            found = self._fitting(queue, priority) if some else None
            if found:
                job.ready[priority] = deque(found)
            else:
                self._drop(job, priority)

    def _fitting(self, queue: deque[int], priority: int) -> dict[int, None]:
        get, fits = self._runs.get, self._fits
        return dict.fromkeys(
            number for number in queue if (run := get(number)) is not None and fits(run, priority)
        )

    def _drop(self, job: Job, priority: int) -> None:
        del job.ready[priority]
        ring = self._rings[priority]
        ring.remove(job)
        if not ring:
            del self._rings[priority]

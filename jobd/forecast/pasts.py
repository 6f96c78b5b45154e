"""How long the attempts of each job took, and how they ended: the future is drawn from it. Pure.

An attempt holds its share of the host from its claim to its end, so that is what counts here; of
jobs whose runs are no longer kept the run times alone are known (`Job.times`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import exp, sqrt
from random import Random
from typing import NamedTuple

from jobd.core.entities import Attempt, Job, Run
from jobd.core.state import State

#: runs of a job that are looked at, newest first
_RUNS = 40
#: what an attempt is taken to need where none of its job has ended, in milliseconds
ASSUMED = 60_000


class Past(NamedTuple):
    """The last attempts of a job, from claim to end in milliseconds, the shortest first; how many
    of them failed, and the exit status of the last that did."""

    lengths: tuple[int, ...]
    failed: int = 0
    status: int = 1
    #: of those that run on: the longest so far, where it is longer than all that have ended
    beyond: int = 0

    def supposed(self, rng: Random) -> Supposed:
        """What the job's attempts may be like as a whole: the fewer there were, the less is known.

        That of one attempt, the usual length may well be twice or half of it; a job whose only
        attempt failed may fail always, or hardly ever.
        """
        known = len(self.lengths)
        lengths, spread = self.lengths, 0.8 / sqrt(known) if known else 1.5
        if self.beyond:
            # it is not over: it may take twice as long as it has
            lengths = (*lengths, 2 * self.beyond)
        factor = exp(rng.gauss(0, spread))
        failing = rng.betavariate(self.failed + 0.5, known - self.failed + 0.5) if known else 0.0
        if known and not self.failed:
            failing = 0.0
        scaled = tuple(round(ms * factor) for ms in lengths or (ASSUMED,))
        return Supposed(scaled, failing, self.status)

    def usual(self) -> Supposed:
        """What they are like if all goes on as it was."""
        known = len(self.lengths)
        return Supposed(
            self.lengths or (ASSUMED,), self.failed / known if known else 0.0, self.status
        )


class Supposed(NamedTuple):
    """What attempts of a job are taken to be like: lengths, the share that fails, and how."""

    lengths: tuple[int, ...] = (ASSUMED,)
    failing: float = 0.0
    status: int = 1

    def take(self, rng: Random) -> tuple[int, int]:
        """How long an attempt takes, and its exit status: as one of the last ones."""
        return rng.choice(self.lengths), self._status(rng)

    def rest(self, rng: Random, passed: int) -> tuple[int, int]:
        """How much longer one goes on that has run for so long, and its exit status."""
        longer = self.lengths[bisect_right(self.lengths, passed) :]
        # longer than any before it: the longer it has run, the longer it may go on
        left = rng.choice(longer) - passed if longer else round(passed * rng.random())
        return left, self._status(rng)

    def _status(self, rng: Random) -> int:
        return self.status if rng.random() < self.failing else 0


def past(state: State, job: Job) -> Past:
    """What is known of the job's attempts that have ended."""
    lengths: list[int] = []
    statuses: list[int] = []
    for number in reversed(job.runs.below(None, _RUNS)):
        run = state.runs.get(number)
        for attempt in (run.attempts or ()) if run is not None else ():
            ms = _took(attempt)
            if ms is not None and attempt.end is not None:
                lengths.append(ms)
                statuses.append(attempt.end.exit_code or 0)
    failures = [status for status in statuses if status]
    status = failures[0] if failures else 1
    return Past(tuple(sorted(lengths or job.times)), len(failures), status)


def _took(attempt: Attempt) -> int | None:
    if attempt.end is None or attempt.started is None:
        return None
    return max(0, attempt.end.at - attempt.claimed_at)


def pasts(state: State, runs: Iterable[Run], wall: int) -> dict[int, Past]:
    """Of the jobs of these runs and of those that are active, by the jobs' ids."""
    jobs = {run.job.id: run.job for run in (*runs, *state.active.values())}
    return _pasts(state, jobs, wall)


def pasts_of_all(state: State, wall: int) -> dict[int, Past]:
    """Of every job that is there, by the jobs' ids."""
    jobs = {job.id: job for job in state.jobs_by_id.values() if not job.removed or job.active}
    return _pasts(state, jobs, wall)


def _pasts(state: State, jobs: dict[int, Job], wall: int) -> dict[int, Past]:
    found = {number: past(state, job) for number, job in jobs.items()}
    for run in state.active.values():
        attempt, known = run.attempt, found[run.job.id]
        passed = wall - attempt.claimed_at if attempt is not None else 0
        longest = known.lengths[-1] if known.lengths else ASSUMED
        if passed > max(known.beyond, longest):
            found[run.job.id] = known._replace(beyond=passed)
    return found

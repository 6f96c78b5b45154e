"""The circuit breaker of a job: after so many straight failures nothing of it starts for a while.

Then one run is tried (the probe). If that succeeds all go on; if it fails the wait doubles, up to
sixteen times the first. Attempts are counted, those that are charged to the job alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.entities import Job, Run
from jobd.core.model import Now
from jobd.core.moves import Moves
from jobd.core.states import DEAD_OUTCOMES, Outcome
from jobd.units import duration_text

#: how much longer than the first a wait for the probe may get
_LONGEST = 16


class Broken(NamedTuple):
    """Why nothing of a job starts, and for how many milliseconds more (0: until its probe ends)."""

    text: str
    left: int


def after_end(state: Moves, run: Run, end: e.AttemptEnded) -> list[e.Event]:
    """The breaker's event that follows from an attempt's end (not applied yet), if any."""
    job = run.job
    breaker = state.breakers.get(job.id)
    if end.outcome == Outcome.SUCCEEDED:
        if breaker is not None and breaker.until is not None:
            return [e.JobBreakerClosed(job.id, end.at)]
        return []
    allowed = None if job.removed else job.spec.breaker_failures
    if allowed is None or not end.charged or end.outcome not in DEAD_OUTCOMES:
        return []
    failures = (0 if breaker is None else breaker.failures) + 1
    first = job.spec.breaker_probe
    wait = first
    if breaker is not None and breaker.until is not None:
        attempt = run.attempt
        if attempt is None or attempt.claimed_at < breaker.opened_at:
            return []  # it was on its way when the breaker opened: no probe
        wait = min(2 * max(first, breaker.until - breaker.opened_at), _LONGEST * first)
    elif failures < allowed:
        return []
    text = f"{failures} attempts failed in a row, the last one of run {run.id}: {_how(end)}"
    return [e.JobBreakerOpened(job.id, end.at, failures, end.at + wait, text)]


def closing(state: Moves, job: Job, at: int, who: list[Any]) -> list[e.Event]:
    """The event by which somebody closes the job's breaker, where it is open."""
    breaker = state.breakers.get(job.id)
    open_ = breaker is not None and breaker.until is not None
    return [e.JobBreakerClosed(job.id, at, who)] if open_ else []


def broken(state: Moves, job: Job, now: Now) -> Broken | None:
    """Why the job's breaker lets nothing start now, or None."""
    breaker = state.breakers.get(job.id) if state.breakers else None
    if breaker is None or breaker.until is None or job.removed:
        return None
    if job.spec.breaker_failures is None:
        return None
    # a clock that was set back makes nobody wait longer than was meant
    left = min(breaker.until - now.wall, breaker.until - breaker.opened_at)
    resume = f"jobctl resume {job.name} lets all go on"
    if left > 0:
        wait = duration_text((left + 999) // 1000 * 1000)
        text = f"{breaker.text}; one run is tried in {wait}; {resume}"
        return Broken(f"job {job.name} is held by its breaker: {text}", left)
    if job.active:
        text = f"{breaker.text}; one run is being tried; {resume}"
        return Broken(f"job {job.name} is held by its breaker: {text}", 0)
    return None


def _how(end: e.AttemptEnded) -> str:
    return end.outcome if end.exit_code is None else f"{end.outcome}, exit status {end.exit_code}"


# -- what the events do ------------------------------------------------------------------------


def count(state: Moves, job: Job, end: e.AttemptEnded) -> None:
    """Count an attempt's end among the straight failures."""
    breaker = state.breakers.get(job.id)
    if end.outcome == Outcome.SUCCEEDED:
        if breaker is not None:
            breaker.failures = 0
    elif end.charged and end.outcome in DEAD_OUTCOMES and job.spec.breaker_failures is not None:
        state.breaker(job.id).failures += 1


def opened(state: Moves, event: e.JobBreakerOpened) -> None:
    """Nothing of the job starts from now on."""
    state.job(event.job)
    breaker = state.breaker(event.job)
    breaker.failures = event.failures
    breaker.opened_at = event.at
    breaker.until = event.until
    breaker.text = event.text
    state.dirty = True


def closed(state: Moves, event: e.JobBreakerClosed) -> None:
    """All of the job goes on, and is counted anew."""
    state.job(event.job)
    state.breakers.pop(event.job, None)
    state.dirty = True

"""What a damaged queue is made into: events for all that is intact, and holds for the rest. Pure.

A suspect run is never started and never called done by guess: it is held until a person releases,
retries or cancels it. What it is known to have been is kept as far as it can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.remains import Items, JobRemains, Lost, Remains, RunRemains
from jobd.core.state import State
from jobd.core.states import AttemptState, Outcome, RunState
from jobd.units import MAX_MS

#: codes of a hold: what is known may be released; of what cannot be read nothing can be started
SUSPECT, UNREADABLE = "suspect", "unreadable"
#: the job that runs belong to whose own cannot be read
_NO_JOB = "unreadable"

_Attempt = e.AttemptClaimed | e.AttemptStarted | e.AttemptEnded


_OF_JOBS = e.JobRemoved | e.JobPaused | e.JobResumed | e.JobRunsCancelled


class Hold(NamedTuple):
    """Why a run is held: a code, and what happened to its records."""

    code: str
    why: str


class Verdict:
    """Which runs are suspect and which jobs marked. `doubted`: runs and jobs found impossible."""

    def __init__(
        self,
        remains: Remains,
        doubted: Collection[int] = (),
        doubted_jobs: Collection[int] = (),
        bodies: Collection[int] = (),
    ) -> None:
        """`bodies`: live runs whose payload, a file of its own, is damaged."""
        self.remains = remains
        #: of these only what makes a job is taken: the rest does not follow from each other
        self.doubted_jobs = frozenset(doubted_jobs)
        self.jobs = {
            number: why
            for number, job in sorted(remains.jobs.items())
            if (why := self._job(number, job, doubted_jobs))
        }
        self.runs = {
            number: hold
            for number, run in sorted(remains.runs.items())
            if (hold := self._run(number, run, doubted, bodies))
        }
        self.host = remains.host.hurt

    def _job(self, number: int, job: JobRemains, doubted: Collection[int]) -> str:
        unknown = sorted(job.pinned - set(job.specs))
        if job.hurt:
            return job.hurt
        if number in doubted:
            return "its records contradict each other"
        if unknown:
            return f"its revision {unknown[0]} cannot be read"
        if job.last < self.remains.last_loss:
            return "records of it may be among those that nobody can name"
        return ""

    def _run(
        self, number: int, run: RunRemains, doubted: Collection[int], bodies: Collection[int]
    ) -> Hold | None:
        if run.settled:
            return None
        if run.job == 0:
            return Hold(UNREADABLE, run.hurt)
        if run.hurt:
            return Hold(SUSPECT, run.hurt)
        if number in doubted:
            return Hold(SUSPECT, "its records contradict each other")
        if run.state is RunState.DONE:
            return None
        why = self._of_others(run)
        if number in bodies:
            why = "its payload, a file of its own, is damaged or missing"
        elif run.last < self.remains.last_loss:
            why = "records of it may be among those that nobody can name"
        return Hold(SUSPECT, why) if why else None

    def _of_others(self, run: RunRemains) -> str:
        """What makes a live run suspect although its own records are all there."""
        job = self.remains.jobs[run.job]
        if job.hurt or run.revision not in job.specs:
            return "the records of its job are damaged"
        gone = [parent for parent in run.after if parent not in self.remains.runs]
        if gone and not run.freed:
            return f"nothing is left of run {gone[0]}, which it waits for"
        return ""


def bodies_of(remains: Remains) -> dict[int, list[Any]]:
    """The payloads that are files of their own, of runs that are not over."""
    return {
        number: run.body
        for number, run in remains.runs.items()
        if run.body is not None and run.state is not RunState.DONE
    }


class Salvage:
    """The events of the queue that is written anew, behind the state `base`.

    `at` is now (milliseconds UTC), `caller` who has it done.
    """

    def __init__(
        self, items: Items, base: State, verdict: Verdict, at: int, caller: list[Any]
    ) -> None:
        self._base = base
        self._items, self._verdict, self._at, self._caller = items, verdict, at, caller
        self._remains = verdict.remains
        self._kept: dict[int, dict[int, dict[type[Any], _Attempt]]] = {}
        jobs = base.jobs_by_id.values()
        self._paused = {job.id for job in jobs if job.paused or job.removed}
        self._registered = {job.id for job in jobs}
        self._drained = base.host.drained_at is not None
        self._no_job = self._remains.next_job

    def events(self) -> Iterator[e.Event]:
        """All of them, in the order in which they are applied."""
        yield from self._stand_ins()
        for place, item in enumerate(self._items(), 1):
            if isinstance(item, Lost) or item.event is None or place in self._remains.twice:
                continue
            if item.kind == e.RUN:
                yield from self._of_run(item.event)
            elif item.kind == e.JOB:
                yield from self._of_job(item.event)
            else:
                if isinstance(item.event, e.HostDrainStarted | e.HostDrainEnded):
                    self._drained = isinstance(item.event, e.HostDrainStarted)
                yield item.event
        for number, hold in self._verdict.runs.items():
            yield from self._unwound(number)
            yield from self._held(number, hold)
        for number in self._verdict.jobs:
            if number in self._registered and number not in self._paused:
                yield e.JobPaused(number, self._at, self._caller)
        if self._verdict.host and not self._drained:
            yield e.HostDrainStarted(1, self._at, self._caller)
        next_job = self._no_job + 1
        yield e.HostSalvaged(1, self._at, self._caller, self._remains.next_run, next_job)

    # -- what has to be there first --------------------------------------------------------

    def _stand_ins(self) -> Iterator[e.Event]:
        """Jobs and runs that others refer to and that cannot be read."""
        for number, job in sorted(self._remains.jobs.items()):
            for revision in sorted(job.pinned - set(job.specs)):
                name, spec = _nearest(number, job, revision)
                yield self._register(number, name, revision, spec)
        lost = [number for number, hold in self._verdict.runs.items() if hold.code == UNREADABLE]
        if not lost:
            return
        names = {name for job in self._remains.jobs.values() for name, _ in job.specs.values()}
        name = next(n for n in (f"{_NO_JOB}{'-' * i}" for i in range(64)) if n not in names)
        yield self._register(self._no_job, name, 1, _nothing(name))
        yield e.JobPaused(self._no_job, self._at, self._caller)
        for number in lost:
            yield e.RunQueued(number, self._no_job, 1, self._at, "api", self._caller, b"")

    def _register(self, job: int, name: str, revision: int, spec: dict[str, Any]) -> e.Event:
        self._registered.add(job)
        return e.JobRegistered(job, name, revision, spec, self._at, self._caller)

    # -- record by record ------------------------------------------------------------------

    def _of_job(self, event: e.Event) -> Iterator[e.Event]:
        number = event[0]
        if isinstance(event, e.JobRegistered):
            self._registered.add(number)
        elif number not in self._registered or (
            number in self._verdict.doubted_jobs and not isinstance(event, _OF_JOBS)
        ):
            return
        elif isinstance(event, e.JobRunsCancelled):
            # what became of a suspect run is not known: this word does not decide it
            ranges = list(_without(event.ranges, self._verdict.runs))
            event = event._replace(ranges=ranges)
        elif isinstance(event, e.JobPaused):
            self._paused.add(number)
        elif isinstance(event, e.JobResumed | e.JobRemoved):
            self._paused.discard(number)
        yield event

    def _believed(self, event: e.Event) -> bool:
        return event[0] not in self._verdict.doubted_jobs or isinstance(event, _OF_JOBS)

    def _of_run(self, event: e.Event) -> Iterator[e.Event]:
        number = event[0]
        hold = self._verdict.runs.get(number)
        if isinstance(event, e.RunQueued):
            yield self._queued(event, hold)
        elif hold is None:
            yield event
        elif isinstance(event, e.RunEdited) and hold.code == SUSPECT:
            changes = {k: v for k, v in event.changes.items() if k != "expires_at"}
            yield event._replace(changes=changes)
        elif isinstance(event, e.AttemptClaimed | e.AttemptStarted | e.AttemptEnded):
            self._kept.setdefault(number, {}).setdefault(event.number, {})[type(event)] = event

    def _queued(self, event: e.RunQueued, hold: Hold | None) -> e.RunQueued:
        """As it was, but for what would move a suspect run by itself, and parents that are
        suspect themselves and had let it go."""
        options = dict(event.options or {})
        run = self._remains.runs[event.run]
        if hold is not None:
            options.pop("expires_at", None)
        if "after" in options and (run.freed or self._attempts(event.run)):
            unsure = self._verdict.runs
            left = [pair for pair in options["after"] if pair[0] not in unsure]
            if hold is not None:
                left = []
            options["after"] = left
            if not left:
                del options["after"]
        return event._replace(options=options or None)

    # -- what is held ----------------------------------------------------------------------

    def _attempts(self, number: int) -> int:
        """How many attempts a suspect run may have had: their names are not used again."""
        run = self._remains.runs[number]
        unseen = run.last < self._remains.last_loss and run.state is not RunState.DONE
        # blocked by its parents as far as is known: then it stays so
        return run.attempts + (unseen and (run.freed or not run.after))

    def _unwound(self, number: int) -> Iterator[e.Event]:
        """Makes a run that the base knows wait, so that it can be held."""
        run = self._base.runs.get(number)
        if run is None:
            return
        attempt = run.attempt
        if run.state is RunState.HELD:
            yield e.RunReleased(number, self._at, self._caller)
        elif run.state is RunState.ACTIVE and attempt is not None:
            if attempt.state is not AttemptState.ENDED:
                known = self._kept.get(number, {}).get(attempt.number, {})
                yield known.get(e.AttemptEnded) or self._lost(number, attempt.number)
            yield e.RunRequeued(number, self._at, 0)
        if run.expires_at is not None:
            # it may have been done: time alone must not end it
            yield e.RunEdited(number, self._at, {"expires_at": self._at + MAX_MS}, self._caller)

    def _lost(self, number: int, attempt: int) -> e.AttemptEnded:
        text = "its records are damaged: it may have run"
        return e.AttemptEnded(number, attempt, self._at, Outcome.LOST, False, None, text)

    def _held(self, number: int, hold: Hold) -> Iterator[e.Event]:
        kept = self._kept.get(number, {})
        base = self._base.runs.get(number)
        first = 1 + (len(base.attempts or ()) if base is not None else 0)
        # one that its parents had not let go of has no attempt that could be told of
        last = 0 if base is not None and base.parents else self._attempts(number)
        for attempt in range(first, last + 1):
            known = kept.get(attempt, {})
            yield known.get(e.AttemptClaimed) or e.AttemptClaimed(number, attempt, self._at)
            started = known.get(e.AttemptStarted)
            if started is not None:
                yield started
            yield known.get(e.AttemptEnded) or self._lost(number, attempt)
            if attempt < last:
                yield e.RunRequeued(number, self._at, 0)
        run = self._remains.runs[number]
        if hold.code == UNREADABLE:
            what = f"nothing is known of what it was to do; jobctl cancel {number}, queue it anew"
        else:
            state = run.outcome or (run.state.name.lower() if run.state is not None else "queued")
            what = f"it was {state} as far as is known; release, retry or cancel it"
        text = f"is suspect after damage to the queue: {hold.why}; {what}"
        yield e.RunHeld(number, self._at, hold.code, text, self._caller)


def _nothing(name: str) -> dict[str, Any]:
    """A definition for a job of which there is none: it cannot succeed."""
    return {"name": name, "command": ["false"]}


def _nearest(number: int, job: JobRemains, revision: int) -> tuple[str, dict[str, Any]]:
    """Name and definition for a revision that cannot be read: the nearest one that can."""
    if not job.specs:
        name = f"job-{number}"
        return name, _nothing(name)
    return job.specs[min(job.specs, key=lambda known: abs(known - revision))]


def _without(ranges: list[list[int]], unsure: Collection[int]) -> Iterator[list[int]]:
    """The ranges with those ids taken out."""
    for first, last in ranges:
        start = first
        for number in sorted(n for n in unsure if first <= n <= last):
            if number > start:
                yield [start, number - 1]
            start = number + 1
        if start <= last:
            yield [start, last]

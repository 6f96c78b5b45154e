"""Everything in memory, and the one way in which it changes: `apply(event)`.

Nothing here looks at a clock: what only time decides (delayed, retrying, due) follows from the
event's own times, and core/timers.py moves it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jobd.core import alertbook, arrived, breaker, edits, machine, reacted, scheduled
from jobd.core import events as e
from jobd.core.commands import Body
from jobd.core.entities import Attempt, Host, Job, Run
from jobd.core.moves import Moves
from jobd.core.rates import Bucket
from jobd.core.states import Outcome, RunState
from jobd.core.stored import stored
from jobd.errors import InvalidError

#: where a run begins
_NEW = machine.run_after(0, None, e.RunQueued)
#: small sizes, each number once
_SIZES_KEPT = 4096
_SIZES = tuple(range(_SIZES_KEPT))


def shared_size(size: int) -> int:
    """The same number; a small one as one object for all, as its own would cost a run 32 bytes."""
    return _SIZES[size] if size < _SIZES_KEPT else size


class State(Moves):
    """Jobs, runs, and the indexes over them. One owner: the core loop's thread."""

    def __init__(self) -> None:
        super().__init__()
        #: when the last run was queued, and what only some have: one object for all of the same
        self._at = 0
        self._options: dict[str, Any] = {}
        #: that run, its trigger and its caller
        self._queued: Run | None = None
        self._trigger = ""
        self._caller: list[Any] = []
        self._user: int | str = 0
        self._appliers: dict[type[Any], Callable[[Any], None]] = {
            e.JobRegistered: self._job_registered,
            e.JobRemoved: self._job_removed,
            e.JobPaused: self._job_paused,
            e.JobResumed: self._job_resumed,
            e.RunRequeued: self._run_requeued,
            e.RunFinished: self._run_finished,
            e.RunHeld: self._run_held,
            e.RunReleased: self._run_released,
            e.AttemptClaimed: self._attempt_claimed,
            e.AttemptStarted: self._attempt_started,
            e.AttemptStopping: self._attempt_stopping,
            e.AttemptEnded: self._attempt_ended,
            e.HostRunsArchived: self._runs_archived,
            **{cls: partial(change, self) for cls, change in edits.APPLIERS.items()},
            **{cls: partial(change, self) for cls, change in scheduled.APPLIERS.items()},
            **{cls: partial(change, self) for cls, change in reacted.APPLIERS.items()},
            **{cls: partial(change, self) for cls, change in arrived.APPLIERS.items()},
            **{cls: partial(change, self) for cls, change in alertbook.APPLIERS.items()},
        }

    # -- reading ---------------------------------------------------------------------------

    def live_runs(self) -> Iterator[Run]:
        """Every run that is not over, newest first."""
        return (run for run in self.runs.newest_first() if run.state is not RunState.DONE)

    # -- changing --------------------------------------------------------------------------

    def apply(self, event: e.Event) -> int:
        """Take the event in; returns the revision that its record carries.

        Raises TransitionError for what cannot happen, before anything was changed.
        """
        cls = type(event)
        if cls is e.RunQueued:
            # a run's first change, and the one that comes by the thousand
            return self._run_queued(event)
        self._appliers[cls](event)
        kind = e.KIND_OF[cls]
        subject: Job | Run | Host
        if kind == e.RUN:
            subject = self.run(event[0])
        elif kind == e.JOB:
            subject = self.jobs_by_id[event[0]]
        else:
            subject = self.host
        subject.rev += 1
        return subject.rev

    def placed(self, event: e.Event, where: int) -> None:
        """Take note of where the event's record lies, if it has bytes that stay on disk."""
        if type(event) is e.RunQueued:
            run = self._queued
            if run is None or run.id != event[0]:
                run = self.run(event[0])
            run.where = where
        elif type(event) is e.AttemptEnded:
            self.attempt(self.run(event.run), event.number).where = where

    def make_ready(self, run: Run) -> None:
        """Its time has come: it may start as soon as it fits."""
        self.lift(run)
        run.due = None
        # a retried run is older than what was queued since: it does not go to the end
        self.settle(run, front=bool(run.attempts))

    def forget(self, run: Run) -> None:
        """Let go of a finished run, which no child needs any more (`children.needed`)."""
        self.runs.remove(run.id)
        self.made.forget(run.id)
        made_by = run.option("made_by")
        if made_by is not None:
            self.made.left(run.id, made_by[0])
        key = run.option("key")
        if key is not None and run.job.keys.get(key) == run.id:
            del run.job.keys[key]

    # -- one method an event ---------------------------------------------------------------

    def _job_registered(self, event: e.JobRegistered) -> None:
        try:
            spec, notes = stored(event.spec, event.name)
        except InvalidError as error:
            raise machine.TransitionError(f"job {event.job}: its definition: {error}") from None
        self.notes += [f"job {event.name}, revision {event.revision}: {note}" for note in notes]
        job = self.jobs_by_id.get(event.job)
        if job is None:
            job = Job(event.job, event.name)
            self.jobs_by_id[job.id] = job
            self.next_job = max(self.next_job, job.id + 1)
        job.revisions[event.revision] = spec
        # the same revision again: it has moved to another origin, and was made before
        job.made.setdefault(event.revision, (event.at, event.caller))
        job.revision = event.revision
        job.registered_at = event.at
        job.origin = event.origin
        job.removed = False
        self.schedules.sync(job, spec.schedules, event.at, event.caller)
        self.watches.sync(job, spec.watches, event.at)
        self.jobs_changed = True
        self.alerts.registered(job.id, bool(spec.alerts))
        self.jobs[job.name] = job
        self.reactions.sync(job, self.children)
        self.dirty = True

    def _job_removed(self, event: e.JobRemoved) -> None:
        job = self.job(event.job)
        job.removed = True
        self.schedules.drop(job)
        self.reactions.sync(job, self.children)
        self.watches.drop(job)
        self.jobs_changed = True
        job.paused = False
        self.jobs.pop(job.name, None)

    def _job_paused(self, event: e.JobPaused) -> None:
        self.job(event.job).paused = True
        self.dirty = True

    def _job_resumed(self, event: e.JobResumed) -> None:
        self.job(event.job).paused = False
        self.dirty = True

    def _run_queued(self, event: Any) -> int:
        number, job_id, revision, at, trigger, who, payload, priority, options, request, n = event
        job = self.jobs_by_id.get(job_id) or self.job(job_id)
        spec = job.revisions.get(revision)
        if spec is None:
            raise machine.TransitionError(f"job {job_id}: no revision {revision}")
        run = Run(number, job, revision)
        run.state = _NEW
        run.rev = 1
        run.priority = priority
        if at == self._at:
            at = self._at
        else:
            self._at = at
        run.queued_at = at
        try:
            self.runs.add(run)
        except ValueError:
            raise machine.TransitionError(f"run {number}: queued twice") from None
        if who == self._caller and trigger == self._trigger and self._queued is not None:
            run.origin = self._queued.origin
        else:
            origin = (trigger, *who)
            run.origin = self._origins.setdefault(origin, origin)
            if len(self._origins) > 4096:
                self._origins.clear()
            self._trigger, self._caller, self._user = trigger, who, run.user
        self._queued = run
        if type(payload) is bytes:
            run.size = shared_size(len(payload))
        else:
            run.body, run.size = Body(*payload), payload[1]
        if spec.overlap == "replace":
            self.replaceable.setdefault(job_id, {})[number] = None
        if number >= self.next_run:
            self.next_run = number + 1
        if request is not None:
            self.requests.add(request, number, n)
        if options is None:
            # as `wait`, of one that nothing keeps aside: one of a million
            self.waiting += 1
            job.waiting += 1
            self.waiting_of[self._user] = self.waiting_of.get(self._user, 0) + 1
            self.push(run)
        else:
            self._take_options(run, options, at)
            self.wait(run)
        return 1

    def _take_options(self, run: Run, options: dict[str, Any], at: int) -> None:
        """What only some new runs have: a key, a date, parents."""
        if options == self._options:
            options = self._options  # those of one request are one, also in a replay
        else:
            self._options = options
        run.options = options
        if options.get("overlap") == "replace":
            self.replaceable.setdefault(run.job.id, {})[run.id] = None
        if "labels" in options:
            self.runs.labelled(run.id)
        if "drop" in options:
            self.drops.add(options["drop"][0], run.id)
        if "key" in options:
            run.job.keys[options["key"]] = run.id
        if "made_by" in options:
            self.made.add(run.id, options["made_by"][0])
        not_before = options.get("not_before")
        if not_before is not None and not_before > at:
            run.due = not_before
        if "after" in options:
            run.parents = self.children.add(run, self.runs)

    def _run_requeued(self, event: e.RunRequeued) -> None:
        run = self.run(event.run)
        self.leave(run, e.RunRequeued)
        if event.memory is not None:
            run.options = {**(run.options or {}), "memory": event.memory}
        if event.delay > 0:
            run.due = event.at + event.delay
        self.wait(run, front=True)

    def _run_finished(self, event: e.RunFinished) -> None:
        try:
            outcome = Outcome(event.outcome)
        except ValueError:
            raise machine.TransitionError(
                f"run {event.run}: no such outcome: {event.outcome!r:.40}"
            ) from None
        run = self.run(event.run)
        self.leave(run, e.RunFinished)
        run.note = event
        self.runs.ended(run.id, event.at)
        if outcome is Outcome.SUCCEEDED:
            self.alerts.succeeded[run.job.id] = event.at
        self.finish(run, outcome)

    def _run_held(self, event: e.RunHeld) -> None:
        run = self.run(event.run)
        self.leave(run, e.RunHeld)
        run.note = event
        self.held += 1
        run.job.held += 1

    def _run_released(self, event: e.RunReleased) -> None:
        run = self.run(event.run)
        self.leave(run, e.RunReleased)
        run.note = None
        self.wait(run, front=True)

    def _runs_archived(self, event: e.HostRunsArchived) -> None:
        leaving = []
        for first, last in event.ranges:
            for number in range(first, last + 1):
                run = self.run(number)
                machine.run_after(number, run.state, e.HostRunsArchived)
                if self.children.needed(number):
                    raise machine.TransitionError(f"run {number}: left while a child needs it")
                leaving.append(run)
        for run in leaving:
            self.gone.add(run.id, run.queued_at)
            self.forget(run)

    def _attempt_claimed(self, event: e.AttemptClaimed) -> None:
        run = self.run(event.run)
        state = machine.run_after(run.id, run.state, e.AttemptClaimed)
        if event.number != len(run.attempts or ()) + 1:
            raise machine.TransitionError(f"run {run.id}: attempt {event.number} is not its next")
        if run.parents:
            raise machine.TransitionError(f"run {run.id}: claimed while it waits for parents")
        attempt = Attempt(event.number, event.at, event.gpus)
        attempt.state = machine.attempt_after(run.id, None, e.AttemptClaimed)
        if run.due is None:
            self.take(run)
        else:
            # in a replay: that its time came was no event, so it is still put aside as not due
            self.lift(run)
            run.due = None
        self.runs.move(run, state)
        if run.attempts is None:
            run.attempts = []
        run.attempts.append(attempt)
        self.count(run, -1)
        job = run.job
        job.active += 1
        self.active[run.id] = run
        self.active_of[run.spec.kind] += 1
        self.reserved_millicpus += round(run.spec.cpus * 1000)
        self.reserved_memory += run.memory
        self.reserved_gpus += run.spec.gpus
        self._claim_limits(run, event.at)

    def _claim_limits(self, run: Run, at: int) -> None:
        """Take of what the run's limits allow; with what counted when it was claimed."""
        spec = run.ruling
        if spec.rate is not None:
            self.buckets.setdefault(run.job.id, Bucket()).take(spec.rate, spec.burst, at)
        if spec.group is not None:
            self.groups.claimed(run.id, spec.group, at)
        if run.options is not None:
            self.mutexes.claimed(run)

    def _attempt_started(self, event: e.AttemptStarted) -> None:
        self.move_attempt(event.run, event.number, e.AttemptStarted).started = event

    def _attempt_stopping(self, event: e.AttemptStopping) -> None:
        attempt = self.move_attempt(event.run, event.number, e.AttemptStopping)
        if attempt.stopping is not None:
            # stopped for its time and then cancelled: it was told when it was told first
            event = event._replace(at=attempt.stopping.at)
        attempt.stopping = event

    def _attempt_ended(self, event: e.AttemptEnded) -> None:
        attempt = self.move_attempt(event.run, event.number, e.AttemptEnded)
        result = event.result
        kept = len(result) if isinstance(result, bytes) else result
        attempt.end = event._replace(log_tail=b"", result=kept)
        run = self.run(event.run)
        if attempt.started is not None:
            finished = event.finished_at or event.at
            run.job.times.append(max(0, finished - attempt.started.started_at))
        del self.active[run.id]
        self.active_of[run.spec.kind] -= 1
        run.job.active -= 1
        self.reserved_millicpus -= round(run.spec.cpus * 1000)
        self.reserved_memory -= run.memory
        self.reserved_gpus -= run.spec.gpus
        breaker.count(self, run.job, event)
        self.groups.ended(run.id)
        if run.options is not None:
            key = self.mutexes.ended(run)
            if key is not None:
                self.wake(key)
        self.dirty = True

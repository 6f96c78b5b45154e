"""Everything in memory, and the one way in which it changes: `apply(event)`.

Nothing here looks at a clock: what only time decides (delayed, retrying, due) follows from the
event's own times, and core/timers.py moves it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jobd.core import events as e
from jobd.core import machine
from jobd.core.commands import Body
from jobd.core.entities import Attempt, Job, Run
from jobd.core.ready import Ready
from jobd.core.requests import Requests
from jobd.core.runs import RunTable
from jobd.core.spec import parse
from jobd.core.states import AttemptState, Outcome, RunState, Status
from jobd.errors import InvalidError


class State:
    """Jobs, runs, and the indexes over them. One owner: the core loop's thread."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.jobs_by_id: dict[int, Job] = {}
        self.runs = RunTable()
        self.ready = Ready(self.runs)
        self.requests = Requests()
        #: runs with a live attempt, by id, oldest claim first
        self.active: dict[int, Run] = {}
        self.next_run = 1
        self.next_job = 1
        #: what live attempts hold of the host: thousandths of a core (they do not drift), bytes
        self.reserved_millicpus = 0
        self.reserved_memory = 0
        self.waiting = 0
        #: of the waiting: those that are not due
        self.parked = {Status.RETRYING: 0, Status.DELAYED: 0}
        self.held = 0
        self.done: dict[Outcome, int] = {}
        #: set by whatever may let a waiting run start; cleared by dispatch
        self.dirty = True
        self._origins: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._appliers: dict[type[Any], Callable[[Any], None]] = {
            e.JobRegistered: self._job_registered,
            e.JobRemoved: self._job_removed,
            e.JobPaused: self._job_paused,
            e.JobResumed: self._job_resumed,
            e.RunQueued: self._run_queued,
            e.RunRequeued: self._run_requeued,
            e.RunFinished: self._run_finished,
            e.RunHeld: self._run_held,
            e.RunReleased: self._run_released,
            e.AttemptClaimed: self._attempt_claimed,
            e.AttemptStarted: self._attempt_started,
            e.AttemptStopping: self._attempt_stopping,
            e.AttemptEnded: self._attempt_ended,
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
        self._appliers[type(event)](event)
        subject: Job | Run | None
        if e.KIND_OF[type(event)] == e.JOB:
            subject = self.jobs_by_id[event[0]]
        else:
            subject = self.runs.get(event[0])
        assert subject is not None
        subject.rev += 1
        return subject.rev

    def placed(self, event: e.Event, where: int) -> None:
        """Take note of where the event's record lies, if it has bytes that stay on disk."""
        if type(event) is e.RunQueued:
            self._run(event.run).where = where
        elif type(event) is e.AttemptEnded:
            self._attempt(self._run(event.run), event.number).where = where

    def make_ready(self, run: Run) -> None:
        """Its time has come: it may start as soon as it fits."""
        self._park(run, -1)
        run.due = None
        # a retried run is older than what was queued since: it does not go to the end
        self._push(run, front=bool(run.attempts))

    def forget(self, run: Run) -> None:
        """Let go of a finished run."""
        self.runs.remove(run.id)
        key = run.option("key")
        if key is not None and run.job.keys.get(key) == run.id:
            del run.job.keys[key]

    # -- one method an event ---------------------------------------------------------------

    def _job_registered(self, event: e.JobRegistered) -> None:
        try:
            spec = parse(event.spec)
        except InvalidError as error:
            raise machine.TransitionError(f"job {event.job}: its definition: {error}") from None
        job = self.jobs_by_id.get(event.job)
        if job is None:
            job = Job(event.job, event.name)
            self.jobs_by_id[job.id] = job
            self.next_job = max(self.next_job, job.id + 1)
        job.revisions[event.revision] = spec
        job.revision = event.revision
        job.registered_at = event.at
        job.origin = event.origin
        job.removed = False
        self.jobs[job.name] = job
        self.dirty = True

    def _job_removed(self, event: e.JobRemoved) -> None:
        job = self._job(event.job)
        job.removed = True
        job.paused = False
        self.jobs.pop(job.name, None)

    def _job_paused(self, event: e.JobPaused) -> None:
        self._job(event.job).paused = True
        self.dirty = True

    def _job_resumed(self, event: e.JobResumed) -> None:
        self._job(event.job).paused = False
        self.dirty = True

    def _run_queued(self, event: e.RunQueued) -> None:
        job = self._job(event.job)
        if self.runs.get(event.run) is not None:
            raise machine.TransitionError(f"run {event.run}: queued twice")
        if event.revision not in job.revisions:
            raise machine.TransitionError(f"job {job.id}: no revision {event.revision}")
        run = Run(event.run, job, event.revision)
        run.state = machine.run_after(run.id, None, e.RunQueued)
        run.priority = event.priority
        run.queued_at = event.at
        origin = (event.trigger, *event.caller)
        run.origin = self._origins.setdefault(origin, origin)
        if len(self._origins) > 4096:
            self._origins.clear()
        run.options = event.options
        payload = event.payload
        if isinstance(payload, bytes):
            run.size = len(payload)
        else:
            run.body = Body(*payload)
            run.size = run.body.size
        self.runs.add(run)
        if run.id >= self.next_run:
            self.next_run = run.id + 1
        if event.request is not None:
            self.requests.add(event.request, run.id, event.batch_index)
        if event.options and "key" in event.options:
            job.keys[event.options["key"]] = run.id
        self.waiting += 1
        job.waiting += 1
        not_before = run.option("not_before")
        if not_before is not None and not_before > event.at:
            run.due = not_before
            self._park(run, 1)
        else:
            self._push(run)

    def _run_requeued(self, event: e.RunRequeued) -> None:
        run = self._leave(event.run, e.RunRequeued)
        self._wait(run)
        if event.delay > 0:
            run.due = event.at + event.delay
            self._park(run, 1)
        else:
            self._push(run, front=True)

    def _run_finished(self, event: e.RunFinished) -> None:
        try:
            outcome = Outcome(event.outcome)
        except ValueError:
            raise machine.TransitionError(
                f"run {event.run}: no such outcome: {event.outcome!r:.40}"
            ) from None
        run = self._leave(event.run, e.RunFinished)
        run.note = event
        run.due = None
        self.done[outcome] = self.done.get(outcome, 0) + 1
        run.job.done[outcome] = run.job.done.get(outcome, 0) + 1

    def _run_held(self, event: e.RunHeld) -> None:
        run = self._leave(event.run, e.RunHeld)
        run.note = event
        self.held += 1
        run.job.held += 1

    def _run_released(self, event: e.RunReleased) -> None:
        run = self._leave(event.run, e.RunReleased)
        run.note = None
        self._wait(run)
        if run.due is None:
            self._push(run, front=True)
        else:
            self._park(run, 1)

    def _attempt_claimed(self, event: e.AttemptClaimed) -> None:
        run = self._run(event.run)
        state = machine.run_after(run.id, run.state, e.AttemptClaimed)
        if event.number != len(run.attempts or ()) + 1:
            raise machine.TransitionError(f"run {run.id}: attempt {event.number} is not its next")
        attempt = Attempt(event.number, event.at)
        attempt.state = machine.attempt_after(run.id, None, e.AttemptClaimed)
        if run.due is None:
            self._ready_take(run)
        else:
            # in a replay: that its time came was no event, so it is still put aside as not due
            self._park(run, -1)
            run.due = None
        run.state = state
        if run.attempts is None:
            run.attempts = []
        run.attempts.append(attempt)
        self.waiting -= 1
        run.job.waiting -= 1
        run.job.active += 1
        self.active[run.id] = run
        self.reserved_millicpus += round(run.spec.cpus * 1000)
        self.reserved_memory += run.spec.memory

    def _attempt_started(self, event: e.AttemptStarted) -> None:
        self._move_attempt(event.run, event.number, e.AttemptStarted).started = event

    def _attempt_stopping(self, event: e.AttemptStopping) -> None:
        attempt = self._move_attempt(event.run, event.number, e.AttemptStopping)
        if attempt.stopping is not None:
            # stopped for its time and then cancelled: it was told when it was told first
            event = event._replace(at=attempt.stopping.at)
        attempt.stopping = event

    def _attempt_ended(self, event: e.AttemptEnded) -> None:
        attempt = self._move_attempt(event.run, event.number, e.AttemptEnded)
        result = event.result
        kept = len(result) if isinstance(result, bytes) else result
        attempt.end = event._replace(log_tail=b"", result=kept)
        run = self._run(event.run)
        del self.active[run.id]
        run.job.active -= 1
        self.reserved_millicpus -= round(run.spec.cpus * 1000)
        self.reserved_memory -= run.spec.memory
        self.dirty = True

    # -- small steps -----------------------------------------------------------------------

    def _job(self, id_: int) -> Job:
        job = self.jobs_by_id.get(id_)
        if job is None:
            raise machine.TransitionError(f"job {id_}: not known")
        return job

    def _run(self, id_: int) -> Run:
        run = self.runs.get(id_)
        if run is None:
            raise machine.TransitionError(f"run {id_}: not known")
        return run

    def _attempt(self, run: Run, number: int) -> Attempt:
        attempts = run.attempts or []
        if not 0 < number <= len(attempts) or attempts[number - 1].number != number:
            raise machine.TransitionError(f"run {run.id}: no attempt {number}")
        return attempts[number - 1]

    def _leave(self, id_: int, event: type) -> Run:
        """Move the run by the table, and take it out of the counts of where it was."""
        run = self._run(id_)
        before, after = run.state, machine.run_after(id_, run.state, event)
        attempt = run.attempt
        if before is RunState.ACTIVE and attempt and attempt.state is not AttemptState.ENDED:
            raise machine.TransitionError(f"run {id_}: {event.__name__} before its attempt ended")
        run.state = after
        if before is RunState.WAITING:
            self.waiting -= 1
            run.job.waiting -= 1
            if run.due is not None:
                self._park(run, -1)
            elif run.job.reason is not None:
                self.dirty = True  # it may be the one that others had to wait behind
        elif before is RunState.HELD:
            self.held -= 1
            run.job.held -= 1
        return run

    def _move_attempt(self, id_: int, number: int, event: type) -> Attempt:
        run = self._run(id_)
        attempt = self._attempt(run, number)
        state = machine.attempt_after(id_, attempt.state, event)
        run.state = machine.run_after(id_, run.state, event)
        attempt.state = state
        return attempt

    def _park(self, run: Run, change: int) -> None:
        word = Status.RETRYING if run.attempts else Status.DELAYED
        self.parked[word] += change
        run.job.parked[word] += change

    def _wait(self, run: Run) -> None:
        self.waiting += 1
        run.job.waiting += 1

    def _push(self, run: Run, *, front: bool = False) -> None:
        # behind one that is already known not to fit, another of the same job changes nothing
        if front or run.job.reason is None or run.priority not in run.job.ready:
            self.dirty = True
        self.ready.push(run, front=front)

    def _ready_take(self, run: Run) -> None:
        """Take a run out of the ready index: the head it was found at, or left to go stale."""
        if self.ready.head(run.job, run.priority) is run:
            self.ready.take(run)

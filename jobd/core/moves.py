"""The tables of everything in memory, and the small steps of which every change is made.

core/state.py and core/edits.py make events' effects of them. What only time or another run's end
decides (due, blocked) moves a waiting run between two places alone: put aside and counted by its
word, or in the ready index.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from jobd.core import machine
from jobd.core.alertbook import AlertBook
from jobd.core.drops import Drops
from jobd.core.entities import Attempt, Breaker, Host, Job, Run
from jobd.core.gone import Gone
from jobd.core.groups import Groups
from jobd.core.made import Made
from jobd.core.model import Needs
from jobd.core.mutexes import Mutexes
from jobd.core.parents import Children
from jobd.core.rates import Bucket
from jobd.core.reactions import Reactions
from jobd.core.ready import Ready
from jobd.core.requests import Requests
from jobd.core.runs import RunTable
from jobd.core.schedules import Schedules
from jobd.core.states import AttemptState, Kind, Outcome, RunState, Status
from jobd.core.watches import Watches


class Moves:
    """Jobs, runs, and the indexes over them. One owner: the core loop's thread."""

    def __init__(self) -> None:
        self.host = Host()
        self.jobs: dict[str, Job] = {}
        self.jobs_by_id: dict[int, Job] = {}
        self.runs = RunTable()
        self.ready = Ready(self.runs)
        self.requests = Requests()
        self.children = Children()
        self.made = Made()
        self.groups = Groups()
        self.mutexes = Mutexes()
        #: what is left of the rates of jobs that have one, by job
        self.buckets: dict[int, Bucket] = {}
        #: straight failures of jobs that have a breaker, by job
        self.breakers: dict[int, Breaker] = {}
        #: runs of jobs with overlap = replace that are not over, by job
        self.replaceable: dict[int, dict[int, None]] = {}
        self.schedules = Schedules()
        self.reactions = Reactions()
        self.drops = Drops()
        self.watches = Watches()
        #: jobs were registered or removed, since somebody last looked
        self.jobs_changed = False
        self.alerts = AlertBook()
        #: runs with a live attempt, by id, oldest claim first
        self.active: dict[int, Run] = {}
        self.next_run = self.next_job = 1
        #: what live attempts hold of the host: thousandths of a core (they do not drift), bytes
        self.reserved_millicpus = 0
        self.reserved_memory = 0
        self.reserved_gpus = 0
        self.waiting = 0
        #: of the waiting: those that are not due, or wait for parents
        self.parked = {Status.RETRYING: 0, Status.DELAYED: 0, Status.BLOCKED: 0}
        self.held = 0
        self.done: dict[Outcome, int] = {}
        #: runs that are over, in the order of their ends; those that have left may be among them
        self.finished: deque[int] = deque()
        #: when runs that have left were queued
        self.gone = Gone()
        #: how many runs of each kind have a live attempt
        self.active_of = dict.fromkeys(Kind, 0)
        #: how many runs wait of each user (uid, or the principal of a gateway's caller)
        self.waiting_of: dict[int | str, int] = {}
        #: set by whatever may let a waiting run start; cleared by dispatch
        self.dirty = True
        #: monotonic moment at which time alone may let one start, as of the last look
        self.look_at: int | None = None
        #: what of the definitions on record is not as it was said (core/stored.py)
        self.notes: list[str] = []
        self._origins: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    @property
    def reserved(self) -> Needs:
        """What live attempts hold of the host in all."""
        return Needs(self.reserved_millicpus / 1000, self.reserved_memory, self.reserved_gpus)

    # -- finding ---------------------------------------------------------------------------

    def job(self, id_: int) -> Job:
        """The job with that id. Raises TransitionError."""
        job = self.jobs_by_id.get(id_)
        if job is None:
            raise machine.TransitionError(f"job {id_}: not known")
        return job

    def run(self, id_: int) -> Run:
        """The run with that id. Raises TransitionError."""
        run = self.runs.get(id_)
        if run is None:
            raise machine.TransitionError(f"run {id_}: not known")
        return run

    def attempt(self, run: Run, number: int) -> Attempt:
        """The run's attempt of that number. Raises TransitionError."""
        attempts = run.attempts or []
        if not 0 < number <= len(attempts) or attempts[number - 1].number != number:
            raise machine.TransitionError(f"run {run.id}: no attempt {number}")
        return attempts[number - 1]

    def queued_at(self, id_: int) -> int | None:
        """When the run was queued (ms UTC): not before that, where it has left; None: unknown."""
        run = self.runs.get(id_)
        return run.queued_at if run is not None else self.gone.queued_at(id_)

    @property
    def ended(self) -> int:
        """How many runs are over and still in memory."""
        return len(self.runs) - self.waiting - self.held - len(self.active)

    def breaker(self, job: int) -> Breaker:
        """The job's breaker, made where there is none."""
        found = self.breakers.get(job)
        if found is None:
            found = self.breakers[job] = Breaker()
        return found

    def shared_origin(self, origin: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same trigger and caller, as one object for many runs."""
        shared = self._origins.setdefault(origin, origin)
        if len(self._origins) > 4096:
            self._origins.clear()
        return shared

    # -- a run's place -----------------------------------------------------------------------

    def leave(self, run: Run, event: type) -> None:
        """Move the run by the table, and take it out of the counts of where it was."""
        before, after = run.state, machine.run_after(run.id, run.state, event)
        attempt = run.attempt
        if before is RunState.ACTIVE and attempt and attempt.state is not AttemptState.ENDED:
            raise machine.TransitionError(
                f"run {run.id}: {event.__name__} before its attempt ended"
            )
        self.runs.move(run, after)
        if before is RunState.WAITING:
            self.count(run, -1)
            if run.options is not None:
                self.mutexes.leave(run)
                self.let_go(run)
            if not self.lift(run) and run.job.reason is not None:
                self.dirty = True  # it may be the one that others had to wait behind
        elif before is RunState.HELD:
            self.held -= 1
            run.job.held -= 1

    def move_attempt(self, id_: int, number: int, event: type) -> Attempt:
        """Move the run and its attempt by the tables."""
        run = self.run(id_)
        attempt = self.attempt(run, number)
        state = machine.attempt_after(id_, attempt.state, event)
        self.runs.move(run, machine.run_after(id_, run.state, event))
        attempt.state = state
        return attempt

    def wait(self, run: Run, *, front: bool = False) -> None:
        """Take a run among the waiting, and put it where it belongs."""
        self.count(run, 1)
        self.settle(run, front=front)

    def count(self, run: Run, by: int) -> None:
        """Count a run among those that wait, or no more."""
        self.waiting += by
        run.job.waiting += by
        self.count_user(run.user, by)

    def count_active(self, run: Run) -> None:
        """Count a run, restored as active, with what its attempt holds."""
        run.job.active += 1
        self.reserved_millicpus += round(run.spec.cpus * 1000)
        self.reserved_memory += run.memory
        self.reserved_gpus += run.spec.gpus
        self.active_of[run.spec.kind] += 1
        self.mutexes.claimed(run)

    def count_user(self, user: int | str, by: int) -> None:
        """Count runs of a user among those that wait, or no more."""
        left = self.waiting_of.get(user, 0) + by
        if left:
            self.waiting_of[user] = left
        else:
            del self.waiting_of[user]

    def let_go(self, run: Run) -> None:
        """Have others looked at that wait for the run's key, where nobody holds that."""
        key = run.option("mutex")
        if key is not None:
            self.wake(key)

    def wake(self, key: str) -> None:
        """Put the first of each job that wait for a key back where they can start."""
        for run in self.mutexes.woken(key, self.runs):
            self.push(run, front=True)

    def lift(self, run: Run) -> bool:
        """Take a waiting run out of where it is put aside; False where it is nowhere aside.

        To be called before what decides on its place is changed: due, parents, attempts.
        """
        word = aside(run)
        if word is None:
            return False
        self.parked[word] -= 1
        run.job.parked[word] -= 1
        return True

    def settle(self, run: Run, *, front: bool = False) -> None:
        """Put a waiting run aside, or where nothing keeps it there into the ready index."""
        word = aside(run)
        if word is None:
            self.push(run, front=front)
        else:
            self.parked[word] += 1
            run.job.parked[word] += 1

    def push(self, run: Run, *, front: bool = False) -> None:
        """Put a run into the ready index: at the end of its job's queue, or in front."""
        # behind one that is already known not to fit, another of the same job changes nothing
        if front or run.job.reason is None or run.priority not in run.job.ready:
            self.dirty = True
        self.ready.push(run, front=front)

    def take(self, run: Run) -> None:
        """Take a run out of the ready index: the head it was found at, or left to go stale."""
        if self.ready.head(run.job, run.priority) is run:
            self.ready.take(run)

    def finish(self, run: Run, outcome: Outcome) -> None:
        """Count a run that has left for good, and let its children have it.

        Those that it lets start are put where they belong; those whose condition it did not meet
        stay as they are: an event of their own ends them, in the same batch (core/parents.py).
        """
        run.due = None
        run.parents = None
        self.finished.append(run.id)
        if run.options is not None:
            self.children.over(run)
            self.drops.ended(run)
        if self.replaceable:
            self.replaceable.get(run.job.id, {}).pop(run.id, None)
        self.count_done(run.job, outcome, 1)
        if self.children:
            self.free_children(run, outcome)

    def count_done(self, job: Job, outcome: Outcome, runs: int) -> None:
        """Count runs of a job that have left for good."""
        self.done[outcome] = self.done.get(outcome, 0) + runs
        job.done[outcome] = job.done.get(outcome, 0) + runs

    def free_children(self, run: Run, outcome: Outcome) -> None:
        """Let the children of a run that is over have it."""
        for child in self.children.pop(run.id):
            found = self.runs.get(child)
            if found is None or not found.parents:
                continue
            # one that is to be held is held by an event of its own, and free when released
            if not found.meets(run.id, outcome) and found.option("unmet") != "hold":
                continue
            waits = found.state is RunState.WAITING
            if waits:
                self.lift(found)
            found.parents.discard(run.id)
            if waits:
                self.settle(found)


def aside(run: Run) -> Status | None:
    """The word that a waiting run is put aside under; None where it could start."""
    if run.due is not None:
        return Status.RETRYING if run.attempts else Status.DELAYED
    return Status.BLOCKED if run.parents else None

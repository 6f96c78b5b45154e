"""A state from the statements of a snapshot: the same that the events made which it replaces.

Statements come sorted by kind and id (jobs, runs, the host), as core/statements.py writes them.
What follows from others is not stated and made anew: counts, reservations, who waits for whom.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct
from sys import byteorder
from typing import Any

from jobd.codec import unpack
from jobd.core import events as e
from jobd.core import schedule
from jobd.core import statements as s
from jobd.core.alertstatements import AlertBookStands, AlertStands, restore_alert, restore_book
from jobd.core.commands import Body
from jobd.core.entities import Attempt, Job, Run
from jobd.core.groups import read_groups
from jobd.core.machine import TransitionError
from jobd.core.moves import aside
from jobd.core.rates import Bucket
from jobd.core.reactions import Refusal
from jobd.core.schedules import Schedule
from jobd.core.state import State, shared_size
from jobd.core.states import AttemptState, Outcome, RunState
from jobd.core.stored import stored
from jobd.errors import InvalidError

_REQUEST = Struct("<16sQI")


class Restoring:
    """Makes a state: `take` every statement in the order of the snapshot, then go on with events.

    `takers` has what takes in the statement of each type, given id, revision and body; they raise
    TransitionError for what cannot be.
    """

    def __init__(self) -> None:
        self.state = State()
        self._last_note: tuple[list[Any], Any] = ([], None)
        self._last_origin: list[Any] = []
        self._origin: tuple[Any, ...] = ()
        self._ended: list[tuple[int, int]] = []
        self._last_options: dict[str, Any] = {}
        self._last_at = 0
        self.takers: dict[int, Callable[[int, int, bytes], None]] = {
            s.TYPE_OF[s.JobStands]: self._job,
            s.TYPE_OF[s.RevisionStands]: self._revision,
            s.TYPE_OF[s.ScheduleStands]: self._schedule,
            s.TYPE_OF[s.ReadyStands]: self._ready,
            s.TYPE_OF[s.RefusalStands]: self._refusal,
            s.TYPE_OF[s.JoinsStand]: self._joins,
            s.TYPE_OF[s.WatchStands]: self._watch,
            s.TYPE_OF[s.RunStands]: self._run,
            s.TYPE_OF[s.HostStands]: self._host,
            s.TYPE_OF[s.RequestsStand]: self._requests,
            s.TYPE_OF[s.PolicyStands]: self._policy,
            s.TYPE_OF[AlertStands]: lambda id_, rev, body: restore_alert(
                self.state.alerts, _read(AlertStands, body)
            ),
            s.TYPE_OF[AlertBookStands]: lambda id_, rev, body: restore_book(
                self.state.alerts, _read(AlertBookStands, body)
            ),
        }

    def take(self, type_: int, id_: int, revision: int, body: bytes) -> None:
        """Take in the statement of a record."""
        self.takers[type_](id_, revision, body)

    def _job(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.JobStands, body)
        job = Job(id_, said.name)
        job.rev = revision
        job.revision = said.revision
        job.registered_at = said.registered_at
        job.origin = said.origin
        job.paused, job.removed = said.paused, said.removed
        job.done = _counts(said.done)
        job.times.extend(said.times)
        self.state.jobs_by_id[id_] = job
        if not job.removed:
            self.state.jobs[job.name] = job

    def _revision(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.RevisionStands, body)
        job = self.state.job(id_)
        try:
            job.revisions[said.number], notes = stored(said.spec, job.name)
        except InvalidError as error:
            raise TransitionError(f"job {id_}: its definition: {error}") from None
        self.state.notes += [f"job {job.name}, revision {said.number}: {note}" for note in notes]
        job.made[said.number] = (said.at, said.caller)
        if said.number == job.revision:
            self.state.reactions.sync(job, self.state.children)
        self.state.alerts.registered(id_, bool(job.revisions[said.number].alerts))

    def _refusal(self, id_: int, revision: int, body: bytes) -> None:
        self.state.reactions.refused[id_] = Refusal(*_read(s.RefusalStands, body))

    def _joins(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.JoinsStand, body)
        for root, since, reached in said.open:
            for name, run, outcome in reached:
                event = e.JoinReached(id_, since, said.key, root, name, run, outcome)
                self.state.reactions.reach(event, self.state.children)

    def _schedule(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.ScheduleStands, body)
        try:
            spec = schedule.parse(said.spec, "schedule", "UTC")
        except InvalidError as error:
            raise TransitionError(f"job {id_}: {error}") from None
        made = Schedule(self.state.job(id_), spec, said.added_at, said.caller, said.from_file)
        made.cursor, made.paused, made.mark = said.cursor, said.paused, said.mark
        made.fired, made.missed, made.refused = said.fired, said.missed, said.refused
        made.last_at, made.last_run = said.last_at, said.last_run
        self.state.schedules.restore(made)

    def _watch(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.WatchStands, body)
        self.state.watches.restore(self.state.job(id_), said.name, said.mark, said.seen)

    def _ready(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.ReadyStands, body)
        ids = array("Q")
        ids.frombytes(said.ids)
        if byteorder == "big":
            ids.byteswap()
        self.state.ready.restore(self.state.job(id_), said.priority, ids)

    def _run(self, id_: int, revision: int, body: bytes) -> None:
        # by place, not by name: a million of these are most of a start
        said = unpack(body)
        state = self.state
        job = state.jobs_by_id.get(said[0])
        if job is None or said[1] not in job.revisions:
            raise TransitionError(f"run {id_}: no revision {said[1]} of job {said[0]}")
        # of what many have the same one object does for all, as where events made them
        if said[4] != self._last_at:
            self._last_at = said[4]
        said[4] = self._last_at
        if said[5] != self._last_origin:
            self._last_origin = said[5]
            self._origin = state.shared_origin(tuple(said[5]))
        if said[6] is not None:
            if said[6] != self._last_options:
                self._last_options = said[6]
            said[6] = self._last_options
        note = None if said[11] is None else self._note(said[11])
        run = _run_of(id_, job, revision, said, self._origin, note)
        if run.parents is not None:
            state.children.restore(run)
        if said[6] is not None and "key" in said[6]:
            job.keys[said[6]["key"]] = id_
        if said[6] is not None and "made_by" in said[6]:
            state.made.add(id_, said[6]["made_by"][0])
        state.runs.add(run)
        state.drops.restore(run)
        if run.options is not None and "labels" in run.options:
            state.runs.labelled(id_)
        if run.state is RunState.DONE and run.note is not None:
            state.runs.ended(id_, run.note.at)
        if said[2] == _WAITING and said[9] is None and said[10] is None:
            state.count(run, 1)
        else:
            self._count(run)
        if said[6] is not None and run.state is not RunState.DONE:
            state.children.read_by(run)

    def _note(self, said: list[Any]) -> Any:
        # many that were cancelled at once had one note in common
        if said != self._last_note[0]:
            cls = s.NOTES[said[0]]
            self._last_note = said, cls(*said[1 : len(cls._fields) + 1])
        return self._last_note[1]

    def _count(self, run: Run) -> None:
        state, job = self.state, run.job
        if run.state is RunState.WAITING:
            state.count(run, 1)
            word = aside(run)
            if word is not None:
                state.parked[word] += 1
                job.parked[word] += 1
        elif run.state is RunState.HELD:
            state.held += 1
            job.held += 1
        elif run.state is RunState.ACTIVE:
            state.count_active(run)
        elif run.note is not None:
            self._ended.append((run.note.at, run.id))

    def _host(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.HostStands, body)
        state = self.state
        state.host.rev = revision
        state.host.drained_at, state.host.drained_by = said.drained_at, said.drained_by
        state.host.salvaged_at = said.salvaged_at
        state.schedules.newest = said.newest
        state.next_run, state.next_job = said.next_run, said.next_job
        state.done = _counts(said.done)
        state.finished.extend(number for _, number in sorted(self._ended))
        state.gone.restore(said.gone or [])
        for number in said.active:
            state.active[number] = state.run(number)
        state.ready.restore_rings(
            {priority: [state.job(number) for number in jobs] for priority, jobs in said.rings}
        )

    def _policy(self, id_: int, revision: int, body: bytes) -> None:
        said = _read(s.PolicyStands, body)
        state = self.state
        try:
            state.groups.set(read_groups(said.groups))
        except InvalidError as error:
            raise TransitionError(f"groups: {error}") from None
        for name, full_at, active in said.held:
            state.groups.restore(name, full_at, active)
        for job, full_at in said.buckets:
            state.buckets[job] = Bucket(full_at)
        for job, *fields in said.breakers:
            breaker = state.breaker(job)
            breaker.failures, breaker.opened_at, breaker.until, breaker.text = fields
        for job, runs in said.replaceable:
            state.replaceable[job] = dict.fromkeys(runs)

    def _requests(self, id_: int, revision: int, body: bytes) -> None:
        put = self.state.requests.put
        for key, first, count in _REQUEST.iter_unpack(_read(s.RequestsStand, body).entries):
            put(key, first, count)


_WAITING = RunState.WAITING.value
_RUN_STATES = {state.value: state for state in RunState}


def run_in(job: Job, id_: int, revision: int, body: bytes) -> Run:
    """The run that a statement tells of, on its own: in no table, and not counted.

    Its job must have the definition that it is pinned to.
    """
    said = unpack(body)
    note = None
    if said[11] is not None:
        cls = s.NOTES[said[11][0]]
        note = cls(*said[11][1 : len(cls._fields) + 1])
    return _run_of(id_, job, revision, said, tuple(said[5]), note)


def _run_of(
    id_: int, job: Job, revision: int, said: list[Any], origin: tuple[Any, ...], note: Any
) -> Run:
    run = Run(id_, job, said[1])
    run.rev = revision
    run.state = _RUN_STATES[said[2]]
    run.priority, run.queued_at = said[3], said[4]
    run.origin = origin
    run.options = said[6]
    run.size = shared_size(said[7])
    if said[8] is not None:
        run.body = Body(*said[8])
    run.due = said[9]
    if said[10] is not None:
        run.parents = set(said[10])
    run.note = note
    if said[12] is not None:
        run.attempts = [_attempt(id_, one) for one in said[12]]
    return run


def _read(cls: type[Any], body: bytes) -> Any:
    """The statement in a record; fields that a later version added are left out."""
    return cls(*unpack(body)[: len(cls._fields)])


def _counts(done: dict[str, int]) -> dict[Outcome, int]:
    return {Outcome(outcome): count for outcome, count in done.items()}


def _attempt(run: int, said: list[Any]) -> Attempt:
    number, state, claimed_at, started, stopping, end = said[:6]
    attempt = Attempt(number, claimed_at, said[6] if len(said) > 6 else None)
    attempt.state = AttemptState(state)
    attempt.started = _event(e.AttemptStarted, run, number, started)
    attempt.stopping = _event(e.AttemptStopping, run, number, stopping)
    ended: e.AttemptEnded | None = _event(e.AttemptEnded, run, number, end)
    if ended is not None:
        # as core/state.py keeps it: the bytes stay on disk
        result = ended.result
        kept = len(result) if isinstance(result, bytes) else result
        attempt.end = ended._replace(log_tail=b"", result=kept)
    return attempt


def _event(cls: type[Any], run: int, number: int, fields: list[Any] | None) -> Any:
    return None if fields is None else cls(run, number, *fields[: len(cls._fields) - 2])

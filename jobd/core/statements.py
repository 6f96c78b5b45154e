"""What a state is, as complete statements: what a snapshot of the queue holds instead of events.

A statement tells how one thing stands after all its changes; together they make the same state as
the events did (core/restoring.py reads them). On disk they are records like events, with types of
their own; fields are added at the end with a default, and numbers are for ever
(jobd/core/EVENTS.md, "Statements"). Pure: what lies on disk is given by the caller.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from sys import byteorder
from typing import Any, NamedTuple

from jobd.codec import pack_shared, unpack
from jobd.core import events as e
from jobd.core.alertstatements import AlertBookStands, AlertStands, stated
from jobd.core.entities import Attempt, Job, Run
from jobd.core.groups import groups_mapping
from jobd.core.moves import Moves
from jobd.core.schedule import to_mapping as to_schedule_mapping
from jobd.core.schedules import Schedule
from jobd.core.spec import to_mapping
from jobd.core.states import RunState

#: runs of a job's queue, and requests, that one statement lists
_IDS, _REQUESTS = 8192, 2048

#: the notes that a run may have: the number that stands for each
NOTES: tuple[type[Any], ...] = (e.RunFinished, e.RunHeld)


class JobStands(NamedTuple):
    """A job without its definitions. `done`: ended runs by outcome; `times`: its last, in ms."""

    name: str
    revision: int
    registered_at: int
    origin: str
    paused: bool
    removed: bool
    done: dict[str, int]
    times: list[int]


class RevisionStands(NamedTuple):
    """One definition of a job, in a job file's form, when it was registered and by whom."""

    number: int
    spec: dict[str, Any]
    at: int
    caller: list[Any]


class ScheduleStands(NamedTuple):
    """A schedule, in a job file's form, and where it stands. `mark`: see `ScheduleFired`."""

    name: str
    spec: dict[str, Any]
    added_at: int
    caller: list[Any]
    from_file: bool
    cursor: int
    paused: bool
    fired: int
    missed: int
    last_at: int | None
    last_run: int | None
    refused: str
    mark: str


class RefusalStands(NamedTuple):
    """The last run that a job was to get for an end or a topic and did not: `ReactionRefused`,
    and how often that has happened."""

    at: int
    trigger: str
    name: str
    cause: int | None
    text: str
    times: int


class JoinsStand(NamedTuple):
    """The gatherings of one `[[on]]` that stand open, oldest first: the run that each began with,
    since when, and of each job that has been reached its name, the run and its outcome."""

    key: str
    open: list[list[Any]]


class WatchStands(NamedTuple):
    """How far a watched path of the job's newest definition is dealt with: see `WatchMoved`."""

    name: str
    mark: int
    seen: list[int]


class ReadyStands(NamedTuple):
    """A part of a job's queue at one priority: ids of 8 bytes, in the order of their turns.

    Parts of one priority follow each other. An entry may be out of date (core/ready.py).
    """

    priority: int
    ids: bytes


class RunStands(NamedTuple):
    """A run with its attempts. `payload` is nil where it is a file: `body` is that, else nil.

    `note`: nil, or what it is (0 `RunFinished`, 1 `RunHeld`) and that event's fields. An attempt:
    its number, its state, when it was claimed, of `AttemptStarted`, `AttemptStopping` and
    `AttemptEnded` each nil or its fields from `at` on, and its GPUs or nil. The last words
    and the bytes of a result are those of the last attempt that ended; of one before, a result is
    told by its length.
    """

    job: int
    revision: int
    state: int
    priority: int
    queued_at: int
    origin: list[Any]
    options: dict[str, Any] | None
    size: int
    body: list[Any] | None
    due: int | None
    parents: list[int] | None
    note: list[Any] | None
    attempts: list[Any] | None
    payload: bytes | None


class HostStands(NamedTuple):
    """What is of no job or run. `active`: by the order of claims; `rings`: per priority the jobs,
    whose turn is first. The ids `next_run` and `next_job` were never used, nor any above.
    `newest`: the latest moment that schedules know of. `gone`: `[id, at]`: runs up to that id which
    have left were queued by then."""

    next_run: int
    next_job: int
    done: dict[str, int]
    drained_at: int | None
    drained_by: str
    active: list[int]
    rings: list[list[Any]]
    newest: int
    salvaged_at: int | None = None
    gone: list[list[int]] | None = None


class PolicyStands(NamedTuple):
    """What limits and policies count. `groups`: as in `HostGroupsSet`; `held`: of each group its
    name, when its bucket is full, and its active runs; `buckets`: job and when full; `breakers`:
    job, failures, when opened, until when, and why; `replaceable`: job and its live runs.
    """

    groups: dict[str, Any]
    held: list[list[Any]]
    buckets: list[list[Any]]
    breakers: list[list[Any]]
    replaceable: list[list[Any]]


class RequestsStand(NamedTuple):
    """Requests that may be asked again, oldest first: of each 16 bytes of key, the first run's id
    in 8 bytes, and in 4 how many runs it made."""

    entries: bytes


#: the number on disk, what it is about, the statement
_TABLE: tuple[tuple[int, int, type[Any]], ...] = (
    (64, e.JOB, JobStands),
    (65, e.JOB, RevisionStands),
    (66, e.JOB, ReadyStands),
    (67, e.JOB, ScheduleStands),
    (68, e.HOST, AlertStands),
    (69, e.HOST, AlertBookStands),
    (72, e.RUN, RunStands),
    (73, e.JOB, WatchStands),
    (74, e.JOB, RefusalStands),
    (75, e.JOB, JoinsStand),
    (80, e.HOST, HostStands),
    (81, e.HOST, RequestsStand),
    (82, e.HOST, PolicyStands),
)

BY_TYPE: dict[int, type[Any]] = {number: cls for number, _, cls in _TABLE}
TYPE_OF: dict[type[Any], int] = {cls: number for number, _, cls in _TABLE}
KIND_OF: dict[type[Any], int] = {cls: kind for _, kind, cls in _TABLE}

#: a statement as a record has it: type, kind, id, revision, body
Record = tuple[int, int, int, int, bytes]
#: gives type and body of the record at `where`, or of what a snapshot said of the run
Kept = Callable[[int, int], tuple[int, bytes]]


def statements(state: Moves, kept: Kept) -> Iterator[Record]:
    """Every statement about `state`, sorted by kind and id.

    `kept(where, run)` reads what lies on disk: the record at a run's or attempt's `where`.
    """
    for number in sorted(state.jobs_by_id):
        yield from _job(state.jobs_by_id[number], state)
    for run in state.runs.oldest_first():
        yield _record(_run(run, kept), run.id, run.rev)
    rings = [[priority, ring] for priority, ring in sorted(state.ready.rings().items())]
    host = HostStands(
        state.next_run, state.next_job, _counts(state.done), state.host.drained_at,
        state.host.drained_by, list(state.active), rings, state.schedules.newest,
        state.host.salvaged_at, state.gone.marks(),
    )  # fmt: skip
    yield _record(host, 1, state.host.rev)
    yield _record(_policy(state), 1, state.host.rev)
    for each in stated(state.alerts):
        yield _record(each, 1, state.host.rev)
    entries: list[bytes] = []
    for key, runs in state.requests.oldest_first():
        entries.append(key + runs.start.to_bytes(8, "little") + len(runs).to_bytes(4, "little"))
        if len(entries) == _REQUESTS:
            yield _record(RequestsStand(b"".join(entries)), 1, state.host.rev)
            entries.clear()
    if entries:
        yield _record(RequestsStand(b"".join(entries)), 1, state.host.rev)


def _policy(state: Moves) -> PolicyStands:
    named = sorted(state.groups.named.items())
    breakers = sorted(state.breakers.items())
    return PolicyStands(
        groups=groups_mapping(state.groups.limits()),
        held=[[name, group.bucket.full_at, sorted(group.active)] for name, group in named],
        buckets=[[job, bucket.full_at] for job, bucket in sorted(state.buckets.items())],
        breakers=[[job, b.failures, b.opened_at, b.until, b.text] for job, b in breakers],
        replaceable=[[job, list(runs)] for job, runs in sorted(state.replaceable.items())],
    )


def run_record(run: Run, kept: Kept) -> Record:
    """The statement about one run, whole, as a record."""
    return _record(_run(run, kept), run.id, run.rev)


def revision_record(job: Job, number: int) -> Record:
    """The statement about one definition of a job, as a record."""
    at, caller = job.made[number]
    revision = RevisionStands(number, to_mapping(job.revisions[number]), at, caller)
    return _record(revision, job.id, job.rev)


def payload_in(type_: int, run: int, body: bytes) -> bytes:
    """The payload in a record about a run that has one: of its queueing, or a statement."""
    if type_ == TYPE_OF[RunStands]:
        return bytes(unpack(body)[_PAYLOAD])
    event = e.decode(type_, run, body)
    assert isinstance(event, e.RunQueued)
    return bytes(event.payload)


def end_in(type_: int, run: int, number: int, body: bytes) -> e.AttemptEnded:
    """The whole end of a run's attempt in a record about it: its own, or a statement."""
    if type_ == TYPE_OF[RunStands]:
        fields = unpack(body)[_ATTEMPTS][number - 1][5]
        return e.AttemptEnded(run, number, *fields[: len(e.AttemptEnded._fields) - 2])
    event = e.decode(type_, run, body)
    assert isinstance(event, e.AttemptEnded)
    return event


_PAYLOAD = RunStands._fields.index("payload")
_ATTEMPTS = RunStands._fields.index("attempts")


def _record(statement: Any, id_: int, revision: int) -> Record:
    cls = type(statement)
    return TYPE_OF[cls], KIND_OF[cls], id_, revision, pack_shared(statement)


def _counts(done: dict[Any, int]) -> dict[str, int]:
    return {str(outcome): count for outcome, count in done.items()}


def _job(job: Job, state: Moves) -> Iterator[Record]:
    stands = JobStands(
        job.name, job.revision, job.registered_at, job.origin, job.paused, job.removed,
        _counts(job.done), list(job.times),
    )  # fmt: skip
    yield _record(stands, job.id, job.rev)
    for number in sorted(job.revisions):
        yield revision_record(job, number)
    for schedule in state.schedules.of(job):
        yield _record(_schedule(schedule), job.id, job.rev)
    for statement in _reactions(job, state):
        yield _record(statement, job.id, job.rev)
    for watch in state.watches.of(job):
        moved = WatchStands(watch.spec.name, watch.mark, watch.seen)
        yield _record(moved, job.id, job.rev)
    for priority, queue in sorted(job.ready.items()):
        # what is over for good never becomes right again; but an empty queue would cost the job its
        # turn
        ids = array("Q", [id_ for id_ in queue if _goes_on(state, id_)] or [queue[-1]])
        for at in range(0, len(ids), _IDS):
            part = ids[at : at + _IDS]
            if byteorder == "big":
                part.byteswap()
            yield _record(ReadyStands(priority, part.tobytes()), job.id, job.rev)


def _reactions(job: Job, state: Moves) -> Iterator[Any]:
    refusal = state.reactions.refused.get(job.id)
    if refusal is not None:
        yield RefusalStands(*refusal)
    for (number, key), joins in state.reactions.joins.items():
        if number == job.id:
            rows = [
                [root, join.since, [[name, *there] for name, there in join.reached.items()]]
                for root, join in joins.items()
            ]
            yield JoinsStand(key, rows)


def _schedule(schedule: Schedule) -> ScheduleStands:
    return ScheduleStands(
        name=schedule.spec.name,
        spec=to_schedule_mapping(schedule.spec),
        added_at=schedule.added_at,
        caller=schedule.caller,
        from_file=schedule.from_file,
        cursor=schedule.cursor,
        paused=schedule.paused,
        fired=schedule.fired,
        missed=schedule.missed,
        last_at=schedule.last_at,
        last_run=schedule.last_run,
        refused=schedule.refused,
        mark=schedule.mark,
    )


def _goes_on(state: Moves, id_: int) -> bool:
    run = state.runs.get(id_)
    return run is not None and run.state is not RunState.DONE


def _run(run: Run, kept: Kept) -> RunStands:
    assert run.state is not None
    body = run.body
    return RunStands(
        job=run.job.id,
        revision=run.revision,
        state=run.state,
        priority=run.priority,
        queued_at=run.queued_at,
        origin=list(run.origin),
        options=run.options,
        size=run.size,
        body=None if body is None else [body.name, body.size, body.crc],
        due=run.due,
        parents=sorted(run.parents) if run.parents else None,
        note=None if run.note is None else [NOTES.index(type(run.note)), *run.note],
        attempts=_attempts(run, kept),
        payload=payload_in_queue(run, kept),
    )


def payload_in_queue(run: Run, kept: Kept) -> bytes | None:
    """The payload of a run, None where it is a file of its own."""
    if run.body is not None:
        return None
    type_, body = kept(run.where, run.id)
    return payload_in(type_, run.id, body)


def _attempts(run: Run, kept: Kept) -> list[Any] | None:
    if run.attempts is None:
        return None
    last = next((a for a in reversed(run.attempts) if a.end is not None), None)
    return [_attempt(run, attempt, kept, attempt is last) for attempt in run.attempts]


def _attempt(run: Run, attempt: Attempt, kept: Kept, whole: bool) -> list[Any]:
    end = attempt.end
    if end is not None and whole:
        type_, body = kept(attempt.where, run.id)
        end = end_in(type_, run.id, attempt.number, body)
    return [
        attempt.number,
        attempt.state,
        attempt.claimed_at,
        None if attempt.started is None else attempt.started[2:],
        None if attempt.stopping is None else attempt.stopping[2:],
        None if end is None else end[2:],
        attempt.gpus,
    ]

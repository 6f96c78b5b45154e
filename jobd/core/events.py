"""What happened, in the past tense: the only things that change the state, and what is on disk.

Each event is about one job or one run. On disk it is a record: its TYPE, the KIND and id of what it
is about, and the remaining fields in their order as a msgpack array. Numbers and the order of
fields are for ever; a new field goes to the end and has a default, so old records stay readable
(jobd/core/EVENTS.md is the table).

NamedTuples, because one is made for each request on the hot path: a frozen dataclass costs three
times as much to make.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.codec import pack, unpack
from jobd.core import alertevents, arrivalevents, jobevents, onevents

#: what a record is about; the host is one thing, its id is 1
JOB, RUN, HOST = 1, 2, 3

# those that have a file of their own
ScheduleAdded = jobevents.ScheduleAdded
ScheduleRemoved = jobevents.ScheduleRemoved
SchedulePaused = jobevents.SchedulePaused
ScheduleResumed = jobevents.ScheduleResumed
ScheduleFired = jobevents.ScheduleFired
JobBreakerOpened = jobevents.JobBreakerOpened
JobBreakerClosed = jobevents.JobBreakerClosed
DropSettled = arrivalevents.DropSettled
WatchMoved = arrivalevents.WatchMoved
ReactionRefused = onevents.ReactionRefused
JoinReached = onevents.JoinReached
JoinEnded = onevents.JoinEnded
TopicEmitted = onevents.TopicEmitted
AlertRaised = alertevents.AlertRaised
AlertRepeated = alertevents.AlertRepeated
AlertResolved = alertevents.AlertResolved
AlertTried = alertevents.AlertTried
AlertsSnoozed = alertevents.AlertsSnoozed


class JobRegistered(NamedTuple):
    """A job, or a new revision of it. `spec` is the whole definition in a job file's form.

    `origin`: empty by hand, `apply`, or `jobs.d/FILE`. The same revision again: it has moved to
    another origin and nothing else.
    """

    job: int
    name: str
    revision: int
    spec: dict[str, Any]
    at: int
    caller: list[Any]
    origin: str = ""


class JobRemoved(NamedTuple):
    """A job was unregistered; its runs stay."""

    job: int
    at: int
    caller: list[Any]


class JobPaused(NamedTuple):
    """No run of the job starts from now on."""

    job: int
    at: int
    caller: list[Any]


class JobResumed(NamedTuple):
    """Runs of the job may start again."""

    job: int
    at: int
    caller: list[Any]


class JobRunsCancelled(NamedTuple):
    """Every waiting or held run of the job with an id in `ranges` (`[first, last]`) is cancelled.

    One record however many they are. Active runs, and those of other jobs, are not meant.
    """

    job: int
    ranges: list[list[int]]
    at: int
    caller: list[Any]


class RunQueued(NamedTuple):
    """A run was taken on. `payload`: bytes, or `[name, size, crc]` of a body file.

    `options` holds what few runs have: not_before, expires_at, env, labels, args, timeout, key,
    after, retry_of, source, mutex (jobd/core/EVENTS.md has all).
    `request` is the client's key, `batch_index` the run's place among those of the same request.
    """

    run: int
    job: int
    revision: int
    at: int
    trigger: str
    caller: list[Any]
    payload: Any
    priority: int = 0
    options: dict[str, Any] | None = None
    request: bytes | None = None
    batch_index: int = 0


class RunRequeued(NamedTuple):
    """A run goes back into the queue; it is due `delay` milliseconds after `at`.

    `memory`: bytes that its attempts get from now on, where it ran out of memory; else None.
    """

    run: int
    at: int
    delay: int
    memory: int | None = None


class RunFinished(NamedTuple):
    """A run is over. `caller` is who cancelled it, or None."""

    run: int
    at: int
    outcome: str
    code: str
    text: str
    caller: list[Any] | None = None


class RunHeld(NamedTuple):
    """A run is kept back until somebody releases or cancels it."""

    run: int
    at: int
    code: str
    text: str
    caller: list[Any] | None = None


class RunReleased(NamedTuple):
    """A held run may start again."""

    run: int
    at: int
    caller: list[Any] | None = None


class RunEdited(NamedTuple):
    """Settings of a run were changed. `changes`: priority, or what `options` of RunQueued holds.

    A `not_before` that is not after `at` means: due at once; `labels` are set beside the others.
    """

    run: int
    at: int
    changes: dict[str, Any]
    caller: list[Any]


class RunMovedFirst(NamedTuple):
    """A queued run was put before all others of its job and priority."""

    run: int
    at: int
    caller: list[Any]


class AttemptClaimed(NamedTuple):
    """An attempt was decided on: from here to its end it holds its share of the host.

    `gpus`: the numbers of those that it has for itself; None: none.
    """

    run: int
    number: int
    at: int
    gpus: list[int] | None = None


class AttemptStarted(NamedTuple):
    """The engine runs it. `started_at` is the engine's clock, `at` when it was recorded."""

    run: int
    number: int
    at: int
    started_at: int
    engine_id: str
    image_id: str
    pull_ms: int = 0


class AttemptStopping(NamedTuple):
    """It was told to stop. `why`: `cancelled` or `timed-out`, which becomes its outcome.

    `text` says more of it, as the end of a sentence that begins with "attempt 1".
    """

    run: int
    number: int
    at: int
    why: str
    caller: list[Any] | None = None
    text: str = ""


class AttemptEnded(NamedTuple):
    """It is over and its end is known for good; what is left of it may be removed.

    `charged` says whether it counts against the job's attempts; `result` is bytes, or
    `[name, size, crc]` of a body file, or None; `log_tail` its last words, 8 KiB at most. Each
    source is `parent`, `sampled` or `none`; the throttled `periods` are those of its CPU limit.
    `output` is the body file (a tar) with what it left in OUTPUT_DIR, `output_files` how many files
    those are; `note` tells what of all it left could not be kept. `progress`: percent and message,
    as it last said of itself.
    """

    run: int
    number: int
    at: int
    outcome: str
    charged: bool
    exit_code: int | None = None
    error: str | None = None
    finished_at: int | None = None
    oom_hint: bool = False
    cpu_seconds: float | None = None
    memory_peak: int | None = None
    memory_peak_source: str = "none"
    log_bytes: int = 0
    log_truncated: bool = False
    result: Any = None
    log_tail: bytes = b""
    cpu_source: str = "none"
    block_read: int | None = None
    block_written: int | None = None
    block_source: str = "none"
    throttled_ms: int | None = None
    throttled_periods: int | None = None
    periods: int | None = None
    throttle_source: str = "none"
    output: Any = None
    output_files: int = 0
    note: str | None = None
    progress: list[Any] | None = None


class HostDrainStarted(NamedTuple):
    """No run starts on this host from now on."""

    host: int
    at: int
    caller: list[Any]


class HostDrainEnded(NamedTuple):
    """Runs may start again."""

    host: int
    at: int
    caller: list[Any]


class HostGroupsSet(NamedTuple):
    """What jobd.toml says of groups from now on, in its own form."""

    host: int
    at: int
    groups: dict[str, Any]
    caller: list[Any]


class HostSalvaged(NamedTuple):
    """The queue was damaged and written anew from what could be read.

    Ids below `next_run` and `next_job` may have been given to what is lost: none is given again.
    """

    host: int
    at: int
    caller: list[Any]
    next_run: int
    next_job: int


class HostRunsArchived(NamedTuple):
    """Every run with an id in `ranges` (`[first, last]`) is in the archive and leaves the state.

    All of them are over. What is kept of them is in the archive from then on, and nowhere else.
    """

    host: int
    at: int
    ranges: list[list[int]]


Event = (
    JobRegistered
    | JobRemoved
    | JobPaused
    | JobResumed
    | JobRunsCancelled
    | jobevents.JobEvent
    | arrivalevents.ArrivalEvent
    | RunQueued
    | RunRequeued
    | RunFinished
    | RunHeld
    | RunReleased
    | RunEdited
    | RunMovedFirst
    | AttemptClaimed
    | AttemptStarted
    | AttemptStopping
    | AttemptEnded
    | HostDrainStarted
    | HostDrainEnded
    | HostGroupsSet
    | HostSalvaged
    | HostRunsArchived
    | onevents.OnEvent
    | alertevents.AlertEvent
)

#: the number on disk, what it is about, the event
_TABLE: tuple[tuple[int, int, type[Any]], ...] = (
    (1, JOB, JobRegistered),
    (2, JOB, JobRemoved),
    (3, JOB, JobPaused),
    (4, JOB, JobResumed),
    (5, JOB, JobRunsCancelled),
    (6, JOB, ScheduleAdded),
    (7, JOB, ScheduleRemoved),
    (8, JOB, SchedulePaused),
    (9, JOB, ScheduleResumed),
    (10, JOB, ScheduleFired),
    (11, JOB, JobBreakerOpened),
    (12, JOB, JobBreakerClosed),
    (16, RUN, RunQueued),
    (17, RUN, RunRequeued),
    (18, RUN, RunFinished),
    (19, RUN, RunHeld),
    (20, RUN, RunReleased),
    (21, RUN, RunEdited),
    (22, RUN, RunMovedFirst),
    (23, HOST, AlertRaised),
    (24, HOST, AlertRepeated),
    (25, HOST, AlertResolved),
    (26, HOST, AlertTried),
    (27, HOST, AlertsSnoozed),
    (32, RUN, AttemptClaimed),
    (33, RUN, AttemptStarted),
    (34, RUN, AttemptStopping),
    (35, RUN, AttemptEnded),
    (36, RUN, DropSettled),
    (37, JOB, WatchMoved),
    (40, JOB, ReactionRefused),
    (41, JOB, JoinReached),
    (42, JOB, JoinEnded),
    (43, HOST, TopicEmitted),
    (48, HOST, HostDrainStarted),
    (49, HOST, HostDrainEnded),
    (50, HOST, HostSalvaged),
    (51, HOST, HostGroupsSet),
    (60, HOST, HostRunsArchived),
)

BY_TYPE: dict[int, type[Any]] = {number: cls for number, _, cls in _TABLE}
TYPE_OF: dict[type[Any], int] = {cls: number for number, _, cls in _TABLE}
KIND_OF: dict[type[Any], int] = {cls: kind for _, kind, cls in _TABLE}
#: the numbers of alerts' events
ALERTS = frozenset({23, 24, 25, 26, 27})
#: both: the number on disk, and what the event is about
CODES_OF: dict[type[Any], tuple[int, int]] = {cls: (number, kind) for number, kind, cls in _TABLE}


def encode(event: Event) -> bytes:
    """The body of the event's record: all fields but the id, which is in the record's frame."""
    return pack(event[1:])


def decode(number: int, subject: int, body: bytes) -> Event:
    """The event of a record. Fields that a later version added are left out."""
    cls = BY_TYPE[number]
    fields = (subject, *unpack(body))
    if len(fields) == len(cls._fields):
        # the shortest way to a NamedTuple: a start makes one of each record
        made: Event = tuple.__new__(cls, fields)
        return made
    event: Event = cls(*fields[: len(cls._fields)])
    return event

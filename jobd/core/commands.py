"""What goes into the core: imperative, from whoever it comes, all by the same door.

Requests of people and programs, the timers, and what the workers found out in the world. Times are
integer milliseconds UTC, durations milliseconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from jobd.core.alertcommands import AlertCommand
from jobd.core.arrivals import QueueDrop, SettleDrop, TakeChanges
from jobd.core.schedulecommands import AddSchedule as AddSchedule
from jobd.core.schedulecommands import FireSchedule as FireSchedule
from jobd.core.schedulecommands import PauseSchedule as PauseSchedule
from jobd.core.schedulecommands import RemoveSchedule as RemoveSchedule
from jobd.core.schedulecommands import ScheduleDue as ScheduleDue
from jobd.core.topics import Chain, EmitTopic


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by the kernel's word; `principal` names a gateway's caller, else empty.

    `groups` are all groups of the user, by name and by number; `within` is the run and the attempt
    that asks from inside (core/inside.py). Both are not recorded.
    """

    uid: int
    user: str
    pid: int
    principal: str = ""
    groups: frozenset[str] = frozenset()
    within: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RegisterJob:
    """Register a job, or a new revision of it. `spec` is untrusted: see core/spec.py.

    `origin` is where it comes from: empty by hand, APPLIED, or FOLDER and the name of a file.
    """

    spec: Mapping[str, object]
    origin: str = ""


#: origins of jobs: by `apply`; from a file of the daemon's own folder, whose name follows
APPLIED, FOLDER = "apply", "jobs.d/"


@dataclass(frozen=True, slots=True)
class SetJob:
    """Register a new revision of a job with some keys changed: see core/settings.py."""

    job: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class UnregisterJob:
    """Remove a job without live runs. `origin`: as in RegisterJob, of who removes it."""

    job: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class ApplyJobs:
    """Register all of these jobs, or none: `(spec, origin)` each.

    With `prune` (a beginning of origins) jobs of that origin that are not among them are removed;
    one that has live runs is kept where `keep_live` says so, else all is refused. With `dry_run`
    nothing is changed, and the answer is what would be.
    """

    jobs: Sequence[tuple[Mapping[str, object], str]]
    prune: str | None = None
    keep_live: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Stop (or with `paused` false, let go on) the starts of a job."""

    job: str
    paused: bool


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that live in a file of their own, beside the journal, under a checksum."""

    name: str
    size: int
    crc: int


#: what nobody may add to: the default of maps in a command
_NOTHING: Mapping[str, str] = MappingProxyType({})


class QueueRun(NamedTuple):
    """Queue runs of a job: one for each payload. All or none.

    A NamedTuple, as one is made for each request on the hot path: a frozen dataclass of so many
    fields takes 2 us more to make.
    """

    job: str
    payloads: Sequence[bytes | Body]
    trigger: str
    caller: Caller
    request: bytes | None = None
    priority: int | None = None
    not_before: int | None = None
    expires: int | None = None
    timeout: int | None = None
    env: Mapping[str, str] = _NOTHING
    labels: Mapping[str, str] = _NOTHING
    args: tuple[str, ...] = ()
    key: str | None = None
    #: parents, each with `ok`, `any` or `fail`: see core/parents.py
    after: tuple[tuple[int, str], ...] = ()
    #: the ended run that it does again
    retry_of: int | None = None
    batch: str | None = None
    batch_offset: int = 0
    #: for each payload what triggered it, by name, and the moment that was meant (ms UTC)
    sources: Sequence[tuple[str, int | None]] = ()
    #: what becomes of runs that overlap, in place of what the job says
    overlap: str | None = None
    #: the key of which one run at a time is active, in place of what the job's template makes
    mutex: str | None = None
    #: what becomes of it where a parent ends otherwise: `skip`, `fail` or `hold`
    unmet: str = "skip"
    #: with a key: those that wait with it are skipped, and this one is queued
    latest: bool = False
    #: as `latest`, and due when no other has come with the key for so many milliseconds
    debounce: int | None = None
    #: runs that the same decision queues before it
    ahead: int = 0
    #: what it follows from
    chain: Chain | None = None
    #: of the parents that have left memory: how each ended
    past: Mapping[int, str] = MappingProxyType({})
    #: the archived run that has the key, and what it says of the payload it came with
    known: tuple[int, int | None] | None = None
    #: the run and the attempt that queue it from inside: see core/inside.py
    within: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RetryRuns:
    """Queue ended runs again, each as a new run of its job with the payload that stands with it.

    All or none. `past` has those of the runs that have left memory.
    """

    runs: Sequence[tuple[int, bytes | Body]]
    request: bytes | None = None
    #: id -> core/entities.Run, which this module cannot know
    past: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArchiveRuns:
    """Let go of those of these runs that are over and that nobody needs: they are archived."""

    runs: Sequence[int]


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Cancel one run; an active one is told to stop."""

    run: int


@dataclass(frozen=True, slots=True)
class CancelRuns:
    """Cancel those of the runs that are not over; many that wait are one record."""

    runs: Sequence[int]


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Cancel every run of a job that is not over: one record for all that wait or are held."""

    job: str


@dataclass(frozen=True, slots=True)
class ReportStarted:
    """An attempt runs. `at` by the engine's clock; `pull_ms`: what its image took to fetch."""

    run: int
    attempt: int
    engine_id: str
    image_id: str
    at: int
    pull_ms: int = 0


@dataclass(frozen=True, slots=True)
class ReportRefused:
    """An attempt could not be started by its own fault (no such image, no such command)."""

    run: int
    attempt: int
    error: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ReportEnded:
    """An attempt ended; facts only, the core decides what they mean.

    `host_fault` says that the host ended it (the engine was stopped, the host went down).
    `log_tail` holds the last words, 8 KiB at most; `result` is inline up to 4 KiB, else a Body;
    `output` is a Body with `output_files` files; `note` what could not be kept. What it used and
    where that comes from is as in AttemptEnded.
    """

    run: int
    attempt: int
    exit_code: int
    at: int
    oom: bool = False
    host_fault: bool = False
    error: str | None = None
    cpu_seconds: float | None = None
    memory_peak: int | None = None
    memory_peak_source: str = "none"
    log_bytes: int = 0
    log_truncated: bool = False
    log_tail: bytes = b""
    result: bytes | Body | None = None
    cpu_source: str = "none"
    block_read: int | None = None
    block_written: int | None = None
    block_source: str = "none"
    throttled_ms: int | None = None
    throttled_periods: int | None = None
    periods: int | None = None
    throttle_source: str = "none"
    output: Body | None = None
    output_files: int = 0
    note: str | None = None
    #: how far it last said it was: percent, and what it was at
    progress: tuple[int | None, str] | None = None


@dataclass(frozen=True, slots=True)
class ReportQuiet:
    """A running attempt has given no output for as long as its job allows."""

    run: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ReportLost:
    """An attempt that had started is gone, and nobody can tell how it ended."""

    run: int
    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class ReportUnstarted:
    """An attempt that had not started was given up for the host's fault, or told to stop in time.

    `cancelled` is true where it was told to stop before it began.
    """

    run: int
    attempt: int
    error: str
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class HoldRun:
    """Keep a waiting run back until somebody releases it."""

    run: int


@dataclass(frozen=True, slots=True)
class ReleaseRun:
    """Let a held run start."""

    run: int


@dataclass(frozen=True, slots=True)
class MoveRunFirst:
    """Put a queued run before all others of its job and priority."""

    run: int


@dataclass(frozen=True, slots=True)
class EditRun:
    """Change what is said here of a run that is not over; labels are set beside the others."""

    run: int
    priority: int | None = None
    not_before: int | None = None
    timeout: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrainHost:
    """Stop (or with `draining` false, let go on) the starts on this host."""

    draining: bool


@dataclass(frozen=True, slots=True)
class SetGroups:
    """Take what jobd.toml says of groups (core/groups.py), in its form."""

    groups: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TimeOver:
    """A timer of a run came due: `timeout` of an attempt, `grace` of a stop, the run's `total`
    time, or it `expires`."""

    what: str
    run: int
    attempt: int


Report = ReportStarted | ReportRefused | ReportEnded | ReportQuiet | ReportLost | ReportUnstarted
Command = (
    RegisterJob
    | UnregisterJob
    | ApplyJobs
    | PauseJob
    | AddSchedule
    | RemoveSchedule
    | PauseSchedule
    | FireSchedule
    | ScheduleDue
    | EmitTopic
    | QueueRun
    | QueueDrop
    | SettleDrop
    | TakeChanges
    | SetJob
    | RetryRuns
    | CancelRun
    | CancelRuns
    | CancelJob
    | HoldRun
    | ReleaseRun
    | MoveRunFirst
    | EditRun
    | DrainHost
    | SetGroups
    | ArchiveRuns
    | AlertCommand
    | Report
    | TimeOver
)

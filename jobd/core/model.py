"""What jobs are: their definitions as values, frozen. What changes lives in core/state.py.

Units: durations are integer milliseconds, sizes bytes, `cpus` cores (a fraction is a share).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jobd.core.alertspec import AlertSpec
from jobd.core.on import On
from jobd.core.rates import Rate
from jobd.core.schedule import ScheduleSpec
from jobd.core.states import Kind, Outcome
from jobd.core.watching import WatchSpec


class Needs(NamedTuple):
    """What a run takes of the host's capacity: cores, bytes of memory, GPUs."""

    cpus: float
    memory: int
    gpus: int = 0


class Now(NamedTuple):
    """The one moment a pass of the core happens at: `wall` is UTC, `mono` never goes back (ms)."""

    wall: int
    mono: int


class Reason(NamedTuple):
    """Why a run is where it is: one word for programs, one sentence for people."""

    code: str
    text: str


#: what a run may ask of a parent that it waits for, and how a sentence says it
CONDITIONS = {"ok": "succeed", "any": "end", "fail": "fail"}


#: what becomes of a run where a parent ended otherwise than was asked for (`queue --unmet`)
UNMET = ("skip", "fail", "hold")


def met(outcome: str, condition: str) -> bool:
    """Whether a parent that ended so meets the condition."""
    return condition == "any" or (condition == "ok") is (outcome == Outcome.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Retry:
    """When an attempt is followed by another, and after what wait.

    `on` holds outcomes; `statuses` inclusive ranges of exit statuses that are retried as well,
    whatever `on` says of `failed`.
    """

    attempts: int = 1
    delay: int = 10_000
    factor: float = 2.0
    max_delay: int = 600_000
    jitter: float = 0.2
    on: frozenset[Outcome] = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.OOM_KILLED})
    statuses: tuple[tuple[int, int], ...] = ()
    #: `retry`, `hold` or `dead`: what becomes of a started attempt that the host lost
    interrupted: str = "hold"
    #: bytes more after an attempt ran out of memory, and at most
    memory_step: int | None = None
    memory_max: int | None = None


class Mount(NamedTuple):
    """A folder or file of the host inside the attempt; `source` as its owner wrote it."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what with a job: users, `@groups`, numbers, or `*` (core/access.py).

    None: what jobd.toml says counts. `override` holds what a submitter may set otherwise.
    """

    submit: tuple[str, ...] | None = None
    override: tuple[str, ...] = ()
    read: tuple[str, ...] | None = None
    manage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Api:
    """What attempts of a job may ask of jobd from inside (core/inside.py): nothing unless `on`.

    `queue` and `emit` name jobs and topics, or `*` for all; `children` is how many runs one run may
    queue in all, `depth` how many runs may stand one above the other in such a line.
    """

    on: bool = False
    queue: tuple[str, ...] = ()
    emit: tuple[str, ...] = ()
    children: int = 1000
    depth: int = 5


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One revision of a job: everything its owner said, with the defaults filled in."""

    name: str
    #: None: its attempts are processes of the host
    image: str | None = None
    command: tuple[str, ...] | None = None
    pull: str = "missing"
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    network: str = "bridge"
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    priority: int = 0
    #: `allow`, `queue` (one at a time), `skip` or `replace`: see core/overlap.py
    overlap: str = "allow"
    timeout: int = 3_600_000
    #: of one attempt without output
    idle_timeout: int | None = None
    #: of the run, from its first start
    total_timeout: int | None = None
    expires: int | None = None
    stop_signal: str = "SIGTERM"
    stop_grace: int = 30_000
    cpus: float = 1.0
    memory: int = 512 << 20
    pids: int = 512
    #: GPUs that each run has for itself
    gpus: int = 0
    #: bytes of /dev/shm; None: the engine's own choice (Docker: 64M)
    shm: int | None = None
    #: limits of the kernel by their names (core/specaccess.py): the engine's own where not said
    ulimits: Mapping[str, int] = field(default_factory=dict)
    concurrency: int | None = None
    queue: int | None = None
    #: starts in a time, and how many of them at once; None: its count
    rate: Rate | None = None
    burst: int | None = None
    #: of jobd.toml, whose limits it shares
    group: str | None = None
    #: what its runs' keys are made from, of which one at a time is active
    mutex: str | None = None
    #: failures in a row after which nothing starts, and how long until one run is tried
    breaker_failures: int | None = None
    breaker_probe: int = 300_000
    retry: Retry = field(default_factory=Retry)
    #: `none` or `payload`: what its standard input gives
    stdin: str = "none"
    access: Access = field(default_factory=Access)
    schedules: tuple[ScheduleSpec, ...] = ()
    #: what makes runs of it beside people and the clock
    on: tuple[On, ...] = ()
    alerts: tuple[AlertSpec, ...] = ()
    api: Api = field(default_factory=Api)

    @property
    def watches(self) -> tuple[WatchSpec, ...]:
        """The paths among what it listens to."""
        return tuple(each for each in self.on if isinstance(each, WatchSpec))

    @property
    def kind(self) -> Kind:
        """What its attempts are."""
        return Kind.PROCESS if self.image is None else Kind.CONTAINER

    @property
    def needs(self) -> Needs:
        """What one run of it takes."""
        return Needs(self.cpus, self.memory, self.gpus)

"""What jobd asks of an engine: start, follow, look at, stop, collect and list attempts.

Every call may block, is made from a worker thread, and is safe to repeat: an attempt has one
reference for life (:attr:`Order.ref`), and doing a thing twice finds what the first time made.
Nothing here assumes a container per attempt or a folder shared with the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class EngineError(Exception):
    """The base of what an engine's call may raise."""


class EngineUnreachableError(EngineError):
    """No answer, or an answer that speaks of the engine's own trouble: the host's fault.

    Says nothing about the attempt. The caller waits and asks again.
    """


class EngineTroubleError(EngineUnreachableError):
    """The engine answers, and could not do it for trouble of its own: a full disk, for one.

    The host's fault too; but other requests may well succeed.
    """


class PullFailedError(EngineTroubleError):
    """The image is not here and its registry cannot be reached, or has trouble of its own.

    The host's fault as well: the pull may be repeated. An image that the registry does not know
    or does not give away is a StartRefusedError.
    """


class StartRefusedError(EngineError):
    """The attempt cannot be started by its own fault: no such image, no such command, ...

    `exit_code` is 127 (no such command), 126 (cannot be executed) or None, as a shell would say.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class GoneError(EngineError):
    """The engine answers, and knows no such attempt: never started, or removed by somebody."""


class OrphanedError(GoneError):
    """What watched over the attempt is gone, and with it the word on how it ended.

    What was left of it was stopped. Its sentence says what happened.
    """


class CalledOffError(EngineError):
    """Whoever waited for a long step does not want its end any more; raised by its progress."""


class ForeignError(EngineError):
    """Something that is not ours bears the attempt's name; it was not touched."""


class Stream(StrEnum):
    """Which of its two output streams an attempt wrote to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Phase(StrEnum):
    """Where an attempt is, in the engine's word."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    #: going away or stuck; look again later
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host inside the attempt."""

    source: str
    target: str
    read_only: bool = True


class Input(Protocol):
    """What one attempt is given on its standard input. For an engine's threads."""

    def open(self) -> int:
        """A file descriptor of the bytes, taken before the attempt could write there."""

    def begun(self) -> None:
        """The attempt was started by this process, which writes its input."""

    @property
    def over(self) -> bool:
        """Whether the attempt is known to have ended: it takes no more."""

    def settled(self, whole: bool) -> None:
        """Writing has come to its end: with the last byte or the attempt's end, or it broke."""


@dataclass(frozen=True, slots=True)
class Order:
    """Everything an engine has to know to start one attempt. Built by the daemon, never by a user.

    Units: `cpus` are cores, `memory` and `log_bytes` bytes.
    """

    #: deterministic name: `jobd-<first 8 hex of the store's uuid>-<run>-<attempt>`
    ref: str
    #: `jobd.store`, `jobd.job`, `jobd.run`, `jobd.attempt`
    labels: Mapping[str, str]
    run: int
    attempt: int
    job: str
    #: empty: a process of the host
    image: str
    #: id of the image that an earlier attempt of this run used, or None
    image_id: str | None
    #: `missing`, `always` or `never`
    pull: str
    command: tuple[str, ...] | None
    #: the whole environment that jobd adds; the image's own stays
    env: Mapping[str, str]
    user: str | None
    network: str
    mounts: tuple[Mount, ...]
    cpus: float
    memory: int
    pids: int
    stop_signal: str
    #: folder of the host with `payload`, `config`, `result`, `out/`: the attempt's TASK_DIR
    task_dir: Path
    #: how much output the engine itself has to be able to give back, at least
    log_bytes: int
    secrets_dir: Path | None = None
    #: what its standard input is written from; None: it has none
    stdin: Input | None = None
    #: devices of the host, by their paths
    devices: tuple[str, ...] = ()
    #: a file of the host that is the payload, where that is not in `task_dir`: read-only
    payload: Path | None = None
    #: seconds without output after which it is to be told
    idle: float | None = None
    #: the numbers of the GPUs that it has for itself
    gpus: tuple[int, ...] = ()
    #: bytes of /dev/shm; None: the engine's own choice
    shm: int | None = None
    #: limits of the kernel by their names, soft and hard alike
    ulimits: tuple[tuple[str, int], ...] = ()
    #: folder of the host with the socket by which it asks from inside, or None
    api_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt that runs (or has run): times are milliseconds UTC, `pull_ms` a duration.

    `image_id` is empty for a process.
    """

    engine_id: str
    image_id: str
    at: int
    pull_ms: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used. Sizes in bytes; None where nobody can tell.

    Where a figure comes from: `parent`, a cgroup of the attempt's own that outlives it, so by the
    kernel's count of all its processes together; `sampled`, looks once a second, so the last moment
    is missing; `rusage`, what the kernel tells of ended processes: of memory the largest single
    one, not their sum, and without those that were not waited for; `none`.
    """

    cpu_seconds: float | None = None
    memory_peak: int | None = None
    memory_peak_source: str = "none"
    #: while it runs: in use, less the cache of files, which the kernel gives to whoever needs it
    memory_now: int | None = None
    cpu_source: str = "none"
    block_read: int | None = None
    block_written: int | None = None
    block_source: str = "none"
    #: for how long, and in how many of all `periods`, it was held back by its CPU limit
    throttled_ms: int | None = None
    throttled_periods: int | None = None
    periods: int | None = None
    throttle_source: str = "none"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. `finished_at` is milliseconds UTC by the engine's clock."""

    exit_code: int
    started_at: int
    finished_at: int
    oom: bool = False
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    #: whether the host ended it, and not the job; None where the engine cannot tell
    host_fault: bool | None = None
    #: lines and bytes of output that the engine itself had to leave out, where it counts them
    cut: tuple[int, int] = (0, 0)
    #: what the engine has to say about the output or the end, a sentence each, for the log
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt of this store that the engine knows, however it came to be."""

    ref: str
    labels: Mapping[str, str]
    engine_id: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output, or a part of one, with the time at which the engine took it.

    `partial` is true where no newline followed: a line longer than the engine's buffer, or the
    last words of an attempt. The newline itself is never in `data`.
    """

    time_ns: int
    stream: Stream
    data: bytes
    partial: bool = False


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What `jobctl status` says of the engine."""

    name: str
    version: str
    cpus: float
    memory: int
    notes: tuple[str, ...] = ()
    #: since when this very engine runs (milliseconds UTC), where that can be told
    started_at: int | None = None


class Progress(Protocol):
    """Called with one short line while a long step (a pull) goes on, five times a second at most.

    What it raises (CalledOffError) ends the waiting for that step.
    """

    def __call__(self, text: str) -> None: ...


class Engine(Protocol):
    """One engine. Any call may raise :class:`EngineUnreachableError`."""

    def connect(self) -> EngineInfo:
        """Ask the engine who it is; also after it was out of reach."""

    def start(self, order: Order, progress: Progress) -> Started:
        """See to it that the attempt runs or has run, and say since when.

        Finds what an earlier call made: a created container is started, a running or ended one is
        left as it is. Raises StartRefusedError, ForeignError; PullFailedError, which is the host's
        fault; GoneError where somebody removes the attempt while it is being started; what
        `progress` raises, during a pull. What is left after a refusal is for :meth:`discard`.

        A command that does not exist shows here or, where an init runs it, as an ending with exit
        status 127 (126: cannot be executed) and an `error` that says so.
        """

    def phase(self, ref: str) -> Phase:
        """Where the attempt is. Raises GoneError."""

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """The attempt's output from `since_ns` on (nanoseconds UTC, inclusive), in bounded batches.

        Follows a running attempt. Ends, and is complete, when the attempt has ended (ask
        :meth:`ending` how) or was not started; ends early after :meth:`close`. Raises
        EngineUnreachableError where the stream breaks and cannot be taken up again: go on later.
        An empty batch is a sign of life (at least every 10 s).
        Times rise within one stream, not across both, and the parts of one long line may share a
        time: to go on exactly, ask again from the last time and skip, per stream, what was had
        of that time (DURABILITY, "logs doubled or lost at re-attach"). Raises GoneError.
        """

    def ending(self, ref: str) -> Ending | None:
        """How the attempt ended, or None while it has not. Raises GoneError."""

    def signal(self, ref: str, signal: str) -> None:
        """Send a signal by name (`SIGTERM`). One that has ended is left alone. Raises GoneError."""

    def usage(self, ref: str) -> Usage:
        """What a running attempt has used so far. Cheap: called once a second."""

    def discard(self, ref: str) -> None:
        """Remove what is left of an ended attempt; nothing there is as good."""

    def found(self) -> list[Found]:
        """Every attempt of this store that the engine knows."""

    def close(self) -> None:
        """Let go of connections. Attempts go on."""

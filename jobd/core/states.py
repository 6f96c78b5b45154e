"""The words for where things are: what is stored, and what a person sees.

Imports nothing heavy: the client uses these on its hot path.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class RunState(IntEnum):
    """Where a run is, as stored. Values are on disk: never renumbered."""

    WAITING = 0
    HELD = 1
    ACTIVE = 2
    DONE = 3


class Kind(StrEnum):
    """What a job's attempts are, and so which engine runs them."""

    #: a job with an image
    CONTAINER = "container"
    #: a job without one: a process of the host, not isolated
    PROCESS = "process"


class AttemptState(IntEnum):
    """Where an attempt is, as stored."""

    CLAIMED = 0
    RUNNING = 1
    STOPPING = 2
    ENDED = 3


class Outcome(StrEnum):
    """How an attempt or a run ended. `INTERRUPTED` is an attempt's alone: the host's fault."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    OOM_KILLED = "oom-killed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    LOST = "lost"
    INTERRUPTED = "interrupted"


#: outcomes after which a run is `dead` once no attempt is left
DEAD_OUTCOMES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.OOM_KILLED, Outcome.LOST})


class Status(StrEnum):
    """The one word a person sees for a run (INTERFACE, "Status words")."""

    DELAYED = "delayed"
    BLOCKED = "blocked"
    HELD = "held"
    QUEUED = "queued"
    RETRYING = "retrying"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    OOM_KILLED = "oom-killed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    LOST = "lost"


FINAL = frozenset(
    {
        Status.SUCCEEDED,
        Status.FAILED,
        Status.TIMED_OUT,
        Status.OOM_KILLED,
        Status.CANCELLED,
        Status.EXPIRED,
        Status.SKIPPED,
        Status.LOST,
    }
)

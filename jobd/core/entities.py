"""Jobs, runs and attempts as the state holds them: mutable, slotted, changed by apply() alone.

A waiting run has to be small, a million of them fit in a few hundred megabytes: what its revision
says is shared, what few runs have is in `options`, and its payload stays on disk at `where`. With
its 16 slots it takes 160 bytes; one more would cost it 16, in each of a million.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from jobd.core import principals
from jobd.core.commands import Body
from jobd.core.events import (
    AttemptEnded,
    AttemptStarted,
    AttemptStopping,
    RunFinished,
    RunHeld,
)
from jobd.core.model import JobSpec, Needs, Reason, met
from jobd.core.runids import RunIds
from jobd.core.shards import Shards
from jobd.core.states import AttemptState, Outcome, RunState, Status

#: how many of a job's run times are kept, for estimates
TIMES = 20


class Host:
    """What is kept of the host as a whole."""

    __slots__ = ("drained_at", "drained_by", "rev", "salvaged_at")

    def __init__(self) -> None:
        self.rev = 0
        #: since when no run starts on it, and who wanted that; None and empty where they may
        self.drained_at: int | None = None
        self.drained_by = ""
        #: when the queue was last written anew after damage, or None
        self.salvaged_at: int | None = None


class Breaker:
    """Straight failures of a job, and (while it is open) until when nothing of it starts."""

    __slots__ = ("failures", "opened_at", "text", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.opened_at = 0
        self.until: int | None = None
        self.text = ""


class Job:
    """A registered job with its revisions and what of its runs is where."""

    __slots__ = (
        "active",
        "done",
        "held",
        "id",
        "keys",
        "made",
        "name",
        "origin",
        "parked",
        "passed",
        "paused",
        "ready",
        "reason",
        "registered_at",
        "removed",
        "rev",
        "revision",
        "revisions",
        "runs",
        "times",
        "waiting",
    )

    def __init__(self, id_: int, name: str) -> None:
        self.id = id_
        self.name = name
        #: number of changes so far: the revision of its next record less one
        self.rev = 0
        #: number of its newest definition
        self.revision = 0
        #: definitions by number: all that a kept run is pinned to
        self.revisions: dict[int, JobSpec] = {}
        #: when each revision was registered, and the caller as it stands in events
        self.made: dict[int, tuple[int, list[Any]]] = {}
        self.registered_at = 0
        #: where its newest definition comes from (see commands.RegisterJob)
        self.origin = ""
        self.paused = False
        #: the definition and the host's rules that were last found to agree
        self.passed: tuple[JobSpec, object] | None = None
        self.removed = False
        #: ids of runs that could start, by priority; entries may be stale (see core/ready.py)
        self.ready: dict[int, deque[int]] = {}
        #: why its first ready run has not started, as of the last look
        self.reason: Reason | None = None
        #: its runs by idempotency key
        self.keys: Shards[str, int] = Shards()
        #: all of its runs that are kept
        self.runs = RunIds()
        self.waiting = 0
        #: of the waiting: those that are not due (between two attempts or delayed), or blocked
        self.parked = {Status.RETRYING: 0, Status.DELAYED: 0, Status.BLOCKED: 0}
        self.held = 0
        self.active = 0
        self.done: dict[Outcome, int] = {}
        #: how long its last attempts ran, in milliseconds, oldest first
        self.times: deque[int] = deque(maxlen=TIMES)

    @property
    def spec(self) -> JobSpec:
        """Its newest definition."""
        return self.revisions[self.revision]


class Attempt:
    """One attempt: its number, its state, and the events that it is made of."""

    __slots__ = ("claimed_at", "end", "gpus", "number", "started", "state", "stopping", "where")

    def __init__(self, number: int, claimed_at: int, gpus: list[int] | None = None) -> None:
        self.number = number
        self.claimed_at = claimed_at
        #: the numbers of the host's GPUs that it has for itself, or None
        self.gpus = gpus
        self.state: AttemptState | None = None
        self.started: AttemptStarted | None = None
        self.stopping: AttemptStopping | None = None
        #: without result and log tail, which stay on disk at `where`
        self.end: AttemptEnded | None = None
        self.where = 0


class Run:
    """One run. Its attempts are None until the first one is claimed."""

    __slots__ = (
        "attempts",
        "body",
        "due",
        "id",
        "job",
        "note",
        "options",
        "origin",
        "parents",
        "priority",
        "queued_at",
        "rev",
        "revision",
        "size",
        "state",
        "where",
    )

    def __init__(self, id_: int, job: Job, revision: int) -> None:
        self.id = id_
        self.job = job
        self.revision = revision
        #: moved by the table of runs alone once it is in there (RunTable.move)
        self.state = RunState.WAITING
        self.rev = 0
        self.priority = 0
        self.queued_at = 0
        #: where its RunQueued record lies, for the payload; below 0: where in the archive it is
        self.where = 0
        #: trigger and caller, shared between runs of one origin
        self.origin: tuple[Any, ...] = ()
        self.options: dict[str, Any] | None = None
        #: bytes of its payload, and where that is a file of its own
        self.size = 0
        self.body: Body | None = None
        #: wall time before which it does not start; None once it is in the ready index
        self.due: int | None = None
        self.attempts: list[Attempt] | None = None
        #: parents that it still waits for, by id; None or empty: none
        self.parents: set[int] | None = None
        #: how it ended, or why it is held
        self.note: RunFinished | RunHeld | None = None

    @property
    def spec(self) -> JobSpec:
        """The definition that it is pinned to."""
        return self.job.revisions[self.revision]

    @property
    def archived(self) -> bool:
        """Whether it has left memory and was read back: nothing changes it any more."""
        return self.where < 0

    @property
    def attempt(self) -> Attempt | None:
        """Its newest attempt."""
        return self.attempts[-1] if self.attempts else None

    def option(self, name: str) -> Any:
        """One of the things that few runs have, or None."""
        return self.options.get(name) if self.options else None

    def meets(self, parent: int, outcome: str) -> bool:
        """Whether its condition on that parent lets it start, now that the parent has ended."""
        conditions = self.option("after") or ()
        return all(met(outcome, how) for number, how in conditions if number == parent)

    @property
    def ruling(self) -> JobSpec:
        """The definition whose limits count for it: its job's newest, not the one it is pinned to.

        Else a limit that is lowered would count only for what is queued from then on.
        """
        return self.spec if self.job.removed else self.job.spec

    @property
    def user(self) -> int | str:
        """Who queued it, for counting: a uid, or the principal of a gateway's caller."""
        principal = self.origin[4]
        return (principals.behind(principal) if principal else "") or int(self.origin[1])

    @property
    def memory(self) -> int:
        """Bytes that an attempt of it gets: more than its job says after it ran out of memory."""
        more: int | None = self.options.get("memory") if self.options is not None else None
        return self.spec.memory if more is None else more

    @property
    def needs(self) -> Needs:
        """What its next attempt takes of the host, or its live one holds."""
        return Needs(self.spec.cpus, self.memory, self.spec.gpus)

    @property
    def total_ends_at(self) -> int | None:
        """Wall time at which its total time is over; None: nothing limits it, or not started."""
        if self.spec.total_timeout is None:
            return None
        started = next((a.started for a in self.attempts or () if a.started is not None), None)
        return None if started is None else started.at + self.spec.total_timeout

    @property
    def timeout(self) -> int:
        """What one attempt of it may take, in milliseconds."""
        override = self.option("timeout")
        return self.spec.timeout if override is None else int(override)

    @property
    def expires_at(self) -> int | None:
        """Wall time by which its first attempt has to be claimed, or None."""
        at: int | None = self.option("expires_at")
        return at

    @property
    def charged(self) -> int:
        """How many of its attempts count against the job's word."""
        return sum(1 for a in self.attempts or () if a.end is not None and a.end.charged)

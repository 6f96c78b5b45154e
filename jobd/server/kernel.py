"""What a handler is given: the request, and the kernel that answers it. Protocols and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from jobd.capacity.ledger import Ledger
from jobd.core.archiving import Found, Wanted
from jobd.core.commands import Body, Caller, Command
from jobd.core.entities import Run
from jobd.core.events import RunQueued
from jobd.core.model import Now, Reason
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import Kind
from jobd.errors import JobdError, QueueDamagedError
from jobd.runlog.folder import LogFolder
from jobd.server.recent import Page, Recent

#: what Later names instead of a run: ask again when anything at all has happened
ANYTHING = 0
#: stands among a request's changed runs for more than are named
MANY = -1


class Pending(NamedTuple):
    """The runs that a wait still waits for, the next one last; and those that are told of."""

    open: list[int]
    shown: list[int]
    #: whether one was named plainly
    single: bool


class Request:
    """One request under way, of the connection `peer`.

    `final`: it was parked and its time is over, so answer now. `changed` gathers the runs that
    changed while a thread was at work on it; `deadline` is when its time is over, in monotonic
    milliseconds, once it was parked. `pending`: what a wait for runs waits for. `size` is that of
    its frame, in bytes. `turn` is whose turn it takes: a uid, or below 0 that of a run.
    """

    __slots__ = (
        "arguments",
        "caller",
        "changed",
        "deadline",
        "final",
        "key",
        "number",
        "peer",
        "pending",
        "recalled",
        "size",
        "turn",
        "verb",
    )

    def __init__(
        self,
        peer: int,
        number: int,
        verb: str,
        arguments: dict[str, Any],
        key: bytes | None,
        caller: Caller,
        size: int = 0,
    ) -> None:
        self.peer = peer
        self.number = number
        self.verb = verb
        self.arguments = arguments
        self.key = key
        self.caller = caller
        self.turn = caller.uid if caller.within is None else -caller.within[0]
        self.size = size
        self.final = False
        self.changed: set[int] = set()
        self.deadline: int | None = None
        self.pending: Pending | None = None
        #: what was read for it from the archive: runs by id (None: it is not there), and others
        self.recalled: dict[Any, Any] = {}


class Recall(Exception):
    """Raised by a handler, before it has changed anything, that needs something of the archive:
    have a thread do `work`, put the answer into `request.recalled` by `take`, and ask it again."""

    def __init__(self, work: Callable[[], Any], take: Callable[[Any], None]) -> None:
        super().__init__()
        self.work = work
        self.take = take


class Later(Exception):
    """Raised by a handler that cannot answer yet: ask it again when one of `runs` has changed, or
    after `hold` milliseconds, whichever is first."""

    def __init__(self, runs: Iterable[int], hold: int) -> None:
        super().__init__()
        self.runs = frozenset(runs)
        self.hold = hold


class Parts:
    """An answer in parts: what the iterator yields, then its `return` value as the last word.

    A part may be an Offload, which makes it in a thread. One with `then` is no part: the iterator
    is sent what `then` makes of that, in the loop's own thread.

    The loop takes one part a pass, so that a long list keeps nobody else waiting; None is a part
    of the work with nothing to send.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterator[Any]) -> None:
        self.parts = parts


class Offload:
    """Work on files, for a thread beside the loop; it answers or raises as a handler does.

    `then`, where given, makes the answer of what the work gave, in the loop's own thread.
    """

    __slots__ = ("then", "work")

    def __init__(self, work: Callable[[], Any], then: Callable[[Any], Any] | None = None) -> None:
        self.work = work
        self.then = then


class BuildView(NamedTuple):
    """A build as a reader sees it from an offset of its output on; `offset` is where to go on."""

    data: bytes
    offset: int
    over: bool
    #: why it failed, the class of that, and what it made
    error: JobdError | None
    image: str | None
    image_id: str | None


class History(Protocol):
    """Runs that have left memory (jobd/history/reader.py)."""

    newest: dict[int, int]
    highest: int
    keyed: set[int]

    @property
    def any(self) -> bool:
        """Whether there are archived runs at all."""

    @property
    def ready(self) -> bool:
        """Whether they can be asked for now."""

    # the following are for threads; RefusedError where they cannot be asked for now

    def runs(self, ids: Sequence[int]) -> dict[int, Run | QueueDamagedError]:
        """Those of the runs that are archived, or what is wrong with one."""

    def page(self, wanted: Wanted, below: int, most: int) -> Found:
        """Up to `most` archived runs that fit, with an id below that, the highest id first."""

    def last(self, jobs: Sequence[int] | None, see: Callable[[Run], bool]) -> Run | None:
        """The newest archived run of the jobs (None: of all) that `see` accepts."""

    def by_key(self, job: int, key: str) -> Run | None:
        """The newest archived run of the job that has that idempotency key."""


class Answers(Protocol):
    """What changing requests were answered, by their keys (server/answers.py)."""

    def find(self, request: Request) -> Any | None:
        """What the same request was answered before, or None. Raises UsageError."""

    def keep(self, request: Request, answer: Any, now_mono: int) -> None:
        """Remember an answer."""


class Builds(Protocol):
    """Images being built. Safe in any thread."""

    def begin(
        self,
        key: bytes | None,
        context: Callable[[], Body],
        job: str,
        settings: dict[str, Any],
    ) -> int:
        """Begin a build, or find the one that the same request began; its number."""

    def view(self, number: int, offset: int, size: int) -> BuildView | None:
        """Up to `size` bytes of its output, or None where there is no such build."""


class Kernel(Protocol):
    """The core loop, as handlers see it. Only used from its own thread, but for the file calls."""

    logs: LogFolder
    recent: Recent
    ledger: Ledger

    @property
    def answers(self) -> Answers:
        """What changing requests were answered."""

    @property
    def history(self) -> History:
        """Runs that have left memory."""

    @property
    def builds(self) -> Builds:
        """Images being built."""

    @property
    def state(self) -> State:
        """The state, for reading."""

    @property
    def rules(self) -> Rules:
        """What the configuration says now."""

    @property
    def now(self) -> Now:
        """The moment of the pass under way."""

    def decide(self, command: Command, caller: Caller) -> Any:
        """Decide and apply; the answer goes out after the sync. Raises the core's refusals."""

    def take(self, event: RunQueued) -> None:
        """Take in a plain submission that core/plain.py decided on; true after the sync."""

    def room_for(self, size: int) -> int:
        """How many bytes fit, where `size` do; else less than `size`."""

    def require_room(self, size: int) -> None:
        """Raises RefusedError where the disk has no room for `size` bytes more."""

    def hold_reason(self, kind: Kind) -> Reason | None:
        """What keeps every run of that kind from starting now, or None."""

    def never_fits(self, run_job: str) -> Reason | None:
        """Why runs of that job can never start on this host, or None."""

    def progress(self, run: int) -> str | None:
        """What the starting attempt of a run last said."""

    def reported(self, run: int) -> tuple[int | None, str] | None:
        """How far a running attempt of a run said it is: percent, and what it is at; or None."""

    def report(self, within: tuple[int, int], percent: int | None, message: str) -> None:
        """Take note of how far an attempt of a run says it is."""

    def status(self) -> dict[str, Any]:
        """The answer of the verb `status`."""

    def notifier_came(self, caller: Caller) -> None:
        """Take note that somebody asks for alerts to deliver."""

    def alerts_problem(self) -> str | None:
        """Why no alert is delivered, though some wait; or None."""

    def gave_up(self, delivery: int, error: str) -> None:
        """Tell the log that an alert was given up."""

    def status_store(self) -> str:
        """The id of the queue, in hexadecimal."""

    def is_admin(self, caller: Caller) -> bool:
        """Whether the caller may do everything."""

    def refused(self, request: Request, error: JobdError) -> None:
        """Take note of a request that was refused."""

    # the following are safe in any thread

    def keep(self, data: bytes) -> Body:
        """Make a body file of bytes. Raises RefusedError for want of room, DiskFailedError."""

    def secret(self, name: str) -> bytes:
        """The content of a file of the secrets folder, its last newline left out. Raises
        InvalidError."""

    def payload_source(self, run: Run) -> bytes | Body:
        """The payload's bytes where they are in the queue, else which body file has them."""

    def last_words(self, run: Run, number: int) -> bytes:
        """The end of an ended attempt's output, as its end record has it; 8 KiB at most."""

    def result_source(self, run: Run) -> bytes | Body | None:
        """As `payload_source`, of the result of the run's last ended attempt; or None."""

    def piece(self, body: Body, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a body file, from `offset` on."""

    def upload(
        self,
        caller: Caller,
        name: bytes,
        offset: int,
        data: bytes,
        last: bool,
        context: bool = False,
    ) -> int:
        """Take a chunk of a large payload, or of a build's context; the size so far."""

    def uploaded(self, caller: Caller, name: bytes) -> Body:
        """A payload that was uploaded whole. Raises NotFoundError."""

    def ask_snapshot(self) -> int:
        """Have a snapshot of the queue made; its number."""

    def findings(self) -> list[dict[str, Any]]:
        """What is wrong with the set-up, and what to do about it."""

    def events_after(self, after: int, since: int, most: int) -> Page:
        """Events of the queue's files behind `after`, not older than `since` (ms UTC)."""

    def watch_log(self, run: int) -> None:
        """Have parked requests for the run asked again when its log grows."""

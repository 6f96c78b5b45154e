"""What attempts and jobd have to say to each other while they run: by a socket, and by files.

A socket is made before its attempt starts, and made anew by the next daemon, in the same folder:
that is what is mounted. The core loop takes the connections (server/listener.py). Files are looked
at twice a second by one thread for all attempts, and once more by an attempt's driver when it has
ended, before its end is reported. What they ask for goes the way of all requests: one command,
decided on in the loop, and true when it is on disk. Only then is a file let go of.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from jobd.core.commands import Body, QueueRun
from jobd.core.entities import Run
from jobd.core.inside import caller_of, lives, require_emit, require_queue
from jobd.core.onfilter import LOOKED_INTO
from jobd.core.reacting import listeners
from jobd.core.topics import EmitTopic
from jobd.daemon.control import ClosedError, Control
from jobd.daemon.inbox import TOPIC, Inbox, Letter, RejectedError
from jobd.daemon.patience import Timing
from jobd.daemon.workdir import INLINE
from jobd.engine.base import Order, Progress
from jobd.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    JobdError,
    NotFoundError,
    RefusedError,
)
from jobd.journal.bodies import Bodies
from jobd.server.runs import RUN_ROOM

if TYPE_CHECKING:
    from jobd.daemon.core_loop import CoreLoop
    from jobd.daemon.kernel import DaemonKernel
    from jobd.server.router import Router

#: seconds between two looks, and where there is nothing to look at
_LOOK_S, _REST_S = 0.5, 1.0
#: seconds between two tries to queue what was refused for now, when the attempt has ended
_AGAIN_S = 1.0
#: files of one attempt that are refused for good before no more of them are looked at
_MOST_REJECTED = 1000
#: percent and message
Said = tuple[int | None, str]
#: what a file is refused for good by
_FOR_GOOD = (ConflictError, ForbiddenError, InvalidError, NotFoundError)


class Insides:
    """All live attempts that may ask from inside."""

    def __init__(
        self, loop: CoreLoop, router: Router, kernel: DaemonKernel, bodies: Bodies
    ) -> None:
        self._loop = loop
        self._router = router
        self._kernel = kernel
        self.bodies = bodies
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], Inside] = {}
        self._closing = False

    def of(self, order: Order, path: Path) -> Inside | None:
        """What looks after an attempt whose folder is at `path`; None where it asks nothing."""
        if order.api_dir is None:
            return None
        return Inside(self, (order.run, order.attempt), Inbox(path))

    def work(self) -> float:
        """Look at what they have written; after how many seconds to do so again."""
        with self._lock:
            open_ = list(self._open.values())
        with suppress(ClosedError):
            for inside in open_:
                inside.look(self.check_open)
        reports = self._kernel.reports
        if reports.late:
            self._loop.post(lambda: reports.catch_up(self._loop.now.mono))
        return _LOOK_S if open_ else _REST_S

    def close(self) -> None:
        """The daemon stops: whoever waits for the loop waits no more."""
        self._closing = True

    def check_open(self) -> None:
        """Raises ClosedError where the daemon stops."""
        if self._closing:
            raise ClosedError

    @property
    def most(self) -> int:
        """Bytes that a payload may have."""
        return self._loop.rules.max_payload

    # -- for one attempt ---------------------------------------------------------------------

    def opened(self, inside: Inside) -> None:
        """Look at its files from now on."""
        with self._lock:
            self._open[inside.within] = inside

    def shut(self, inside: Inside) -> None:
        """It asks nothing more by its socket, and its files are left alone."""
        with self._lock:
            self._open.pop(inside.within, None)
        self._loop.post(lambda: self._router.shut(inside.within))

    def listen(self, within: tuple[int, int], listening: socket.socket) -> None:
        """Have the loop take what comes by an attempt's socket."""

        def take() -> None:
            run = self._loop.state.runs.get(within[0])
            if run is None or not lives(run, within[1]):
                listening.close()
            else:
                self._router.listeners.open(caller_of(run, within[1]), listening)

        self._loop.post(take)

    def forget(self, within: tuple[int, int]) -> None:
        """Nobody asks any more how far an attempt is: its end says so."""
        self._loop.post(lambda: self._kernel.reports.forget(*within))

    def last_word(self, within: tuple[int, int]) -> Said | None:
        """What an attempt last said of how far it is."""
        return self._kernel.reports.last(*within)

    def report(self, within: tuple[int, int], percent: int | None, message: str) -> None:
        """Have the loop take note of how far an attempt says it is."""
        self._loop.post(lambda: self._kernel.report(within, percent, message))

    def queue(
        self,
        within: tuple[int, int],
        wanted: list[tuple[Letter, bytes | Body]],
        check: Callable[[], None],
    ) -> list[JobdError | None]:
        """Queue a run for each, or say why not; true on disk. `check` may end the waiting."""
        done = threading.Event()
        answers: list[JobdError | None] = []

        def take() -> None:
            answers.extend(self._queue(within, *each) for each in wanted)
            # what is posted now is done in the next pass, when this one's batch is on disk
            self._loop.post(done.set)

        self._loop.post(take)
        while not done.wait(0.2):
            check()
        return answers

    def _queue(
        self, within: tuple[int, int], letter: Letter, payload: bytes | Body
    ) -> JobdError | None:
        run = self._loop.state.runs.get(within[0])
        if run is not None and letter.job.startswith(TOPIC):
            return self._emit(run, within, letter, payload)
        never = self._kernel.never_fits(letter.job)
        if run is None or never is not None:
            return ConflictError(never.text if never is not None else "the run is gone")
        caller = caller_of(run, within[1])
        command = QueueRun(
            letter.job,
            [payload],
            "api",
            caller,
            # for as long as the run is kept: a file that is found again makes no second one
            key=f"{within[0]}.{within[1]}/{letter.name.partition('.')[0]}",
            within=within,
        )
        try:
            require_queue(run, letter.job)  # before it is told whether there is such a job
            self._kernel.require_room(RUN_ROOM + (len(payload) if type(payload) is bytes else 0))
            self._kernel.decide(command, caller)
        except (*_FOR_GOOD, RefusedError) as error:
            return error
        return None

    def _emit(
        self, run: Run, within: tuple[int, int], letter: Letter, payload: bytes | Body
    ) -> JobdError | None:
        topic, state = letter.job.removeprefix(TOPIC), self._loop.state
        seen = payload[: LOOKED_INTO + 1] if isinstance(payload, bytes) else b""
        # a file that is found again after a crash notifies no second time
        name = f"{within[0]}.{within[1]}/{letter.name}".encode()
        key = blake2b(name, digest_size=16, key=self._loop.journal.store).digest()
        try:
            require_emit(run, topic)
            many = len(listeners(state, topic, {}, seen)) + 1
            self._kernel.require_room(many * (RUN_ROOM + len(seen)))
            self._kernel.decide(EmitTopic(topic, payload, {}, seen, key), caller_of(run, within[1]))
        except (*_FOR_GOOD, RefusedError) as error:
            return error
        return None


class Inside:
    """One attempt's side of it. Its driver opens and closes it; :meth:`look` is any thread's."""

    def __init__(self, insides: Insides, within: tuple[int, int], inbox: Inbox) -> None:
        self._insides = insides
        self.within = within
        self._inbox = inbox
        self._lock = threading.Lock()
        self._listens = self._shut = False
        #: payloads of files that wait for room
        self._read: dict[str, bytes | Body] = {}
        self._rejected = 0
        #: what its file said last of all
        self._said: Said | None = None

    def open(self) -> None:
        """Make its socket, and look at its files from now on. Raises OSError."""
        with self._lock:
            self._listen()
        self._insides.opened(self)

    def adopt(self) -> None:
        """As :meth:`open`, of an attempt that runs; what cannot be made now is tried again."""
        with suppress(OSError):
            self.open()
        self._insides.opened(self)

    def _listen(self) -> None:
        if not self._listens:
            self._insides.listen(self.within, self._inbox.listen())
            self._listens = True

    def look(self, check: Callable[[], None]) -> None:
        """See what it has written meanwhile."""
        with self._lock:
            if self._shut:
                return
            with suppress(OSError):
                self._listen()
            told = self._inbox.progress()
            if told is not None:
                self._insides.report(self.within, *told)
            if not self._is_too_much:
                self._queue(self._inbox.take(final=False), check)

    def shut(self) -> None:
        """The attempt has ended, or never began: nothing is asked from inside any more."""
        with self._lock:
            self._shut = True
        self._insides.shut(self)

    def over(self) -> None:
        """As :meth:`shut`; its end is on its way to the core."""
        self.shut()
        self._insides.forget(self.within)

    @property
    def last_word(self) -> Said | None:
        """How far it said it was, last of all."""
        return self._said or self._insides.last_word(self.within)

    def close(self, control: Control, progress: Progress, timing: Timing) -> list[str]:
        """As :meth:`shut`; queue what it has left, and tell in sentences what of all could not be.

        Raises ClosedError where the daemon stops: the next one does it again.
        """
        self.shut()
        until = time.monotonic() + timing.result_patience
        told = self._inbox.progress()
        if told is not None:
            self._said = told
        while not self._is_too_much and (letters := self._inbox.take(final=True)):
            trouble = self._queue(letters, control.check_open)
            if trouble is None:
                continue
            if time.monotonic() >= until:
                self._inbox.say(f"queue: files lost that it left: {trouble}")
                break
            progress(f"waiting to queue what it has left in queue/: {trouble}")
            control.pause(_AGAIN_S)
        return self._inbox.notes

    def _queue(self, letters: list[Letter], check: Callable[[], None]) -> JobdError | None:
        """Make runs of the files; what keeps some of them waiting, or None."""
        wanted: list[tuple[Letter, bytes | Body]] = []
        trouble: JobdError | None = None
        for letter in letters:
            try:
                wanted.append((letter, self._payload(letter)))
            except RejectedError as error:
                self._reject(letter, str(error))
            except RefusedError as error:
                trouble = error
                break
        if not wanted:
            return trouble
        answers = self._insides.queue(self.within, wanted, check)
        for (letter, _), refusal in zip(wanted, answers, strict=True):
            if isinstance(refusal, RefusedError):
                trouble = refusal
            elif refusal is not None:
                self._reject(letter, str(refusal))
            else:
                self._done(letter)
        return trouble

    def _payload(self, letter: Letter) -> bytes | Body:
        """Its bytes, in a file of their own where they are many. Raises RefusedError for room."""
        known = self._read.get(letter.name)
        if known is None:
            data = self._inbox.read(letter, self._insides.most)
            known = data if len(data) <= INLINE else self._insides.bodies.put(data)
            self._read[letter.name] = known
        return known

    @property
    def _is_too_much(self) -> bool:
        """Whether so many of its files were none that no more are looked at."""
        if self._rejected < _MOST_REJECTED:
            return False
        self._inbox.say(f"queue: {self._rejected} files were not taken: no more are looked at")
        return True

    def _reject(self, letter: Letter, why: str) -> None:
        self._rejected += 1
        job, _, name = letter.shown.partition("/")
        self._inbox.note(job, name, f"not queued: {why}")
        self._done(letter)

    def _done(self, letter: Letter) -> None:
        self._read.pop(letter.name, None)
        self._inbox.done(letter)

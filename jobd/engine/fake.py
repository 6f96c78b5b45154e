"""An engine without containers: attempts are threads that do what their command's words say.

For tests and for trying jobd out (`jobd run --engine fake`). Its attempts live and die with the
process. It can be put out of reach, made forgetful, and its streams can be broken anywhere.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

from jobd.engine.base import (
    Ending,
    EngineError,
    EngineInfo,
    EngineUnreachableError,
    ForeignError,
    Found,
    GoneError,
    Line,
    Order,
    Phase,
    Progress,
    Started,
    StartRefusedError,
    Stream,
    Usage,
)
from jobd.engine.feeding import Feeder
from jobd.engine.script import Killed, Step, steps

_MILLI = 1_000_000


class FakeAttempt:
    """One attempt: what it has written, where it is, and the thread that runs its steps."""

    def __init__(self, engine: FakeEngine, order: Order, script: list[Step]) -> None:
        self.order = order
        self.phase = Phase.CREATED
        self.starts = 0
        self.exit_code = 0
        self.oom = False
        self.ignore_term = False
        self.memory = 1 << 20
        self.started_at = self.finished_at = 0
        self.changed = threading.Condition()
        #: lines written so far, oldest first, and how many were dropped before them
        self.lines: list[Line] = []
        self.dropped = 0
        self._bytes = 0
        self._signals: list[str] = []
        self._engine = engine
        self._script = script
        self._input: socket.socket | None = None

    def start(self) -> None:
        """Run the steps, once."""
        with self.changed:
            if self.phase is not Phase.CREATED:
                return
            self.phase = Phase.RUNNING
            self.starts += 1
            self.started_at = self._engine.clock_ns()
        if self.order.stdin is not None:
            self._input, theirs = socket.socketpair()
            Feeder(_Pipe(theirs), self.order.stdin, self.order.ref).begin()
        name = f"fake {self.order.ref}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        code = 0
        try:
            for step in self._script:
                ended = step(self)
                if ended is not None:
                    code = ended
                    break
        except Killed as killed:
            code = killed.code
        except OSError:
            code = 1  # its folder is gone or full: a program would fail as well
        if self._input is not None:
            self._input.close()
        with self.changed:
            # what the engine said when it was stopped stays
            if self.phase is Phase.RUNNING:
                self._end(code)

    def stdin(self) -> bytes:
        """All of its standard input, read to its end."""
        data = bytearray()
        while self._input is not None and (chunk := self._input.recv(1 << 16)):
            data += chunk
        return bytes(data)

    def _end(self, code: int) -> None:
        self.phase, self.exit_code = Phase.EXITED, code
        self.finished_at = self._engine.clock_ns()
        self.changed.notify_all()

    def write(self, stream: Stream, data: bytes, partial: bool = False) -> None:
        """Write one line; the oldest are dropped beyond what the engine keeps."""
        with self.changed:
            self._check()
            self.lines.append(Line(self._engine.clock_ns(), stream, data, partial))
            self._bytes += len(data) + 1
            if self._bytes > max(self.order.log_bytes, 1000):
                half = len(self.lines) // 2
                self._bytes -= sum(len(line.data) + 1 for line in self.lines[:half])
                del self.lines[:half]
                self.dropped += half
            self.changed.notify_all()

    def rest(self, seconds: float | None) -> None:
        """Sleep, for ever where None; a signal that ends the attempt raises Killed."""
        until = None if seconds is None else time.monotonic() + seconds
        with self.changed:
            while True:
                self._check()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return
                self.changed.wait(left)

    def _check(self) -> None:
        if self.phase is not Phase.RUNNING:
            raise Killed(self.exit_code)
        for signal in self._signals:
            if signal == "SIGKILL":
                raise Killed(137)
            if not self.ignore_term:
                raise Killed(130 if signal == "SIGINT" else 143)

    def signal(self, signal: str) -> None:
        """Take a signal; one that has ended is left alone."""
        with self.changed:
            self._signals.append(signal)
            self.changed.notify_all()

    def kill(self, code: int) -> None:
        """End it from outside, as an engine that stops does."""
        with self.changed:
            if self.phase is Phase.RUNNING:
                self._end(code)


class _Pipe:
    """The engine's end of a standard input."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def close(self) -> None:
        self.sock.close()


class FakeEngine:
    """Implements :class:`jobd.engine.base.Engine` in memory, with faults on demand.

    `clock_ns` stamps lines and times. `calls` counts the calls by name.
    """

    def __init__(
        self, *, clock_ns: Callable[[], int] = time.time_ns, heartbeat_s: float = 0.05
    ) -> None:
        self.clock_ns = clock_ns
        self.attempts: dict[str, FakeAttempt] = {}
        self.calls: dict[str, int] = {}
        #: names that bear something that is not ours
        self.foreign: set[str] = set()
        #: asked at each :meth:`output`: after how many lines its stream breaks, or None
        self.breaks: Callable[[], int | None] = lambda: None
        #: called at the beginning of each call with its name; may sleep, raise, or act
        self.hook: Callable[[str], None] = lambda call: None
        self._heartbeat_s = heartbeat_s
        self._faults: dict[str, list[EngineError]] = {}
        self._reachable = True
        self._lock = threading.Lock()

    # ---- faults

    def fail(self, call: str, *errors: EngineError) -> None:
        """The next calls of that name raise these, in order."""
        with self._lock:
            self._faults.setdefault(call, []).extend(errors)

    def set_reachable(self, reachable: bool) -> None:
        """Out of reach, every call fails and every stream breaks; attempts go on."""
        self._reachable = reachable
        for attempt in list(self.attempts.values()):
            with attempt.changed:
                attempt.changed.notify_all()

    def stop(self, code: int = 137) -> None:
        """The engine stops and takes its attempts along, as Docker without live-restore does."""
        self.set_reachable(False)
        for attempt in list(self.attempts.values()):
            attempt.kill(code)

    def forget(self, ref: str) -> None:
        """Somebody removes the attempt."""
        gone = self.attempts.pop(ref, None)
        if gone is not None:
            gone.kill(137)

    # ---- the protocol

    def connect(self) -> EngineInfo:
        """See the protocol."""
        self._called("connect")
        return EngineInfo("fake", "1", cpus=4.0, memory=8 << 30, notes=("runs no containers",))

    def start(self, order: Order, progress: Progress) -> Started:
        """See the protocol. An image whose name begins with `missing` is refused."""
        self._called("start")
        if order.ref in self.foreign:
            raise ForeignError(f"{order.ref}: a container of that name is not ours")
        attempt = self.attempts.get(order.ref)
        if attempt is None:
            if order.image.startswith("missing"):
                raise StartRefusedError(f"image {order.image}: no such image")
            progress(f"preparing {order.image}")
            attempt = self.create(order)
        attempt.start()
        return Started(
            f"fake-{order.ref}", f"fake:{order.image}", attempt.started_at // _MILLI, pull_ms=0
        )

    def create(self, order: Order) -> FakeAttempt:
        """What a start that was cut short leaves: an attempt that does not run."""
        attempt = FakeAttempt(self, order, steps(order))
        self.attempts[order.ref] = attempt
        return attempt

    def phase(self, ref: str) -> Phase:
        """See the protocol."""
        return self._find("phase", ref).phase

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """See the protocol."""
        attempt = self._find("output", ref)
        left = self.breaks()
        at = 0
        while True:
            with attempt.changed:
                at = max(at, attempt.dropped)
                first = at - attempt.dropped
                if len(attempt.lines) == first:
                    if attempt.phase is not Phase.RUNNING:
                        return
                    attempt.changed.wait(self._heartbeat_s)
                batch = attempt.lines[first : first + 256]
            at += len(batch)
            if not self._reachable or self.attempts.get(ref) is not attempt:
                return
            batch = [line for line in batch if line.time_ns >= since_ns]
            if left is not None:
                if len(batch) >= left:
                    yield batch[:left]
                    return
                left -= len(batch)
            yield batch

    def ending(self, ref: str) -> Ending | None:
        """See the protocol."""
        attempt = self._find("ending", ref)
        if attempt.phase is not Phase.EXITED:
            return None
        return Ending(
            attempt.exit_code,
            attempt.started_at // _MILLI,
            attempt.finished_at // _MILLI,
            attempt.oom,
            usage=self._usage(attempt),
        )

    def signal(self, ref: str, signal: str) -> None:
        """See the protocol."""
        self._find("signal", ref).signal(signal)

    def usage(self, ref: str) -> Usage:
        """See the protocol."""
        return self._usage(self._find("usage", ref))

    def _usage(self, attempt: FakeAttempt) -> Usage:
        return Usage(0.01, attempt.memory, "sampled")

    def discard(self, ref: str) -> None:
        """See the protocol."""
        self._called("discard")
        self.forget(ref)

    def found(self) -> list[Found]:
        """See the protocol."""
        self._called("found")
        return [
            Found(ref, attempt.order.labels, f"fake-{ref}", attempt.phase)
            for ref, attempt in list(self.attempts.items())
        ]

    def close(self) -> None:
        """Attempts end too: there is nobody to go on."""
        for ref in list(self.attempts):
            self.forget(ref)

    def _called(self, call: str) -> None:
        self.hook(call)
        with self._lock:
            self.calls[call] = self.calls.get(call, 0) + 1
            faults = self._faults.get(call)
            if faults:
                raise faults.pop(0)
        if not self._reachable:
            raise EngineUnreachableError("fake engine: out of reach")

    def _find(self, call: str, ref: str) -> FakeAttempt:
        self._called(call)
        try:
            return self.attempts[ref]
        except KeyError:
            raise GoneError(f"{ref}: no such attempt") from None

"""A daemon's socket that answers as a test tells it: a real peer, for what a real daemon cannot be
made to do at will (hang, die, lose a reply, speak another version).

    with Scripted(tmp_path) as peer:
        peer.on("run.list", [Part({"runs": []}), {"count": 0, "more": False}])
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from jobd.errors import JobdError, NotFoundError
from jobd.wire import envelope
from jobd.wire.verbs import BY_NAME

#: makes reply frames of a request: `(arguments) -> [what to answer, ...]`
Answer = Callable[[dict[str, Any]], list[Any]]


class Part:
    """A part of an answer, with more to come."""

    def __init__(self, body: Any) -> None:
        self.body = body


class Raw:
    """A frame as it is."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame


class Scripted:
    """A ROUTER (and a health socket) in a thread, at `folder/run/jobd.sock`.

    Every request is checked against the verb's declaration, as the daemon does, and is kept in
    `asked` as `(verb, arguments, key)`.
    """

    def __init__(self, folder: Path, *, health: dict[str, Any] | bool | None = True) -> None:
        self.home = folder
        self.path = folder / "run" / "jobd.sock"
        self.path.parent.mkdir(exist_ok=True)
        self.asked: list[tuple[str, dict[str, Any], bytes | None]] = []
        self.problems: list[str] = []
        self._answers: dict[str, Answer | list[Any]] = {}
        self._queues: dict[str, list[list[Any]]] = {}
        self.health = (
            {"pid": os.getpid(), "phase": "running", "loop_age_ms": 3, "doing": "idle"}
            if health is True
            else health or None
        )
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def on(self, verb: str, answer: Answer | list[Any]) -> None:
        """Answers `verb` so each time; a plain value is a result, an error is an error."""
        assert verb in BY_NAME
        self._answers[verb] = answer

    def then(self, verb: str, *answers: list[Any]) -> None:
        """Answers `verb` with these in turn, before what `on` says."""
        self._queues.setdefault(verb, []).extend(answers)

    def verbs(self) -> list[str]:
        """The verbs that were asked, in order."""
        return [verb for verb, _, _ in self.asked]

    def watchers(self) -> int:
        """How many hold a connection to the health socket."""
        return len(self._connections)

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Scripted:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None:
            assert not self.problems, self.problems

    def start(self, *, router: bool = True) -> None:
        """Listens; without `router` on the health socket alone: as one that reads its queue."""
        self._stop = threading.Event()
        if self.health is not None and self._listener is None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            name = f"{self.path}.health"
            Path(name).unlink(missing_ok=True)
            self._listener.bind(name)
            self._listener.listen(16)
            self._run(self._serve_health, self._listener)
        if router:
            bound = threading.Event()
            self._run(self._serve, bound)
            assert bound.wait(10)

    def stop(self) -> None:
        """Ends, as a daemon that was killed: sockets close, their files stay."""
        self._stop.set()
        if self._listener is not None:
            # shutdown wakes the thread that accepts; close alone would not
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was the first to end it
        for thread in self._threads:
            thread.join(10)
        self._threads = []
        self._connections = []

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    # --- serving ------------------------------------------------------------------------------

    def _serve(self, bound: threading.Event) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        try:
            router.bind(f"ipc://{self.path}")
            bound.set()
            while not self._stop.is_set():
                if router.poll(20):
                    peer, frame = router.recv_multipart()
                    for reply in self._replies(frame):
                        router.send_multipart([peer, reply])
        finally:
            router.close()
            context.term()

    def _replies(self, frame: bytes) -> list[bytes]:
        try:
            number, verb, arguments, key = envelope.read_request(frame)
            BY_NAME[verb].check(arguments)
            assert (key is not None) == BY_NAME[verb].changes, f"{verb}: key is {key!r}"
        except (AssertionError, JobdError) as problem:
            self.problems.append(str(problem))
            raise
        self.asked.append((verb, arguments, key))
        queue = self._queues.get(verb)
        answer = queue.pop(0) if queue else self._answers.get(verb)
        if answer is None:
            answer = [NotFoundError(f"{verb}: not in this test's script")]
        return [
            _frame(number, body) for body in (answer(arguments) if callable(answer) else answer)
        ]

    def _serve_health(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._run(self._talk, connection)

    def _talk(self, connection: socket.socket) -> None:
        try:
            while connection.recv(100):
                if self.health is not None and self.health.get("phase") != "silent":
                    connection.sendall(json.dumps(self.health).encode() + b"\n")
        except OSError:
            pass  # ended by stop()
        finally:
            connection.close()


def _frame(number: int, body: Any) -> bytes:
    if isinstance(body, Raw):
        return body.frame
    if isinstance(body, Part):
        return envelope.part(number, body.body)
    if isinstance(body, JobdError):
        return envelope.error(number, body)
    return envelope.result(number, body)

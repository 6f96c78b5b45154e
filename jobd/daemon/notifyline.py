"""The connection of `jobd notify` to the daemon: several requests under way, answers as they come.

The client's own channel (jobctl) asks one thing after the other; here a request waits for
deliveries while others tell what became of the last ones.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import zmq

from jobd.errors import JobdError
from jobd.wire import envelope

#: seconds that the daemon has for the health socket's connection
_STEP = 5.0


class GoneError(Exception):
    """The daemon is not there, or has ended."""


class Line:
    """A connection to the daemon whose socket is at `path`. Raises GoneError when it ends."""

    def __init__(self, path: Path, wake: int) -> None:
        """`wake` is an eventfd that ends a wait as well. Raises GoneError."""
        self._wake = wake
        self._number = 0
        # its end is the daemon's end; ZeroMQ would connect again and say nothing
        self._health = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._health.settimeout(_STEP)
        try:
            self._health.connect(str(path) + ".health")
        except OSError as error:
            self._health.close()
            raise GoneError(f"{path}: {error.strerror or error}") from None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{path}")
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._health, zmq.POLLIN)
        self._poller.register(wake, zmq.POLLIN)

    def ask(self, verb: str, arguments: dict[str, Any], key: bytes | None = None) -> int:
        """Send a request; its number."""
        self._number += 1
        self._socket.send(envelope.request(self._number, verb, arguments, key))
        return self._number

    def answers(self, seconds: float) -> list[tuple[int, Any]]:
        """Answers that came within `seconds`, by number; an error of the daemon is a JobdError.

        May be none, where the eventfd stirred or the time is over. Raises GoneError.
        """
        ready = dict(self._poller.poll(round(seconds * 1000)))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._health.fileno() in ready and not self._health.recv(64):
            raise GoneError("jobd has ended")
        made: list[tuple[int, Any]] = []
        while self._socket in ready:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            number, _, answer = envelope.read_reply(frame)
            made.append((number, answer))
        return made

    def close(self) -> None:
        """End it."""
        self._poller.unregister(self._wake)
        self._health.close()
        self._socket.close()
        self._context.term()


def is_error(answer: Any) -> bool:
    """Whether an answer is the daemon's error."""
    return isinstance(answer, JobdError)

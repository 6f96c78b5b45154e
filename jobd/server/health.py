"""The health socket: answers whether the daemon is alive, from a thread that nothing can hold up.

It reads what the core loop publishes and touches neither disk nor engine, so that a hung sync can
be told from a dead daemon. One line in (`ping` or `status`), one line of JSON out; the connection
stays open, and its end tells that the daemon ended (wire/PROTOCOL.md).
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from pathlib import Path
from typing import Any

from jobd.server import peers
from jobd.server.doors import Doors

_LONGEST_LINE = 64
#: seconds until it is tried again to take a connection, where there was no descriptor for one
_PAUSE_S = 1.0


class Pulse:
    """What the core loop publishes: plain attributes, each set as a whole."""

    __slots__ = ("doing", "phase", "status", "turned", "version")

    def __init__(self, version: str) -> None:
        self.version = version
        #: `starting`, `running`, `stopping` or `failed`
        self.phase = "starting"
        #: `idle`, `deciding` or `syncing`, or what a start is at
        self.doing = "reading the queue"
        #: monotonic seconds when the loop last came round
        self.turned = time.monotonic()
        self.status: dict[str, Any] | None = None

    def line(self, ask: str) -> bytes:
        """The answer to one question."""
        answer = {
            "pid": os.getpid(),
            "version": self.version,
            "phase": self.phase,
            "loop_age_ms": int((time.monotonic() - self.turned) * 1000),
            "doing": self.doing,
        }
        if ask == "status":
            answer["status"] = self.status
        elif ask != "ping":
            answer = {"error": "expected ping or status"}
        return json.dumps(answer).encode() + b"\n"


class HealthServer:
    """The thread. The queue's lock must be held before: a stale socket's path is taken over."""

    def __init__(self, path: Path, doors: Doors, pulse: Pulse) -> None:
        self._path = path
        self._pulse = pulse
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        with doors.opening(path):
            self._listener.bind(os.fspath(path))
        # a client holds its connection to see our end: who is in the backlog sees it as well
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._stopping = False
        self._most = peers.room()[1]
        self._peers: dict[socket.socket, bytes] = {}
        #: until when no connection is taken, in monotonic seconds; None while they are
        self._paused: float | None = None
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the socket's file goes too."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(2)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(None if self._paused is None else _PAUSE_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._serve(key.fileobj)
            self._go_on()
        for peer in list(self._peers):
            self._drop(peer)
        self._listener.close()
        self._selector.close()
        os.close(self._wake)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it went away again
        except OSError:
            self._pause()  # there are no descriptors left
            return
        peer.setblocking(False)
        self._peers[peer] = b""
        self._selector.register(peer, selectors.EVENT_READ)
        if len(self._peers) >= self._most:
            # never closed: a client would take that for the daemon's end
            self._pause()

    def _pause(self) -> None:
        """Leave connections in the backlog, of which we would be told again and again."""
        self._selector.unregister(self._listener)
        self._paused = time.monotonic() + _PAUSE_S

    def _go_on(self) -> None:
        """Take connections again, where that was stopped and there is room."""
        if self._paused is None or len(self._peers) >= self._most:
            return
        if time.monotonic() >= self._paused:
            self._paused = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _serve(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(256)
            if not data:
                self._drop(peer)
                return
            *lines, rest = (self._peers[peer] + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                self._drop(peer)
                return
            self._peers[peer] = rest
            for line in lines:
                # a peer that does not read loses its connection, not our time
                peer.sendall(self._pulse.line(line.strip().decode("ascii", "replace")))
        except OSError:
            self._drop(peer)

    def _drop(self, peer: socket.socket) -> None:
        self._selector.unregister(peer)
        del self._peers[peer]
        peer.close()

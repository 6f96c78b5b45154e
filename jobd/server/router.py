"""The ROUTER socket: frames in, requests out; replies in, frames out. One thread's own.

`recv` and `send` frame by frame: the multipart calls cost 10 us more a request (measured with the
hot path's prototype).
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

import zmq

from jobd.codec import MAX_FRAME
from jobd.errors import ConfigError, ForbiddenError, JobdError, UsageError
from jobd.server.access import Users
from jobd.server.doors import Doors
from jobd.server.kernel import Request
from jobd.wire import envelope

#: flags as plain numbers: to combine two of zmq's own costs a microsecond a frame
_NOW, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK) | int(zmq.SNDMORE)
#: messages that wait in a peer's pipe, either way: with frames of 1 MiB this bounds memory
_HWM = 32
#: bytes kept for a peer that does not read, before its replies are dropped
_MOST_UNREAD = 8 << 20
#: `sun_path` in sockaddr_un, less its NUL
_LONGEST_PATH = 107


class Router:
    """The daemon's socket. The queue's lock must be held: a bind steals a live socket's path."""

    def __init__(self, path: Path, doors: Doors, users: Users) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH - len(".health"):
            raise ConfigError(
                f"socket {path}: a socket's path has at most {_LONGEST_PATH - len('.health')} bytes"
            )
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"socket {path}: is there already and is not a socket; move it away")
        self.path = path
        self._users = users
        self._unsent: dict[bytes, deque[bytes]] = {}
        self._context = zmq.Context(io_threads=1)
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.RCVHWM, _HWM)
        self.socket.setsockopt(zmq.SNDHWM, _HWM)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME + 1024)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        # the method below pyzmq's own, which looks for what is not asked for here: 0.9 us a reply
        self._send_frame = zmq.backend.Socket.send
        with doors.opening(path):
            self.socket.bind(f"ipc://{path}")

    def receive(self, most: int) -> tuple[list[Request], int]:
        """Up to `most` requests that wait, and their bytes. What is not one is answered here."""
        requests: list[Request] = []
        size = 0
        recv, again = self.socket.recv, _NOW
        while len(requests) < most and size < MAX_FRAME * 8:
            try:
                identity = recv(again)
            except zmq.Again:
                break
            frame = recv(again, copy=False)
            size += len(frame)
            try:
                if frame.more:
                    self._drain()
                    raise UsageError("message has several parts; a request is one frame")
                requests.append(self._read(identity, frame))
            except JobdError as error:
                number = error.details.pop("request", 0)
                self.send(identity, envelope.error(number if type(number) is int else 0, error))
        return requests, size

    def _drain(self) -> None:
        while self.socket.recv(zmq.NOBLOCK, copy=False).more:
            pass  # dropped one by one: however many there are, they take no memory

    def _read(self, identity: bytes, frame: zmq.Frame) -> Request:
        number, verb, arguments, key = envelope.read_request(frame.buffer)
        try:
            address = frame.get("Peer-Address")
        except zmq.ZMQError:
            address = ""  # libzmq had nothing to say of the peer
        try:
            caller = self._users.caller(str(address))
        except ForbiddenError as error:
            raise ForbiddenError(str(error), request=number) from None
        return Request(identity, number, verb, arguments, key, caller)

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Send a reply; False where the peer reads too slowly: it was kept, or dropped."""
        waiting = self._unsent.get(identity) if self._unsent else None
        if waiting is None and self._send(identity, frame):
            return True
        if waiting is None:
            waiting = self._unsent[identity] = deque()
        if sum(map(len, waiting)) + len(frame) <= _MOST_UNREAD:
            waiting.append(frame)
        return False

    def retry(self) -> bool:
        """Send what peers did not take before; whether any is left."""
        if not self._unsent:
            return False
        for identity, waiting in list(self._unsent.items()):
            while waiting and self._send(identity, waiting[0]):
                waiting.popleft()
            if not waiting:
                del self._unsent[identity]
        return bool(self._unsent)

    def _send(self, identity: bytes, frame: bytes) -> bool:
        try:
            self._send_frame(self.socket, identity, _MORE)
            self._send_frame(self.socket, frame, _NOW)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            # the peer is gone: so is whoever wanted to know
        return True

    def close(self) -> None:
        """Stop listening; the socket's file goes too."""
        self.socket.close()
        self._context.term()
        self.path.unlink(missing_ok=True)

"""One connection to the daemon's socket, as the router keeps it."""

from __future__ import annotations

import socket
import struct
from collections import deque

from jobd.core.commands import Caller
from jobd.server.zmtp import Talk

_CREDENTIALS = struct.Struct("3i")


class Peer:
    """One connection."""

    __slots__ = ("caller", "events", "gid", "known_in", "number", "out", "pid", "since", "socket",
                 "talk", "uid", "under_way", "unread", "wrote")  # fmt: skip

    def __init__(self, number: int, connection: socket.socket, now: float) -> None:
        self.number = number
        self.socket = connection
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, self.gid = _CREDENTIALS.unpack(raw)
        #: who that is, as of a generation of Users
        self.caller: Caller | None = None
        self.known_in = 0
        self.talk = Talk()
        self.out: deque[bytes] = deque()
        #: bytes in `out`
        self.unread = 0
        self.under_way = 0
        self.events = 0
        #: since when it owes the rest of something, and when it last took a byte
        self.since = self.wrote = now

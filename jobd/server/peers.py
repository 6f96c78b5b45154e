"""The connections that there are, and what is kept for each of them and for each user. Pure but
for the sockets that it holds.

Three things are counted: bytes of requests that are not whole (`held`), requests under way with
their bytes (`asked`), and bytes of replies that are made and not read (`unread`).
"""

from __future__ import annotations

import resource
import select
import socket
import struct
from collections import OrderedDict, deque

from jobd.core.commands import Caller
from jobd.server.zmtp import Talk

#: requests of one connection that are under way, and their bytes; more are left in its pipe
_UNDER_WAY, _ASKED = 256, 2 << 20
#: the same of all connections of a user
_UNDER_WAY_OF_USER, _ASKED_OF_USER = 16_384, 32 << 20
#: bytes of replies that a peer has not read: its streams wait, and it loses its connection
FULL, MOST_UNREAD = 1 << 20, 8 << 20
#: bytes that are kept for all connections of one user, either way: the largest loses its connection
MOST_OF_USER = 64 << 20
#: the last part of all connections is for users that have few
_RESERVE = 8
#: descriptors that are left for the queue, logs and attempts
_OTHERS_FILES = 512
_WANTED_FILES = 8192
_MOST_PEERS = 4096
#: seconds for a handshake, for the rest of a request, and without a byte being read
_HANDSHAKE_S, _REST_S, _UNREAD_S = 5.0, 30.0, 60.0
_CREDENTIALS = struct.Struct("3i")


class User:
    """All connections of one uid."""

    __slots__ = ("asked", "held", "peers", "stalled", "uid", "under_way", "unread")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.peers: dict[int, Peer] = {}
        #: those that wait until less of the user's is under way
        self.stalled: OrderedDict[int, Peer] = OrderedDict()
        self.held = self.asked = self.unread = self.under_way = 0

    @property
    def is_busy(self) -> bool:
        """Whether so much of the user's is under way that no more is taken."""
        return self.under_way >= _UNDER_WAY_OF_USER or self.asked > _ASKED_OF_USER

    def largest(self) -> tuple[Peer, str] | None:
        """The connection that has to go, and why; None while the user keeps to the bounds."""
        if self.held > MOST_OF_USER:
            peer = max(self.peers.values(), key=lambda one: one.held)
            return peer, "halves of requests"
        if self.unread > MOST_OF_USER:
            return max(self.peers.values(), key=lambda one: one.unread), "replies that are not read"
        return None


class Peer:
    """One connection."""

    __slots__ = ("asked", "caller", "due", "events", "held", "known_in", "number", "out", "pid",
                 "since", "socket", "talk", "under_way", "unread", "user", "wrote")  # fmt: skip

    def __init__(
        self, number: int, connection: socket.socket, pid: int, user: User, now: float
    ) -> None:
        self.number = number
        self.socket = connection
        self.pid = pid
        self.user = user
        #: who that is, as of a generation of Users
        self.caller: Caller | None = None
        self.known_in = 0
        self.talk = Talk()
        #: what is to be sent, and how many bytes that are
        self.out: deque[bytes | memoryview] = deque()
        self.due = 0
        #: with what is still to come to `out`, once it is on disk
        self.unread = 0
        self.held = self.asked = self.under_way = 0
        self.events = 0
        #: since when it owes the rest of something, and when it last took a byte
        self.since = self.wrote = now

    @property
    def is_full(self) -> bool:
        """Whether it reads so slowly that nothing more should be made for it for now."""
        return self.unread > FULL or (self.user.unread > MOST_OF_USER // 2 and self.unread > 0)

    @property
    def may_ask(self) -> bool:
        """Whether a request of it is taken now; one at a time however busy its user is."""
        if self.under_way == 0:
            return not self.is_full and self.user.asked <= 2 * _ASKED_OF_USER
        return (
            self.under_way < _UNDER_WAY
            and self.asked <= _ASKED
            and not self.is_full
            and not self.user.is_busy
        )

    def is_overdue(self, now: float) -> bool:
        """Whether it has been midway in something, or has not read, for too long."""
        patience = _REST_S if self.talk.ready else _HANDSHAKE_S
        # whom we do not read owes us nothing
        owes = self.talk.midway and self.events & select.EPOLLIN
        if owes and now - self.since > patience:
            return True
        return bool(self.out) and now - self.wrote > _UNREAD_S

    def count_held(self) -> None:
        """Take note of what its talk keeps."""
        held = self.talk.held
        self.user.held += held - self.held
        self.held = held

    def count_unread(self, size: int) -> None:
        """Take note of bytes that were made for it, or were read (below 0)."""
        self.unread += size
        self.user.unread += size

    def count_asked(self, requests: int, size: int) -> None:
        """Take note of requests of so many bytes in all, or of their ends (below 0)."""
        self.under_way += requests
        self.asked += size
        self.user.under_way += requests
        self.user.asked += size


class Peers:
    """All connections, by number and by user. `most`: how many there may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.by_number: dict[int, Peer] = {}
        self.users: dict[int, User] = {}
        self._number = 0

    def add(self, connection: socket.socket, uid: int, pid: int, now: float) -> Peer | None:
        """A new connection, or None where there is no place for it.

        The last eighth of all is shared by the users that are there, so that nobody's connections
        leave none to the others.
        """
        user = self.users.get(uid) or User(uid)
        count, reserve = len(self.by_number), self.most // _RESERVE
        mine = len(user.peers)
        others = len(self.users) + (0 if mine else 1)
        if count >= self.most or (count >= self.most - reserve and mine >= reserve // others):
            return None
        self._number += 1
        peer = Peer(self._number, connection, pid, user, now)
        self.users[uid] = user
        self.by_number[peer.number] = user.peers[peer.number] = peer
        return peer

    def of(self, uid: int | None) -> list[Peer]:
        """All connections of a user."""
        user = None if uid is None else self.users.get(uid)
        return [] if user is None else list(user.peers.values())

    def count(self, uid: int | None) -> int:
        """How many connections a user has."""
        user = None if uid is None else self.users.get(uid)
        return 0 if user is None else len(user.peers)

    def remove(self, peer: Peer) -> None:
        """Forget a connection, and what was counted for it."""
        user = peer.user
        del self.by_number[peer.number], user.peers[peer.number]
        user.stalled.pop(peer.number, None)
        user.held -= peer.held
        peer.held = 0
        peer.count_unread(-peer.unread)
        peer.count_asked(-peer.under_way, -peer.asked)
        if not user.peers:
            del self.users[user.uid]


def who(connection: socket.socket) -> tuple[int, int]:
    """`(uid, pid)` at the other end, as the kernel has it (DURABILITY, security checklist 4)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return uid, pid


def room() -> tuple[int, int]:
    """How many connections there is room for at the socket, and at the health socket.

    Beside the files that the daemon itself needs; its limit on open files is raised for it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # attempts get the usual 1,024 back (engine/shim/command.py)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MOST_PEERS, _MOST_PEERS // 2
    # a client that waits has one of each
    both = max(24, min(soft - _OTHERS_FILES, soft * 3 // 4))
    return min(_MOST_PEERS, both * 2 // 3), min(_MOST_PEERS // 2, both // 3)

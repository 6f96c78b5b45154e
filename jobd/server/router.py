"""The daemon's socket: connections in, requests out; replies in, bytes out. One thread's own.

Whoever connects, what is kept for them is bounded: the bytes of a request that is not whole, of
replies that are not read, the requests under way, the connections of one user. Who goes beyond is
told, or loses the connection, alone.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import select
import socket
import stat
import time
from pathlib import Path

from jobd.codec import MAX_FRAME
from jobd.errors import ConfigError, JobdError
from jobd.server.access import Users
from jobd.server.doors import Doors
from jobd.server.kernel import Request
from jobd.server.peer import Peer
from jobd.server.zmtp import ProtocolError, frame
from jobd.wire import envelope

_log = logging.getLogger(__name__)

#: `sun_path` in sockaddr_un, less its NUL
_LONGEST_PATH = 107
#: read from one peer at once, and messages taken of it before the others' turn
_READ, _TURN = 64 * 1024, 128
#: read first: most requests are short, and to have room for a long one costs each of them 1 us
_FIRST = 4096
#: requests of one connection that are under way; more are left in its pipe
_UNDER_WAY = 256
#: bytes of replies that a peer has not read: its streams wait, and it loses its connection
_FULL, _MOST_UNREAD = 1 << 20, 8 << 20
#: bytes kept for all connections of one user, either way
_MOST_OF_USER = 64 << 20
#: what one connection may keep of that when all of it is taken
_SHARE = 256 * 1024
#: seconds for a handshake, for the rest of a request, and without a byte being read
_HANDSHAKE_S, _REST_S, _UNREAD_S = 5.0, 30.0, 60.0
#: descriptors that are left for the queue, logs and attempts
_OTHERS_FILES = 512
_WANTED_FILES = 8192
_MOST_PEERS = 4096
_SWEEP_S = 1.0
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Router:
    """The socket. The queue's lock must be held: a stale socket's path is taken over."""

    def __init__(self, path: Path, doors: Doors, users: Users) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH - len(".health"):
            raise ConfigError(
                f"socket {path}: a socket's path has at most {_LONGEST_PATH - len('.health')} bytes"
            )
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"socket {path}: is there already and is not a socket; move it away")
        self.path = path
        self._users = users
        self._most_peers = _most_peers()
        self._peers: dict[int, Peer] = {}
        self._by_fd: dict[int, Peer] = {}
        #: by uid: connections, and bytes of replies that are not read
        self._of_user: dict[int, int] = {}
        self._unread_of: dict[int, int] = {}
        self._number = 0
        #: connections that have more to say than was taken, and that have something to be sent
        self._left: dict[int, Peer] = {}
        self._dirty: dict[int, Peer] = {}
        #: connections that ended since the desk last looked
        self.gone: list[int] = []
        self._ready: list[tuple[int, int]] = []
        self._swept = time.monotonic()
        self._refusing_until = 0.0
        self._epoll = select.epoll()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        with doors.opening(path):
            self._listener.bind(os.fspath(path))
        self._listener.listen(1024)
        self._epoll.register(self._listener, _IN)

    def watch(self, descriptor: int) -> None:
        """Have :meth:`wait` end when `descriptor` becomes readable too."""
        self._epoll.register(descriptor, _IN)

    def wait(self, ms: int) -> bool:
        """Wait until there is something to do, `ms` milliseconds at most; whether it may be what
        is watched beside the connections."""
        if self._left:
            ms = 0
        elif self._peers:
            ms = min(ms, round(_SWEEP_S * 1000))
        self._ready = ready = self._epoll.poll(ms / 1000)
        known = self._by_fd
        return any(each[0] not in known for each in ready)

    # -- requests ----------------------------------------------------------------------------

    def receive(self, most: int) -> tuple[list[Request], bool]:
        """Up to about `most` requests that wait, and whether there are more."""
        requests: list[Request] = []
        now = time.monotonic()
        self._users.refresh()
        left, self._left = self._left, {}
        for peer in left.values():
            self._take(peer, b"", requests, now)
        ready, self._ready = self._ready, []
        for descriptor, events in ready:
            peer_or_none = self._by_fd.get(descriptor)
            if peer_or_none is None:
                if descriptor == self._listener.fileno():
                    self._accept(now)
                continue
            if events & _OUT:
                self._flush(peer_or_none, now)
            if events & ~_OUT and len(requests) < most:
                self._read(peer_or_none, requests, now)
        if now - self._swept >= _SWEEP_S:
            self._sweep(now)
        return requests, bool(self._left)

    def _accept(self, now: float) -> None:
        for _ in range(64):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # it stays in the backlog; asked again each second, as epoll would go on and on
                    _log.warning("socket: no connection is taken for a second: %s", error.strerror)
                    self._epoll.modify(self._listener, 0)
                    self._refusing_until = now + _SWEEP_S
                    return
                continue  # it went away again
            self._admit(connection, now)

    def _admit(self, connection: socket.socket, now: float) -> None:
        connection.setblocking(False)
        self._number += 1
        peer = Peer(self._number, connection, now)
        count = self._of_user.get(peer.uid, 0)
        # an eighth is left for others than the one who has taken all the rest
        if len(self._peers) >= self._most_peers or count >= self._most_peers * 7 // 8:
            _log.warning(
                "socket: %d connections, %d of uid %d: no more are taken of it",
                len(self._peers), count, peer.uid,
            )  # fmt: skip
            connection.close()
            return
        self._of_user[peer.uid] = count + 1
        self._unread_of.setdefault(peer.uid, 0)
        self._peers[peer.number] = self._by_fd[connection.fileno()] = peer
        peer.events = _IN
        self._epoll.register(connection, _IN)
        self._own_words(peer)

    def _read(self, peer: Peer, requests: list[Request], now: float) -> None:
        # a long request comes in few pieces: each is joined to what is there
        held = peer.talk.held
        size = _FIRST if not held else _READ if held < _READ else MAX_FRAME
        try:
            data = peer.socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(peer)
            return
        only = peer.talk.only(data) if peer.under_way < _TURN else None
        if only is None:
            self._take(peer, data, requests, now)
        else:
            # one whole request: nothing is left over, nothing owed
            self._make(peer, only, requests)
            peer.since = now

    def _take(self, peer: Peer, data: bytes, requests: list[Request], now: float) -> None:
        was_midway = peer.talk.midway
        most = min(_TURN, _UNDER_WAY - peer.under_way)
        try:
            messages = peer.talk.messages(data, max(most, 0))
        except ProtocolError as error:
            _log.info("socket: uid %d, pid %d: %s; connection ended", peer.uid, peer.pid, error)
            self._close(peer)
            return
        if peer.talk.to_send:
            self._own_words(peer)
        for message in messages:
            self._make(peer, message, requests)
        if messages or not was_midway:
            peer.since = now
        if peer.talk.more:
            if peer.under_way < _UNDER_WAY and peer.unread <= _FULL:
                self._left[peer.number] = peer
        elif peer.talk.held > _SHARE and self._held_of(peer.uid) > _MOST_OF_USER:
            _log.warning("socket: uid %d: over %d bytes of halves of requests; connection of pid "
                         "%d ended", peer.uid, _MOST_OF_USER, peer.pid)  # fmt: skip
            self._close(peer)
            return
        self._watch(peer)

    def _make(self, peer: Peer, message: bytes | JobdError, requests: list[Request]) -> None:
        peer.under_way += 1
        try:
            if isinstance(message, JobdError):
                raise message
            number, verb, arguments, key = envelope.read_request(message)
        except JobdError as error:
            given = error.details.pop("request", 0)
            self.send(peer.number, envelope.error(given if type(given) is int else 0, error))
            return
        caller = peer.caller
        if caller is None or peer.known_in != self._users.generation:
            caller = peer.caller = self._users.caller(peer.uid, peer.pid)
            peer.known_in = self._users.generation
        requests.append(Request(peer.number, number, verb, arguments, key, caller))

    # -- replies -----------------------------------------------------------------------------

    def send(self, peer_number: int, reply: bytes, last: bool = True) -> None:
        """Have a reply sent with the next :meth:`flush`; nothing where the peer is gone.

        `last`: the request is answered with it.
        """
        peer = self._peers.get(peer_number)
        if peer is None:
            return
        peer.under_way -= last
        data = frame(reply)
        size = len(data)
        peer.out.append(data)
        peer.unread += size
        self._unread_of[peer.uid] += size
        self._dirty[peer_number] = peer

    def _append(self, peer: Peer, data: bytes) -> None:
        peer.out.append(data)
        peer.unread += len(data)
        self._unread_of[peer.uid] += len(data)
        self._dirty[peer.number] = peer

    def is_full(self, peer_number: int) -> bool:
        """Whether a peer reads so slowly that nothing more should be made for it for now."""
        peer = self._peers.get(peer_number)
        return peer is not None and (
            peer.unread > _FULL
            or (self._unread_of[peer.uid] > _MOST_OF_USER // 2 and peer.unread > 0)
        )

    def flush(self) -> None:
        """Send what there is to send; what a peer does not take now goes when it does."""
        dirty, self._dirty = self._dirty, {}
        now = time.monotonic()
        for peer in dirty.values():
            if peer.events & _OUT:
                continue  # the kernel will tell when it takes more
            if len(peer.out) == 1 and not peer.talk.more and peer.events:
                self._flush_one(peer, now)
            elif peer.number in self._peers:
                self._flush(peer, now)

    def _flush_one(self, peer: Peer, now: float) -> None:
        """Send the one reply of a peer that has nothing else under way: what nearly all have."""
        data = peer.out[0]
        try:
            sent = peer.socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(peer)
            return
        peer.unread -= sent
        self._unread_of[peer.uid] -= sent
        if sent == len(data):
            peer.out.clear()
            peer.wrote = now
            return
        peer.out[0] = data[sent:]
        self._flush(peer, now)

    def _flush(self, peer: Peer, now: float) -> None:
        while peer.out:
            data = peer.out[0] if len(peer.out) == 1 else b"".join(peer.out)
            try:
                sent = peer.socket.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(peer)
                return
            peer.out.clear()
            peer.unread -= sent
            self._unread_of[peer.uid] -= sent
            if sent:
                peer.wrote = now
            if sent < len(data):
                peer.out.append(data[sent:])
                break
        most = _SHARE if self._unread_of[peer.uid] > _MOST_OF_USER else _MOST_UNREAD
        if peer.unread > most:
            _log.warning("socket: uid %d, pid %d does not read its replies; connection ended",
                         peer.uid, peer.pid)  # fmt: skip
            self._close(peer)
            return
        if not peer.out:
            peer.wrote = now
        if peer.talk.more and peer.under_way < _UNDER_WAY // 2 and peer.unread <= _FULL:
            self._left[peer.number] = peer
        self._watch(peer)

    def _own_words(self, peer: Peer) -> None:
        """Send what the protocol itself has to say."""
        words, peer.talk.to_send = peer.talk.to_send, b""
        self._append(peer, words)

    def _watch(self, peer: Peer) -> None:
        """Ask the kernel for what can be dealt with: no more requests while too many are open."""
        reads = peer.under_way < _UNDER_WAY and not peer.talk.more and peer.unread <= _FULL
        events = (_IN if reads else 0) | (_OUT if peer.out else 0)
        if events != peer.events and peer.number in self._peers:
            peer.events = events
            self._epoll.modify(peer.socket, events)

    # -- ends --------------------------------------------------------------------------------

    def _held_of(self, uid: int) -> int:
        return sum(peer.talk.held for peer in self._peers.values() if peer.uid == uid)

    def _sweep(self, now: float) -> None:
        """End what has been midway, or unread, for too long; listen again where it was stopped."""
        self._swept = now
        if self._refusing_until and now >= self._refusing_until:
            self._refusing_until = 0.0
            self._epoll.modify(self._listener, _IN)
        for peer in list(self._peers.values()):
            patience = _REST_S if peer.talk.ready else _HANDSHAKE_S
            if (peer.talk.midway and not peer.talk.more and now - peer.since > patience) or (
                peer.out and now - peer.wrote > _UNREAD_S
            ):
                self._close(peer)

    def _close(self, peer: Peer) -> None:
        if self._peers.pop(peer.number, None) is None:
            return
        del self._by_fd[peer.socket.fileno()]
        self._left.pop(peer.number, None)
        self._dirty.pop(peer.number, None)
        self._of_user[peer.uid] -= 1
        self._unread_of[peer.uid] -= peer.unread
        if not self._of_user[peer.uid]:
            del self._of_user[peer.uid], self._unread_of[peer.uid]
        self.gone.append(peer.number)
        self._epoll.unregister(peer.socket)
        peer.socket.close()

    def close(self) -> None:
        """Stop listening, once what was answered is sent; the socket's file goes too."""
        until = time.monotonic() + 0.2
        self.flush()
        while any(peer.out for peer in self._peers.values()) and time.monotonic() < until:
            for descriptor, _ in self._epoll.poll(0.02):
                peer = self._by_fd.get(descriptor)
                if peer is not None and peer.out:
                    self._flush(peer, time.monotonic())
        for peer in list(self._peers.values()):
            self._close(peer)
        self._listener.close()
        self._epoll.close()
        self.path.unlink(missing_ok=True)


def _most_peers() -> int:
    """How many connections there is room for, beside the files that the daemon itself needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # attempts get the usual 1,024 back (engine/shim/command.py)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MOST_PEERS
    return max(16, min(_MOST_PEERS, soft - _OTHERS_FILES, soft * 5 // 8))

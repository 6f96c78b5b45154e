"""The daemon's socket: connections in, requests out; replies in, bytes out. One thread's own.

Whoever connects, what is kept for them is bounded: the bytes of a request that is not whole, of
replies that are not read, the requests under way, the connections of one user. Who goes beyond is
told, or loses the connection, alone. What waits is taken by turns (rota.py), little at a time.
"""

from __future__ import annotations

import itertools
import logging
import select
import socket
import time
from pathlib import Path

from jobd.errors import JobdError
from jobd.server import peers
from jobd.server.access import Users
from jobd.server.doors import Doors
from jobd.server.kernel import Request
from jobd.server.listener import Listener, Listeners
from jobd.server.peers import Peer, Peers
from jobd.server.rota import Rota
from jobd.server.seldom import Seldom
from jobd.server.zmtp import ProtocolError, frame
from jobd.wire import envelope

_log = logging.getLogger(__name__)

#: read from one peer at once, and messages taken of it before the others' turn
_READ, _TURN = 64 * 1024, 8
#: read first: most requests are short, and to have room for a long one costs each of them 1 us
_FIRST = 4096
#: bytes of requests that are read before they are answered: as objects they take up to 20 times it
_READ_AT_ONCE = 1 << 20
#: pieces that are sent in one call, below IOV_MAX
_PIECES = 64
#: of those of a user that wait, how many are looked at when one was answered
_RESUMED = 4
_SWEEP_S = 1.0
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Router:
    """The socket. The queue's lock must be held: a stale socket's path is taken over."""

    def __init__(self, path: Path, doors: Doors, users: Users) -> None:
        self.path = path
        self._users = users
        self._peers = Peers(peers.room()[0])
        self._by_fd: dict[int, Peer] = {}
        #: connections that have something to say
        self._rota: Rota[Peer] = Rota()
        #: connections that have something to be sent
        self._dirty: dict[int, Peer] = {}
        #: connections that ended since the desk last looked
        self.gone: list[int] = []
        self._ready: list[tuple[int, int]] = []
        self._swept = time.monotonic()
        #: bytes of requests that were read since :meth:`receive` was called
        self._parsed = 0
        self._seldom = Seldom(_log, "socket")
        self._epoll = select.epoll()
        self.listeners = Listeners(path, doors, users, self._epoll)

    def watch(self, descriptor: int) -> None:
        """Have :meth:`wait` end when `descriptor` becomes readable too."""
        self._epoll.register(descriptor, _IN)

    def wait(self, ms: int) -> bool:
        """Wait until there is something to do, `ms` milliseconds at most; whether it may be what
        is watched beside the connections."""
        if self._rota:
            ms = 0
        elif self._by_fd or self.listeners.paused:
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
        self._parsed = 0
        ready, self._ready = self._ready, []
        # where few have anything to say, the kernel's turns are as good
        at_once = not self._rota and len(ready) <= most // _TURN
        for descriptor, events in ready:
            peer = self._by_fd.get(descriptor)
            if at_once and events == _IN and peer is not None:
                self._turn(peer, requests, now)
            else:
                self._note(descriptor, events, now)
        for _ in range(most):  # turns: much that is said is no request
            if len(requests) >= most or self._parsed >= _READ_AT_ONCE:
                break
            peer = self._rota.next()
            if peer is None:
                break
            self._turn(peer, requests, now)
        if now - self._swept >= _SWEEP_S:
            self._sweep(now)
        return requests, bool(self._rota)

    def _note(self, descriptor: int, events: int, now: float) -> None:
        peer = self._by_fd.get(descriptor)
        if peer is None:
            listener = self.listeners.by_fd.get(descriptor)
            if listener is not None:
                self._accept(listener, now)
            return
        if events & _OUT:
            self._flush(peer, now)
        if events & _GONE and not peer.may_ask:
            self._close(peer)  # it would be told of again and again, and nobody is there to read
        elif events & ~_OUT and peer.number in self._peers.by_number:
            self._rota.put(peer.user.uid, peer.number, peer)

    def _accept(self, listener: Listener, now: float) -> None:
        user = listener.user
        try:
            for connection in listener.accepted(self._peers.count(user)):
                self._admit(connection, user, now)
        except OSError as error:  # descriptors, memory, or what the kernel lets one watch
            self._seldom.warning(f"no connection is taken for a second: {error.strerror}")
            listener.pause(now)

    def _admit(self, connection: socket.socket, user: int | None, now: float) -> None:
        uid, pid = peers.who(connection)
        if user is not None:
            uid = user
        peer = self._peers.add(connection, uid, pid, now)
        if peer is None:
            self._seldom.warning(
                f"{len(self._by_fd)} connections are open: one of uid {uid}, pid {pid} was refused"
            )
            connection.close()
            return
        try:
            self._epoll.register(connection, _IN)
        except OSError:
            self._peers.remove(peer)
            connection.close()
            raise
        peer.events = _IN
        self._by_fd[connection.fileno()] = peer
        self._own_words(peer)

    def _turn(self, peer: Peer, requests: list[Request], now: float) -> None:
        """Take a little of what a peer says."""
        data = b""
        if not peer.talk.more:
            if not peer.may_ask:
                self._stall(peer)
                return
            held = peer.held
            try:
                # a long request comes in few pieces
                data = peer.socket.recv(max(_READ, peer.talk.wanted) if held else _FIRST)
            except BlockingIOError:
                return
            except OSError:
                pass
            if not data:
                self._close(peer)
                return
            only = peer.talk.only(data)
            if only is not None:
                # one whole request: nothing is left over, nothing owed
                self._make(peer, only, requests)
                peer.since = now
                if not peer.may_ask:
                    self._stall(peer)
                return
        was_midway = peer.talk.midway
        try:
            messages = peer.talk.messages(data, _TURN if peer.may_ask else 0)
        except ProtocolError as error:
            self._end(peer, str(error))
            return
        if peer.talk.to_send:
            self._own_words(peer)
        for message in messages:
            self._make(peer, message, requests)
        if messages or not was_midway:
            peer.since = now
        peer.count_held()
        self._keep_to_bounds(peer.user)
        if peer.number in self._peers.by_number:
            if not peer.may_ask:
                self._stall(peer)
            elif peer.talk.more:
                self._rota.put(peer.user.uid, peer.number, peer)
            self._watch(peer)

    def _stall(self, peer: Peer) -> None:
        """Let a peer wait until there is room for what it asks."""
        peer.user.stalled[peer.number] = peer
        self._watch(peer)

    def _resume(self, user: peers.User, most: int, now: float) -> None:
        """Take some of those up again that waited, where they may ask by now."""
        for _ in range(min(most, len(user.stalled))):
            peer = user.stalled.pop(next(iter(user.stalled)))
            if not peer.may_ask:
                user.stalled[peer.number] = peer  # behind the others
                continue
            peer.since = now
            if peer.talk.more:
                self._rota.put(user.uid, peer.number, peer)
            self._watch(peer)

    def _make(self, peer: Peer, message: bytes | JobdError, requests: list[Request]) -> None:
        try:
            if isinstance(message, JobdError):
                raise message
            number, verb, arguments, key = envelope.read_request(message)
        except JobdError as error:
            given = error.details.pop("request", 0)
            problem = envelope.error(given if type(given) is int else 0, error)
            self._append(peer, frame(problem))
            return
        size = len(message)
        self._parsed += size
        peer.count_asked(1, size)
        caller = peer.caller
        if caller is None or peer.known_in != self._users.generation:
            caller = peer.caller = self._users.caller(peer.user.uid, peer.pid)
            peer.known_in = self._users.generation
        requests.append(Request(peer.number, number, verb, arguments, key, caller, size))

    # -- replies -----------------------------------------------------------------------------

    def expect(self, peer_number: int, size: int) -> None:
        """Count a reply that was made and waits for the disk as one that is not read."""
        peer = self._peers.by_number.get(peer_number)
        if peer is not None:
            peer.count_unread(size)

    def send(self, request: Request, reply: bytes, last: bool, expected: int) -> None:
        """Have a reply sent with the next :meth:`flush`; nothing where the peer is gone.

        `last`: the request is answered with it. `expected`: what was counted for it before.
        """
        peer = self._peers.by_number.get(request.peer)
        if peer is None:
            return
        if last:
            peer.count_asked(-1, -request.size)
        peer.count_unread(-expected)
        self._append(peer, frame(reply))

    def _append(self, peer: Peer, data: bytes) -> None:
        peer.out.append(data)
        peer.due += len(data)
        peer.count_unread(len(data))
        self._dirty[peer.number] = peer

    def is_there(self, peer_number: int) -> bool:
        """Whether the connection is still open."""
        return peer_number in self._peers.by_number

    def is_full(self, peer_number: int) -> bool:
        """Whether a peer reads so slowly that nothing more should be made for it for now."""
        peer = self._peers.by_number.get(peer_number)
        return peer is not None and peer.is_full

    def flush(self) -> None:
        """Send what there is to send; what a peer does not take now goes when it does."""
        dirty, self._dirty = self._dirty, {}
        now = time.monotonic()
        for peer in dirty.values():
            if peer.events & _OUT:
                continue  # the kernel will tell when it takes more
            if len(peer.out) == 1 and peer.events and not peer.user.stalled:
                self._flush_one(peer, now)
            elif peer.number in self._peers.by_number:
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
        if sent < len(data):
            peer.out[0] = memoryview(data)[sent:]
        else:
            peer.out.clear()
        peer.due -= sent
        peer.count_unread(-sent)
        if sent:
            peer.wrote = now
        if sent < len(data):
            self._flush(peer, now)

    def _flush(self, peer: Peer, now: float) -> None:
        while peer.out:
            pieces = list(itertools.islice(peer.out, _PIECES))
            try:
                sent = peer.socket.sendmsg(pieces, [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self._close(peer)
                return
            peer.due -= sent
            peer.count_unread(-sent)
            peer.wrote = now
            while peer.out and sent >= len(peer.out[0]):
                sent -= len(peer.out.popleft())
            if sent:
                peer.out[0] = memoryview(peer.out[0])[sent:]
                break
        if not peer.out:
            peer.wrote = now
        elif peer.due > peers.MOST_UNREAD:
            self._end(peer, "does not read its replies")
            return
        self._keep_to_bounds(peer.user)
        if peer.number in self._peers.by_number:
            if peer.number in peer.user.stalled and peer.may_ask:
                peer.user.stalled.move_to_end(peer.number, last=False)
            self._resume(peer.user, _RESUMED, now)
            self._watch(peer)

    def _own_words(self, peer: Peer) -> None:
        """Send what the protocol itself has to say."""
        words = bytes(peer.talk.to_send)
        peer.talk.to_send.clear()
        self._append(peer, words)

    def _watch(self, peer: Peer) -> None:
        """Ask the kernel for what can be dealt with: no more requests while too many are open."""
        reads = not peer.talk.more and peer.may_ask
        events = (_IN if reads else 0) | (_OUT if peer.out else 0)
        if events != peer.events and peer.number in self._peers.by_number:
            peer.events = events
            self._epoll.modify(peer.socket, events)

    def shut(self, within: tuple[int, int]) -> None:
        """Take no more by the socket of that attempt, and end its connections."""
        for peer in self._peers.of(self.listeners.shut(within)):
            self._close(peer)

    # -- ends --------------------------------------------------------------------------------

    def _keep_to_bounds(self, user: peers.User) -> None:
        while (found := user.largest()) is not None:
            peer, what = found
            self._end(peer, f"its user has over {peers.MOST_OF_USER} bytes of {what} here")

    def _sweep(self, now: float) -> None:
        """End what has been midway, or unread, for too long; listen again where it was stopped."""
        self._swept = now
        self.listeners.go_on(now)
        for peer in list(self._peers.by_number.values()):
            if peer.is_overdue(now):
                self._close(peer)
        for user in self._peers.users.values():
            self._resume(user, len(user.stalled), now)

    def _end(self, peer: Peer, why: str) -> None:
        self._seldom.warning(f"uid {peer.user.uid}, pid {peer.pid}: {why}; connection ended")
        self._close(peer)

    def _close(self, peer: Peer) -> None:
        if peer.number not in self._peers.by_number:
            return
        self._peers.remove(peer)
        del self._by_fd[peer.socket.fileno()]
        self._rota.drop(peer.user.uid, peer.number)
        self._dirty.pop(peer.number, None)
        self.gone.append(peer.number)
        self._epoll.unregister(peer.socket)
        peer.socket.close()

    def close(self) -> None:
        """Stop listening, once what was answered is sent; the socket's file goes too."""
        until = time.monotonic() + 0.2
        self.flush()
        while any(peer.out for peer in self._by_fd.values()) and time.monotonic() < until:
            for descriptor, _ in self._epoll.poll(0.02):
                peer = self._by_fd.get(descriptor)
                if peer is not None and peer.out:
                    self._flush(peer, time.monotonic())
        for peer in list(self._by_fd.values()):
            self._close(peer)
        self.listeners.close()
        self._epoll.close()

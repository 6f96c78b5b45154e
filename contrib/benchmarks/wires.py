"""What clients of each queue say over their sockets to enqueue one job, and nothing more.

Every client here is a plain socket and a few lines of Python, so that the clients, which share the
machine's cores with the server, cost the same for all. The usual libraries cost 3 to 50 times as
much a request, which would measure them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol


class Wire(Protocol):
    """How one client speaks. One object a connection."""

    def connect(self) -> socket.socket:
        """A connected socket, past its greeting."""

    def request(self) -> bytes:
        """The bytes of the next request."""

    def reply(self, data: bytes) -> bool:
        """Whether `data` is a whole reply. Raises RuntimeError for one that is a refusal."""


def unix(path: str) -> socket.socket:
    """A connection to a Unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(path)
    return made


def loopback(port: int) -> socket.socket:
    """A connection to a port of this host."""
    made = socket.create_connection(("127.0.0.1", port), 20)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise RuntimeError("the server closed the connection")
        data += more
    return data


def refused(data: bytes) -> RuntimeError:
    """The error for a reply that is not the one that was hoped for."""
    return RuntimeError(f"the server answered {data[:200]!r}")


# -- jobd ----------------------------------------------------------------------------------------

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def zmtp_frame(body: bytes) -> bytes:
    """One message of one frame."""
    if len(body) < 256:
        return bytes((0, len(body))) + body
    return b"\x02" + len(body).to_bytes(8, "big") + body


def zmtp_body(data: bytes) -> bytes | None:
    """The body of the one frame that `data` is, or None where it is not whole."""
    if len(data) < 2:
        return None
    long = data[0] & 2
    start = 9 if long else 2
    if len(data) < start:
        return None
    size = int.from_bytes(data[1:9], "big") if long else data[1]
    return data[start:] if len(data) == start + size else None


def _packed(text: bytes) -> bytes:
    """A short byte string as msgpack's str."""
    return bytes((0xA0 | len(text),)) + text if len(text) < 32 else bytes((0xD9, len(text))) + text


def _packed_bytes(data: bytes) -> bytes:
    return b"\xc5" + len(data).to_bytes(2, "big") + data


class Jobd:
    """`run.queue` over ZMTP 3.0 (NULL), spoken by hand."""

    def __init__(self, path: str, payload: bytes, job: str = "bench", count: int = 1) -> None:
        self._path = path
        arguments = b"\x82" + _packed(b"job") + _packed(job.encode())
        if count == 1:
            arguments += _packed(b"payload") + _packed_bytes(payload)
        else:
            many = b"\xdc" + count.to_bytes(2, "big") + _packed_bytes(payload) * count
            arguments += _packed(b"payloads") + many
        # [version, id, verb, arguments, key], and the key is new each time
        self._head = b"\x95\x01\x01" + _packed(b"run.queue") + arguments + b"\xc4\x10"
        self._key = _counted()

    def connect(self) -> socket.socket:
        sock = unix(self._path)
        sock.sendall(_GREETING)
        exactly(sock, 64)
        sock.sendall(bytes((4, len(_READY))) + _READY)
        _, size = exactly(sock, 2)
        # libzmq closes on who speaks before its READY has come
        exactly(sock, size)
        return sock

    def request(self) -> bytes:
        return zmtp_frame(self._head + self._key())

    def reply(self, data: bytes) -> bool:
        body = zmtp_body(data)
        if body is None:
            return False
        if body[:4] != b"\x94\x01\x01\x00":
            raise refused(body)
        return True


def _counted() -> Callable[[], bytes]:
    """Makes 16 bytes that are new with each call; cheaper than os.urandom."""
    start, count = os.urandom(8), iter(range(1 << 62))
    return lambda: next(count).to_bytes(8, "big") + start


# -- peers ---------------------------------------------------------------------------------------


class Beanstalkd:
    """`put` over its text protocol."""

    def __init__(self, port: int, payload: bytes) -> None:
        self._port = port
        self._request = b"put 1024 0 60 %d\r\n%b\r\n" % (len(payload), payload)

    def connect(self) -> socket.socket:
        return loopback(self._port)

    def request(self) -> bytes:
        return self._request

    def reply(self, data: bytes) -> bool:
        if data[-2:] != b"\r\n":
            return False
        if data[:8] != b"INSERTED":
            raise refused(data)
        return True


def resp(*words: bytes) -> bytes:
    """A command of Redis."""
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)


class Redis:
    """One LPUSH; or any other commands, `{}` in them being a new id, as one pipeline."""

    def __init__(self, path: str, payload: bytes, commands: bytes = b"", replies: int = 1) -> None:
        self._path = path
        self._parts = (commands or resp(b"LPUSH", b"bench", payload)).split(MARK)
        self._replies = replies
        self._id = _counted()

    def connect(self) -> socket.socket:
        return unix(self._path)

    def request(self) -> bytes:
        if len(self._parts) == 1:
            return self._parts[0]
        return self._id().hex().rjust(36, "0").encode().join(self._parts)

    def reply(self, data: bytes) -> bool:
        if data[-2:] != b"\r\n":
            return False
        if data[:1] == b"-" or b"\r\n-" in data:
            raise refused(data)
        if self._replies == 1:
            return True
        return _complete(data) >= self._replies


#: stands for a job's id of 36 characters in recorded commands
MARK = b"~" * 36


def _complete(data: bytes) -> int:
    """How many whole replies of Redis are in `data`; arrays are counted with what they hold."""
    at = found = 0
    pending = 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        if end < 0:
            break
        kind, number = data[at : at + 1], data[at + 1 : end]
        at = end + 2
        if kind == b"$" and int(number) >= 0:
            at += int(number) + 2
            if at > len(data):
                break
        if kind == b"*":
            pending += int(number)
            if pending:
                continue
        if pending and kind != b"*":
            pending -= 1
        if not pending:
            found += 1
    return found


class Nats:
    """A publish to a JetStream subject, which is answered when it is stored."""

    def __init__(self, port: int, payload: bytes) -> None:
        self._port = port
        inbox = b"_INBOX." + os.urandom(8).hex().encode()
        self._inbox = inbox
        self._request = b"PUB bench %b %d\r\n%b\r\n" % (inbox, len(payload), payload)

    def connect(self) -> socket.socket:
        sock = loopback(self._port)
        sock.recv(65536)  # INFO
        hello = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'
        sock.sendall(hello + b"SUB %b 1\r\nPING\r\n" % self._inbox)
        while not sock.recv(65536).endswith(b"PONG\r\n"):
            pass
        return sock

    def request(self) -> bytes:
        return self._request

    def reply(self, data: bytes) -> bool:
        if not data.endswith(b"}\r\n"):
            return False
        if b'"seq":' not in data:
            raise refused(data)
        return True


class Postgres:
    """One statement by the simple protocol, trusted; a transaction of its own."""

    def __init__(self, path: str, user: str, database: str, statement: str) -> None:
        self._path = path
        words = f"user\0{user}\0database\0{database}\0\0".encode()
        self._hello = (len(words) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + words
        query = statement.encode() + b"\0"
        self._query = b"Q" + (len(query) + 4).to_bytes(4, "big") + query

    def connect(self) -> socket.socket:
        sock = unix(self._path)
        sock.sendall(self._hello)
        data = b""
        while data[-6:-1] != b"Z\x00\x00\x00\x05":
            more = sock.recv(65536)
            if not more or data[:1] == b"E":
                raise refused(data)
            data += more
        return sock

    def request(self) -> bytes:
        return self._query

    def reply(self, data: bytes) -> bool:
        if data[:1] == b"E":
            raise refused(data)
        return data[-6:-1] == b"Z\x00\x00\x00\x05"

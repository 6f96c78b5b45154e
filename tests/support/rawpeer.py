"""A peer that speaks ZMTP by hand, and as badly as a test wants."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from jobd.server.zmtp import GREETING
from jobd.wire import envelope


def ready(kind: bytes = b"DEALER") -> bytes:
    """The command that ends a handshake."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return bytes((4, len(body))) + body


def long_frame(body: bytes, more: bool = False) -> bytes:
    """One frame with an eight-byte length."""
    return bytes((2 | more,)) + struct.pack(">Q", len(body)) + body


class RawPeer:
    """A connection to the daemon's socket, the handshake made unless `shaken` is false."""

    def __init__(self, path: Path, *, shaken: bool = True, patience: float = 20.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        self.socket.connect(str(path))
        self._held = b""
        if shaken:
            self.socket.sendall(GREETING)
            self._take(64)
            self.socket.sendall(ready())
            self.frame()  # its READY

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def ask(self, number: int, verb: str, arguments: dict[str, object] | None = None) -> None:
        """A proper request."""
        self.send(long_frame(envelope.request(number, verb, arguments or {}, None)))

    def reply(self) -> tuple[int, int, object]:
        """The next reply: `(id, kind, body)`, where an error's body is the exception."""
        return envelope.read_reply(self.frame())

    def speaks(self, seconds: float) -> bool:
        """Whether the daemon has something for it within so long."""
        return bool(self._held) or bool(select.select([self.socket], [], [], seconds)[0])

    def frame(self) -> bytes:
        """The next frame. Raises EOFError where the daemon ended the connection."""
        flags, first = self._take(2)
        rest = self._take(7) if flags & 2 else b""
        return self._take(int.from_bytes(bytes((first,)) + rest, "big"))

    def ended(self) -> bool:
        """Whether the daemon ends the connection, having said whatever."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 20):
                pass
        return True

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._held += data
        found, self._held = self._held[:size], self._held[size:]
        return found


@contextlib.contextmanager
def raw_peer(path: Path, **options: bool) -> Iterator[RawPeer]:
    """A peer for the length of a block."""
    peer = RawPeer(path, **options)
    try:
        yield peer
    finally:
        peer.close()

"""ZMTP 3 with the NULL mechanism, as a ROUTER's side of it speaks: bytes in, messages out.

Pure, in the manner of h11: no socket is touched here. It is ours because libzmq cannot bound what
one peer makes it keep: a message of parts without end grows in its pipe beside any high-water mark
(its limit holds for a frame), an oversized frame ends the connection without a word, and a full
pipe drops replies. Any ZeroMQ DEALER talks to it. Source: RFC 37/ZMTP 3.1 (rfc.zeromq.org).
"""

from __future__ import annotations

import struct

from jobd.codec import MAX_FRAME
from jobd.errors import UsageError

#: signature, version 3.1, mechanism NULL, "not a server", filler
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_SIGNATURE_BYTES, _GREETING_BYTES = 10, 64
_NULL = GREETING[12:32]
_MORE, _LONG, _COMMAND = 1, 2, 4
#: a frame that is too long is read over, so that its sender can be told, up to this; then the
#: connection is ended
_MOST_SKIPPED = 64 << 20
#: a command is a handshake's or a heartbeat's: short
_MOST_COMMAND = 1024
#: frames that are looked at in one call: of two bytes each they would take the others' time
_MOST_FRAMES = 64
#: socket types that a ROUTER may talk to
_PEERS = (b"DEALER", b"REQ", b"ROUTER")


class ProtocolError(Exception):
    """This is no ZMTP that can be gone on with: the connection is to be ended."""


def frame(body: bytes) -> bytes:
    """A message of one part."""
    size = len(body)
    if size < 256:
        return bytes((0, size)) + body
    return b"\x02" + size.to_bytes(8, "big") + body


def _command(name: bytes, body: bytes) -> bytes:
    size = 1 + len(name) + len(body)
    return bytes((_COMMAND, size, len(name))) + name + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + struct.pack(">I", len(value)) + value


READY = _command(b"READY", _property(b"Socket-Type", b"ROUTER") + _property(b"Identity", b""))


class Talk:
    """What one peer has said so far, and what it is to be told outside of messages."""

    __slots__ = ("_begun", "_held", "_in_parts", "_skip", "more", "ready", "to_send", "wanted")

    def __init__(self) -> None:
        # one that grows in place: a frame may come a byte at a time
        self._held = bytearray()
        self._begun = False
        self._in_parts = False
        self._skip = 0
        #: whether the handshake is over
        self.ready = False
        #: whether messages may be left that the last call did not give
        self.more = False
        #: bytes that the frame lacks that has begun to come, as far as is known; 0 where none has
        self.wanted = 0
        #: what is to be sent to the peer, for the handshake and heartbeats
        self.to_send = bytearray(GREETING)

    @property
    def held(self) -> int:
        """Bytes that are kept of what is not whole."""
        return len(self._held)

    @property
    def midway(self) -> bool:
        """Whether the peer owes the rest of something that it began."""
        return not self.ready or bool(self._held) or self._skip > 0 or self._in_parts

    def only(self, data: bytes) -> bytes | None:
        """The one message that `data` is, whole and alone: what nearly always comes. None: it is
        something else, for :meth:`messages`."""
        if self._held or self._skip or self._in_parts or not self.ready or len(data) < 9:
            return None
        if data[0] == 0:
            return data[2:] if data[1] == len(data) - 2 else None
        if data[0] == _LONG and int.from_bytes(data[1:9], "big") == len(data) - 9 <= MAX_FRAME:
            return data[9:]
        return None

    def messages(self, data: bytes, most: int) -> list[bytes | UsageError]:
        """Take in `data`; up to `most` messages that are whole, or what is wrong with one.

        Looks at so many frames and no more: see :attr:`more`. Raises ProtocolError where the peer
        speaks something else.
        """
        held = self._held
        held += data
        self.wanted = 0
        if not self._begun:
            if not self._greeted(held):
                return []
            del held[:_GREETING_BYTES]
        found: list[bytes | UsageError] = []
        frames = at = 0
        end = len(held)
        self.more = False
        while at < end:
            if self._skip:
                passed = min(self._skip, end - at)
                self._skip -= passed
                at += passed
                continue
            if len(found) >= most or frames >= _MOST_FRAMES:
                self.more = True
                break
            header = _header(held, at, end)
            if header is None:
                break
            frames += 1
            flags, size, start = header
            lacks = start + size - end
            if flags & _COMMAND or not self.ready:
                _check_command(flags, size)
                if lacks > 0:
                    break
                self._take_command(bytes(held[start : start + size]))
            elif size > MAX_FRAME or flags & ~_LONG or self._in_parts:
                problem = self._passed_over(flags, size)
                if problem is not None:
                    found.append(problem)
                at = start
                continue
            elif lacks > 0:
                self.wanted = lacks
                break
            else:
                found.append(bytes(held[start : start + size]))
            at = start + size
        del held[:at]
        return found

    def _greeted(self, data: bytearray) -> bool:
        """Whether the greeting is there as a whole."""
        if (data and data[0] != 0xFF) or (len(data) >= _SIGNATURE_BYTES and data[9] != 0x7F):
            raise ProtocolError("not ZMTP: no such signature")
        if len(data) > _SIGNATURE_BYTES and data[10] < 3:
            raise ProtocolError(f"ZMTP version {data[10]}: at least 3 is needed")
        if len(data) < _GREETING_BYTES:
            return False
        if data[12:32] != _NULL:
            raise ProtocolError("a security mechanism other than NULL")
        self._begun = True
        self.to_send += READY
        return True

    def _passed_over(self, flags: int, size: int) -> UsageError | None:
        """A frame that is not taken: read over without being kept; what its sender is told."""
        if flags & ~(_MORE | _LONG):
            raise ProtocolError(f"frame flags {flags:#x}")
        several = bool(flags & _MORE)
        told = self._in_parts
        self._in_parts = several
        self._skip = size
        if size > _MOST_SKIPPED:
            raise ProtocolError(f"a frame of {size} bytes")
        if told:
            return None
        if several:
            return UsageError("message has several parts; a request is one frame")
        return UsageError(f"message of {size} bytes: at most {MAX_FRAME} are taken")

    def _take_command(self, body: bytes) -> None:
        name = body[1 : 1 + body[0]] if body else b""
        rest = body[1 + len(name) :]
        if not self.ready:
            if name != b"READY":
                raise ProtocolError(f"command {name!r:.20} where READY was expected")
            kind = _properties(rest).get(b"socket-type", b"")
            if kind not in _PEERS:
                raise ProtocolError(f"a socket of type {kind!r:.20}; DEALER is expected")
            self.ready = True
        elif name == b"PING":
            self.to_send += _command(b"PONG", rest[2:18])
        elif name not in (b"PONG", b"ERROR"):
            raise ProtocolError(f"command {name!r:.20}")


def _check_command(flags: int, size: int) -> None:
    """Raises ProtocolError where this is no command that could be taken."""
    if flags != _COMMAND and flags != _COMMAND | _LONG:
        raise ProtocolError("a message before the handshake was over")
    if size > _MOST_COMMAND:
        raise ProtocolError(f"a command of {size} bytes")


def _header(data: bytearray, at: int, end: int) -> tuple[int, int, int] | None:
    """Flags and size of the frame at `at`, and where its body begins; None where that is cut."""
    flags = data[at]
    if flags & _LONG:
        start = at + 9
        return (flags, int.from_bytes(data[at + 1 : start], "big"), start) if start <= end else None
    start = at + 2
    return (flags, data[at + 1], start) if start <= end else None


def _properties(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]]
        at += 1 + len(name)
        if at + 4 > len(data):
            raise ProtocolError("properties that end in the middle")
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        found[name.lower()] = data[at : at + size]
        at += size
    return found

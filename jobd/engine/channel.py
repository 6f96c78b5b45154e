"""What a shim tells the daemon that started it, while both live. PROCESS.md, "The channel"."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable

from jobd.engine.shim.records import (
    DONE,
    ENDED,
    FAILED,
    PIECE,
    REFUSED,
    STARTED,
    decode,
)

#: no message is longer
_MESSAGE = 16 << 10


class Channel:
    """The daemon's end of one attempt's channel; all that it says is in the attempt's folder too.

    For any thread.
    """

    def __init__(self, fd: int) -> None:
        """`fd` is its end of the socket, its own from now on."""
        self._fd = fd
        self._lock = threading.Lock()
        #: the records `started` and `exit`, once they were told
        self.start: dict[str, str] | None = None
        self.end: dict[str, str] | None = None
        #: why nothing was begun; empty where that was not said
        self.failed = ""
        #: the shim has ended, or lets nothing more be heard
        self.gone = False

    def order(self, data: bytes) -> None:
        """Tell the shim what to run; where it is not there, that is heard next."""
        with self._lock:
            try:
                for at in range(0, len(data), PIECE):
                    os.write(self._fd, data[at : at + PIECE])
            except OSError:
                pass

    @property
    def told(self) -> bool:
        """Whether anything was said of the attempt."""
        return self.start is not None or self.end is not None or bool(self.failed)

    @property
    def over(self) -> bool:
        """Nothing more will be heard."""
        return self.gone or self.end is not None

    def hear(self, seconds: float) -> None:
        """Take in what the shim says, the first of it within so many seconds."""
        while not self.over and _readable(self._fd, seconds):
            seconds = 0
            with self._lock:
                # asked again: another thread may have taken it, and a read would wait for more
                if not self.over and _readable(self._fd, 0):
                    self._take(self._message())

    def _message(self) -> bytes:
        try:
            return os.read(self._fd, _MESSAGE)
        except OSError:
            return b""  # it was killed

    def _take(self, message: bytes) -> None:
        if message.startswith(STARTED):
            self.start = decode(message[len(STARTED) :])
        elif message.startswith((ENDED, REFUSED)):
            self.end = decode(message[message.index(b" ") + 1 :])
        elif message.startswith(FAILED):
            self.failed = message[len(FAILED) :].decode("utf-8", "replace")
        else:
            self.gone = True

    def done(self) -> Channel | None:
        """The end is on the daemon's disk, so the shim need not see to that.

        Lets go of it, and gives a channel for another attempt by the same shim; None where that is
        gone. Never this one: whoever still has it would take the other attempt for its own.
        """
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return None
            gone, self.gone = self.gone, True
            try:
                if not gone:
                    os.write(fd, DONE)
                    return Channel(fd)
            except OSError:
                pass  # it did not wait so long
            os.close(fd)
            return None

    def close(self) -> None:
        """Let go of it; the shim goes on and leaves all in its folder."""
        with self._lock:
            self.gone = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def new_channel(hand: Callable[[int], None]) -> Channel:
    """One whose other end `hand` gives to a new shim. Raises its OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        hand(theirs.fileno())
        return Channel(ours.detach())


def _readable(fd: int, seconds: float) -> bool:
    if fd < 0:
        return False  # closed meanwhile
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))

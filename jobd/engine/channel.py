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

    def __init__(self, hand: Callable[[int], None]) -> None:
        """Have `hand` give the other end to a new shim. Raises its OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._fd = ours.detach()
        self._lock = threading.Lock()
        self._begin()
        with theirs:
            try:
                hand(theirs.fileno())
            except OSError:
                self.close()
                raise

    def _begin(self) -> None:
        #: the records `started` and `exit`, once they were told
        self.start: dict[str, str] | None = None
        self.end: dict[str, str] | None = None
        #: why nothing was begun; empty where that was not said
        self.failed = ""
        #: the shim has ended, or lets nothing more be heard
        self.gone = False

    def order(self, data: bytes) -> None:
        """Tell the shim what to run; where it is not there, that is heard next."""
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

    def done(self) -> bool:
        """The end is on the daemon's disk, so the shim need not see to that; it may have another
        order then. False where it is gone."""
        with self._lock:
            if self.gone:
                return False
            self._begin()
            try:
                os.write(self._fd, DONE)
            except OSError:
                return False  # it did not wait so long
        return True

    def close(self) -> None:
        """Let go of it; the shim goes on and leaves all in its folder."""
        with self._lock:
            self.gone = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _readable(fd: int, seconds: float) -> bool:
    if fd < 0:
        return False  # closed meanwhile
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))

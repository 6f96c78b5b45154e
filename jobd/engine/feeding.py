"""An attempt's standard input is written from a thread of its own, to its end or the attempt's.

By what Docker 20.10 really does: the stream is attached before the start and half-closed after the
last byte, whereupon it may be closed as well; a second attach to a container whose first one was
closed reads as empty; and a program that ends without reading is not told of on the stream, so
nobody may wait for its writes.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Protocol

from jobd.engine.base import Input

#: how often it is looked whether the attempt is over while it does not read, in milliseconds
LOOK_MS = 200
CHUNK = 1 << 16


class Stream(Protocol):
    """A connection to the standard input of an attempt that has not started yet."""

    sock: socket.socket

    def close(self) -> None:
        """End the connection; the attempt reads an end where it had not come before."""


class Feeder:
    """Writes an :class:`~jobd.engine.base.Input` to a stream. Made before the attempt starts."""

    def __init__(self, stream: Stream, source: Input, name: str) -> None:
        """Raises OSError where the input cannot be opened; the stream is closed then."""
        self._stream = stream
        self._source = source
        self._name = name
        try:
            self._fd = source.open()
        except OSError:
            stream.close()
            raise

    def begin(self) -> None:
        """The attempt runs: write, in a thread that ends by itself."""
        self._source.begun()
        threading.Thread(target=self._run, name=f"stdin {self._name}", daemon=True).start()

    def give_up(self) -> None:
        """The attempt was not started."""
        self._close()

    def _run(self) -> None:
        try:
            self._source.settled(self._write_all())
        finally:
            self._close()

    def _write_all(self) -> bool:
        """Whether the attempt was given all that it would take."""
        sock = self._stream.sock
        sock.setblocking(False)
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        try:
            while chunk := os.read(self._fd, CHUNK):
                if not self._write(sock, poll, chunk):
                    return True
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            # the connection broke, or the payload cannot be read on
            return self._source.over
        return True

    def _write(self, sock: socket.socket, poll: select.poll, chunk: bytes) -> bool:
        """False where the attempt has ended before it had read it all."""
        view = memoryview(chunk)
        while view:
            ready = poll.poll(LOOK_MS)
            if self._source.over:
                return False
            if ready and ready[0][1] & select.POLLIN and not sock.recv(CHUNK):
                raise ConnectionError("the engine closed the stream")
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                continue
        return True

    def _close(self) -> None:
        os.close(self._fd)
        self._stream.close()

"""The last lines of an output that outgrew its log: a ring on disk, so that memory stays flat."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

_COPY = 1 << 20


class TailRing:
    """Keeps the last lines that fit into `size` bytes, in a file without a name.

    The file is gone with the process: after a crash the tail is fetched again from the engine.
    Raises OSError where the disk refuses.
    """

    def __init__(self, dir_fd: int, name: str, size: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.unlink(name, dir_fd=dir_fd)  # left by a crash between the next two lines
        except FileNotFoundError:
            pass
        self._fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        self._size = size
        self._written = 0
        self._lines = 0

    def add(self, encoded: Sequence[bytes]) -> None:
        """Take more lines, each with its newline."""
        data = memoryview(b"".join(encoded))
        self._lines += len(encoded)
        if len(data) > self._size:
            self._written += len(data) - self._size
            data = data[len(data) - self._size :]
        while data:
            at = self._written % self._size
            done = os.pwrite(self._fd, data[: self._size - at], at)
            self._written += done
            data = data[done:]

    def kept(self) -> tuple[int, int, int]:
        """`(first byte, lines kept, lines left out)`: whole lines only."""
        begin = max(0, self._written - self._size)
        if begin:
            # the byte before may be the newline of the last line cut, but it is overwritten
            begin = self._after_newline(begin)
        lines = sum(chunk.count(b"\n") for chunk in self.chunks(begin))
        return begin, lines, self._lines - lines

    def _after_newline(self, begin: int) -> int:
        for chunk in self.chunks(begin):
            at = chunk.find(b"\n")
            if at >= 0:
                return begin + at + 1
            begin += len(chunk)
        return self._written

    def chunks(self, begin: int) -> Iterator[bytes]:
        """What is held from byte `begin` on, in pieces of a megabyte at most."""
        while begin < self._written:
            at = begin % self._size
            chunk = os.pread(self._fd, min(_COPY, self._size - at, self._written - begin), at)
            if not chunk:
                raise OSError(5, "tail of the log is shorter than what was written")
            yield chunk
            begin += len(chunk)

    def close(self) -> None:
        """Let go of the file, and thereby of its bytes."""
        os.close(self._fd)

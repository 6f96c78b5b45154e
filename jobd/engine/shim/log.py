"""Writes the raw log of a process attempt within a bound. engine/PROCESS.md tells its form."""

from __future__ import annotations

import os
import time

from jobd.engine.shim.records import AGAIN

#: of a line without an end so much is held back before it is written as a part, in bytes
PART = 16 << 10
#: bytes before each frame's data: kind, length, time
HEADER = 13
#: of what a full disk did not take so much is kept to the end, and as much may its headers be
WORDS = 8 << 10


class Log:
    """The output as it came, with times: the head, and the last of the rest; see PROCESS.md."""

    def __init__(self, folder: int, half: int) -> None:
        self._folder = folder
        self._half = half
        self._number = 0
        self._size = 0
        self._time = 0
        self._rest = {1: b"", 2: b""}
        #: lines and bytes in the segments that may still have to go
        self._counts: dict[int, list[int]] = {}
        #: lines and bytes that had to go
        self.cut = [0, 0]
        #: no output, no file
        self._fd = -1
        #: frames that the disk did not take, the last ones, and how many bytes they are
        self._kept: list[tuple[bytes, bytes, int]] = []
        self._kept_size = 0

    def _open(self) -> int:
        self._size = 0
        self._counts[self._number] = [0, 0]
        name = f"out.{self._number}"
        return os.open(name, AGAIN | os.O_APPEND | os.O_TRUNC, 0o600, dir_fd=self._folder)

    def take(self, stream: int, data: bytes) -> None:
        """Write the lines that have an end now, and of one that has none what is too long."""
        data = self._rest[stream] + data
        end = data.rfind(b"\n") + 1
        if end:
            self._frame(stream, data[:end])
        while len(data) - end > PART:
            self._frame(stream + 2, data[end : end + PART])
            end += PART
        self._rest[stream] = data[end:]

    def finish(self) -> bytes:
        """Write what never got an end; frames of what the disk did not take, 2 * WORDS at most."""
        for stream, rest in self._rest.items():
            if rest:
                self._frame(stream + 2, rest)
        for _, text, lines in self._kept:
            self.cut[0] -= lines
            self.cut[1] -= len(text)
        return b"".join(header + text for header, text, _ in self._kept)

    def _keep(self, kind: int, data: bytes) -> None:
        """Remember the end of what was not written, in whole lines where there are any."""
        if len(data) > WORDS:
            data = data[-WORDS:]
            if kind <= 2:
                data = data[data.find(b"\n") + 1 :] or data
        self._kept.append((self._header(kind, data), data, data.count(b"\n") or 1))
        self._kept_size += len(data)
        # many short frames would be more headers than words
        while self._kept_size > WORDS or len(self._kept) * HEADER > WORDS:
            self._kept_size -= len(self._kept.pop(0)[1])

    def _header(self, kind: int, data: bytes) -> bytes:
        return bytes((kind,)) + len(data).to_bytes(4, "big") + self._time.to_bytes(8, "big")

    def _frame(self, kind: int, data: bytes) -> None:
        # times do not go back, also where somebody sets the clock
        self._time = max(self._time, time.time_ns())
        header = self._header(kind, data)
        lines = data.count(b"\n") or 1
        try:
            if self._fd < 0:
                self._fd = self._open()
            elif self._size >= self._half:
                self._next()
            written = os.writev(self._fd, [header, data])
            if written < len(header) + len(data):
                raise OSError("a part was written")
        except OSError:
            # a full disk never ends the attempt: what does not fit is counted
            self.cut[0] += lines
            self.cut[1] += len(data)
            if self._fd >= 0:
                os.ftruncate(self._fd, self._size)
            self._keep(kind, data)
            return
        # what comes later is in the log, and what was kept would stand behind it
        self._kept.clear()
        self._kept_size = 0
        self._size += written
        self._counts[self._number][0] += lines
        self._counts[self._number][1] += len(data)

    def _next(self) -> None:
        """Begin another segment; the head and the one before this stay, what lies between goes."""
        before, number = self._fd, self._number
        self._number += 1
        try:
            self._fd = self._open()
        except OSError:
            self._number = number
            raise
        os.close(before)
        if number - 1 > 0:
            lines, size = self._counts.pop(number - 1)
            self.cut[0] += lines
            self.cut[1] += size
            os.unlink(f"out.{number - 1}", dir_fd=self._folder)

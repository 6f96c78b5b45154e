"""Reads the raw log of a process attempt, also while it is written. PROCESS.md tells its form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from jobd.engine.base import Line, Stream
from jobd.engine.shim.log import HEADER
from jobd.engine.shim.records import RESERVED, decode, read

_BLOCK = 1 << 20
#: a batch is given out when it has this many lines
_BATCH = 4_000
#: kind of a frame -> its stream, and whether it is a part of a line
_KINDS = {
    1: (Stream.STDOUT, False),
    2: (Stream.STDERR, False),
    3: (Stream.STDOUT, True),
    4: (Stream.STDERR, True),
}


class RawLog:
    """Reads on from where it stopped; for one thread. Raises OSError."""

    def __init__(self, folder: Path, since_ns: int) -> None:
        """Lines from `since_ns` on (nanoseconds UTC, inclusive)."""
        self._folder = folder
        self._since = since_ns
        self._number = -1
        self._fd = -1
        self._at = 0

    def batches(self) -> Iterator[list[Line]]:
        """What there is now, in bounded batches; none is empty."""
        while True:
            # looked at before the read: a segment is whole once there is a later one
            later = self._later()
            if self._fd >= 0:
                yield from self._rest()
            if later is None:
                return
            self.close()
            try:
                self._fd = os.open(self._folder / f"out.{later}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                pass  # it had to go meanwhile; there is a later one
            self._number, self._at = later, 0

    def _later(self) -> int | None:
        names = [name[4:] for name in os.listdir(self._folder) if name.startswith("out.")]
        return min((n for n in map(int, names) if n > self._number), default=None)

    def _rest(self) -> Iterator[list[Line]]:
        """The whole frames of this segment that are there."""
        batch: list[Line] = []
        while True:
            base = self._at
            for lines, end in _frames(os.pread(self._fd, _BLOCK, base), self._since):
                batch += lines
                self._at = base + end
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
            if self._at == base:
                break
        if batch:
            yield batch

    def last_words(self) -> list[Line]:
        """What a full disk did not take of the end, once the record of that is whole."""
        try:
            data = read(f"{self._folder}/exit")
        except FileNotFoundError:
            return []
        size = int((decode(data[:RESERVED]) or {}).get("words", "0"))
        frames = _frames(data[RESERVED : RESERVED + size], self._since)
        return [line for lines, _ in frames for line in lines]

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _frames(block: bytes, since_ns: int) -> Iterator[tuple[list[Line], int]]:
    """Of each whole frame its lines, none where it is older than that, and where it ends."""
    at = 0
    while len(block) - at >= HEADER:
        end = at + HEADER + int.from_bytes(block[at + 1 : at + 5], "big")
        if end > len(block):
            return
        time_ns = int.from_bytes(block[at + 5 : at + HEADER], "big")
        known = time_ns < since_ns
        yield [] if known else _lines(block[at], time_ns, block[at + HEADER : end]), end
        at = end


def _lines(kind: int, time_ns: int, data: bytes) -> list[Line]:
    stream, partial = _KINDS[kind]
    if partial:
        return [Line(time_ns, stream, data, True)]
    return [Line(time_ns, stream, row) for row in data[:-1].split(b"\n")]

"""A file's bytes held in memory, for the readers of files; and their reading from a bad disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from zlib import crc32

from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.onebit import mend
from jobd.journal.record import BATCH, BATCH_BYTES, BATCH_CRC_AT, BATCH_MAGIC
from jobd.journal.segment import HEADER_BYTES, Header, find_batch, read_header, segment_name

_WINDOW = 4 << 20
#: of a file that cannot be read whole, so much is given up at each bad place
_PAGE = 4096


class Held(Fs):
    """One file, held in memory: what the functions of `segment` read from. Every fd is it."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self.data[offset : offset + count]

    @classmethod
    def mended(cls, head: bytes) -> Held | None:
        """A segment's header with its one flipped bit set right; None where it is not one bit."""
        if len(head) < HEADER_BYTES:
            return None
        stored = int.from_bytes(head[HEADER_BYTES - 4 : HEADER_BYTES], "little")
        body = mend(head[: HEADER_BYTES - 4], stored)
        return None if body is None else cls(body + crc32(body).to_bytes(4, "little"))

    def header(self) -> Header:
        """The header that stands here, whatever name its file has. Raises BadSegmentError."""
        first = int.from_bytes(self.data[40:48], "little")
        return read_header(self, 0, segment_name(first))

    def find(self, header: Header, start: int, least_lsn: int) -> tuple[int, int] | None:
        """Offset and lsn of the next batch of that segment with a sound header."""
        found = find_batch(self, 0, header, start, len(self.data), least_lsn)
        return None if found is None else found[:2]

    def salts(self) -> Iterator[int]:
        """The salt of each batch with a sound header."""
        at = self.data.find(BATCH_MAGIC)
        while 0 <= at <= len(self.data) - BATCH_BYTES:
            fields = BATCH.unpack_from(self.data, at)
            if crc32(self.data[at : at + BATCH_CRC_AT]) == fields[9]:
                yield fields[3]
            at = self.data.find(BATCH_MAGIC, at + 1)


class Source:
    """A file of the queue, open for as long as the `with` lasts. Raises OSError where it is not."""

    def __init__(self, fs: Fs, path: str) -> None:
        self._fs = fs
        self._fd = fs.open(path, os.O_RDONLY)
        fs.drop_cache(self._fd)
        self.size = fs.size(self._fd)

    def read(self, start: int, count: int) -> tuple[bytes, list[int]]:
        """The bytes from `start` on, zeroes for those that the disk does not give; where those are.

        A read error is damage like any other (DURABILITY R5).
        """
        parts: list[bytes] = []
        lost: list[int] = []
        stop = min(start + count, self.size)
        for at in range(start, stop, _WINDOW):
            size = min(_WINDOW, stop - at)
            try:
                parts.append(read_exactly(self._fs, self._fd, size, at))
            except OSError:
                parts += [self._page(page, stop, lost) for page in range(at, at + size, _PAGE)]
        return b"".join(parts), lost

    def _page(self, at: int, stop: int, lost: list[int]) -> bytes:
        size = min(_PAGE, stop - at)
        try:
            return read_exactly(self._fs, self._fd, size, at)
        except OSError:
            lost.append(at)
            return bytes(size)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fs.close(self._fd)

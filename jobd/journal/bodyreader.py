"""Reads single bodies back by place, from any thread."""

from __future__ import annotations

import os
from threading import Lock
from zlib import crc32

from jobd.errors import QueueDamagedError
from jobd.journal.damage import unreadable
from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.live import NUMBER_SHIFT, OFFSET_MASK, LiveSegment
from jobd.journal.lookup import Kept, SnapshotReader
from jobd.journal.record import FRAME, FRAME_BYTES, FRAME_CRC_AT, TYPE_MASK

#: bodies up to 4 KiB live in the journal, so one read nearly always has all of a record
_GUESS = FRAME_BYTES + 4096
#: segments kept open for reading: a long-lived queue has more files than a process may open
_OPEN_AT_MOST = 32


class BodyReader:
    """Reads bodies of the segments in `files`, which may grow meanwhile. Thread-safe.

    One lock over each read: a descriptor must not be closed and given to another file under a
    thread that is about to read from it. What has left the segments is in the snapshot.
    """

    __slots__ = ("_closed", "_files", "_fs", "_lock", "_open", "_snapshot")

    def __init__(
        self, fs: Fs, files: list[LiveSegment], snapshot: SnapshotReader | None = None
    ) -> None:
        self._fs, self._files, self._snapshot = fs, files, snapshot
        self._open: dict[int, int] = {}
        self._lock = Lock()
        self._closed = False

    def read(self, where: int) -> bytes:
        """The body of the record at `where`, verified.

        Raises QueueDamagedError naming file and offset where a checksum does not fit, ValueError
        for a `where` that the journal never gave out, or whose segment is gone.
        """
        with self._lock:
            found = self._in_segment(where)
        if found is None:
            raise ValueError(f"no record at {where}: there is no segment {where >> NUMBER_SHIFT}")
        return found.body

    def kept(self, where: int, kind: int, id_: int) -> Kept:
        """The record at `where`, or where that segment is gone what the snapshot says of the thing.

        `where` 0 is in no segment. Raises as :meth:`read`.
        """
        with self._lock:
            found = self._in_segment(where)
            snapshot = self._snapshot
        if found is None and snapshot is not None:
            found = snapshot.find(kind, id_)
        if found is None:
            raise ValueError(f"nothing at {where}, nor a statement of kind {kind} id {id_}")
        return found

    def _in_segment(self, where: int) -> Kept | None:
        number, offset = where >> NUMBER_SHIFT, where & OFFSET_MASK
        # numbers follow each other: only the oldest ever go
        index = number - self._files[0].number if self._files else -1
        if not where or not 0 <= index < len(self._files):
            return None
        segment = self._files[index]
        if not segment.header.bytes <= offset < segment.end:
            raise ValueError(f"no record at {where}: {segment.name} has no offset {offset}")
        try:
            return read_record(self._fs, segment, self._descriptor(segment), offset)
        except OSError as error:
            folder = os.path.dirname(segment.path)
            raise unreadable(folder, segment.name, offset, error) from error

    def look_in(self, snapshot: SnapshotReader) -> None:
        """What is no longer in a segment is to be found in this snapshot from now on."""
        with self._lock:
            before, self._snapshot = self._snapshot, snapshot
        if before is not None:
            before.close()

    def drop(self, count: int) -> list[LiveSegment]:
        """Takes the oldest `count` segments out of use, and gives them."""
        with self._lock:
            gone = self._files[:count]
            for segment in gone:
                segment.gone = True
                fd = self._open.pop(segment.number, -1)
                if fd >= 0:
                    self._fs.close(fd)
            del self._files[:count]
        return gone

    def _descriptor(self, segment: LiveSegment) -> int:
        if self._closed:
            raise ValueError("the journal is closed")
        fd = self._open.pop(segment.number, -1)
        if fd < 0:
            if len(self._open) >= _OPEN_AT_MOST:
                self._fs.close(self._open.pop(next(iter(self._open))))
            fd = self._fs.open(segment.path, os.O_RDONLY)
        # last in, so that the first is the one unused for longest
        self._open[segment.number] = fd
        return fd

    def close(self) -> None:
        """Closes what is open; a thread that reads now is waited for."""
        with self._lock:
            self._closed = True
            while self._open:
                self._fs.close(self._open.popitem()[1])
            snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()


def read_record(fs: Fs, segment: LiveSegment, fd: int, offset: int) -> Kept:
    """The record whose frame stands at `offset`; its checksums decide."""
    data = read_exactly(fs, fd, min(_GUESS, segment.end - offset), offset)
    why = "its frame is cut short"
    if len(data) >= FRAME_BYTES:
        size, type_, kind, _, id_, revision, body_crc, frame_crc = FRAME.unpack_from(data)
        why = "its frame's checksum does not fit"
        if crc32(data[:FRAME_CRC_AT], segment.seed) == frame_crc:
            body = data[FRAME_BYTES : FRAME_BYTES + size]
            if len(body) < size:
                body = read_exactly(fs, fd, size, offset + FRAME_BYTES)
            if len(body) == size and crc32(body) == body_crc:
                return Kept(type_ & TYPE_MASK, body)
            why = f"the body of kind {kind} id {id_} revision {revision} is damaged"
    raise QueueDamagedError(
        f"queue file {segment.path}: record at offset {offset} cannot be served: {why};"
        " stop the daemon and run `jobd fsck`",
        file=segment.path,
        offset=offset,
    )

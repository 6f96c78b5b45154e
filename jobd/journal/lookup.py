"""Finds single statements of a snapshot: what was in a segment that is gone."""

from __future__ import annotations

import os
from bisect import bisect_right
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from jobd.errors import QueueDamagedError
from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.record import (
    BATCH,
    BATCH_BYTES,
    BATCH_CRC_AT,
    FRAME,
    FRAME_BYTES,
    TYPE_MASK,
    record_cost,
)
from jobd.journal.snapshot import Snapshot, key_of


class Kept(NamedTuple):
    """A record that was looked up: its type, and its body."""

    type: int
    body: bytes


class SnapshotReader:
    """Finds single statements of one snapshot. Thread-safe."""

    def __init__(self, fs: Fs, snapshot: Snapshot) -> None:
        self._fs, self.snapshot = fs, snapshot
        self._fd = -1
        self._lock = Lock()
        #: the batch that was read last: who asks for one often asks for its neighbour next
        self._at = -1
        self._batch: dict[int, Kept] = {}

    def find(self, kind: int, id_: int) -> Kept | None:
        """The first statement about that thing, verified; None where there is none.

        Raises QueueDamagedError where a checksum does not fit, or the disk cannot be read.
        """
        key = key_of(kind, id_)
        number = bisect_right(self.snapshot.keys, key) - 1
        if number < 0:
            return None
        offset = self.snapshot.places[number]
        with self._lock:
            try:
                if offset != self._at:
                    self._batch, self._at = self._read(offset), offset
            except OSError as error:
                raise self._bad(offset, f"it cannot be read ({error.strerror})") from error
            return self._batch.get(key)

    def _read(self, offset: int) -> dict[int, Kept]:
        """The statements of the batch at `offset`."""
        if self._fd < 0:
            self._fd = self._fs.open(self.snapshot.path, os.O_RDONLY)
        head = read_exactly(self._fs, self._fd, BATCH_BYTES, offset)
        if len(head) < BATCH_BYTES or crc32(head[:BATCH_CRC_AT]) != BATCH.unpack(head)[9]:
            raise self._bad(offset, "a batch's checksum does not fit")
        _, _, count, _, _, _, length, crc, _, _ = BATCH.unpack(head)
        payload = read_exactly(self._fs, self._fd, length, offset + BATCH_BYTES)
        if len(payload) < length or crc32(payload) != crc:
            raise self._bad(offset, "a batch's checksum does not fit")
        found: dict[int, Kept] = {}
        at = 0
        for _ in range(count):
            size, type_, kind, _, id_, _, _, _ = FRAME.unpack_from(payload, at)
            body = payload[at + FRAME_BYTES : at + FRAME_BYTES + size]
            found.setdefault(key_of(kind, id_), Kept(type_ & TYPE_MASK, body))
            at += record_cost(size)
        return found

    def _bad(self, offset: int, why: str) -> QueueDamagedError:
        path = self.snapshot.path
        return QueueDamagedError(
            f"queue file {path}: damaged at offset {offset}: {why}; stop the daemon and run "
            "`jobd fsck`",
            file=path,
            offset=offset,
        )

    def close(self) -> None:
        """Closes its file; a thread that reads now is waited for. A later `find` opens it anew."""
        with self._lock:
            if self._fd >= 0:
                self._fs.close(self._fd)
            self._fd, self._at, self._batch = -1, -1, {}

"""Appends batches, each durable when the call returns, and goes on from segment to segment.

DURABILITY W1 (one writer, one batch in flight), W3 to W6, W8. The hot path is `write`: little
Python around one pwrite and one fdatasync.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.record import BATCH_BYTES, CLEAN, IDLE, RecordFields, encode_batch
from jobd.journal.segment import HEADER_BYTES, Header, Predecessor
from jobd.journal.space import FILL_STEP, MARKS_BYTES, Blank, SpaceMaker, is_full, is_scarce

#: a sync slower than this is told, in seconds (DURABILITY W7)
SLOW_SYNC = 1.0
#: what a batch takes besides its records: its header and the rounding of its payload
BATCH_COST = BATCH_BYTES + 4


class Writer:
    """The end of the queue. `files` is shared with the readers and grows at each roll."""

    __slots__ = (
        "_chain", "_clock_ms", "_current", "_fs", "_log", "_real", "_space", "failed",
        "files", "last_sync", "lsn", "segment_bytes", "spare", "store", "syncs",
    )  # fmt: skip

    def __init__(
        self,
        fs: Fs,
        space: SpaceMaker,
        files: list[LiveSegment],
        store: bytes,
        lsn: int,
        chain: int,
        segment_bytes: int,
        clock_ms: Callable[[], int],
        log: Callable[[str], None],
    ) -> None:
        """Goes on behind batch `lsn`, whose header's CRC is `chain`, in a new segment."""
        self._fs, self._space, self._log, self._clock_ms = fs, space, log, clock_ms
        self.segment_bytes, self._chain = segment_bytes, chain
        self.files, self.store, self.lsn = files, store, lsn
        #: what stopped the queue, raised again by every later call: a failed disk, or its end
        self.failed: DiskFailedError | ValueError | None = None
        #: the next segment, made ready by the background thread; taken by the loop alone
        self.spare: Blank | None = None
        self.syncs, self.last_sync = 0, 0.0
        self._real = False
        self._current = self._roll(0)

    @property
    def current(self) -> LiveSegment:
        """The segment that is being written."""
        return self._current

    def room(self) -> int:
        """See `Journal.room`."""
        now, spare = self._current, self.spare
        room = max(0, now.reserved - now.end - MARKS_BYTES - BATCH_COST)
        if spare is not None:
            waste = min(FILL_STEP, spare.capacity // 8)
            room += max(0, spare.reserved - HEADER_BYTES - MARKS_BYTES - BATCH_COST - waste)
        return room

    def write(self, records: Sequence[RecordFields]) -> list[int]:
        """See `Journal.write`."""
        if self.failed is not None:
            raise self.failed
        if not records:
            return []
        now = self._current
        blob, crc, where = self._encode(records, 0)
        if now.end + len(blob) + MARKS_BYTES > now.reserved:
            self._make_room(len(blob))
            # another segment has another salt, and the batch another place
            blob, crc, where = self._encode(records, 0)
        self._append(blob, crc)
        self._real = True
        return where

    def seal(self, need: int) -> None:
        """See `Journal.seal`."""
        if self.failed is not None:
            raise self.failed
        if self._current.empty:
            return
        spare = self.spare
        ready = 0 if spare is None else spare.reserved - HEADER_BYTES - MARKS_BYTES - BATCH_COST
        if need > ready:
            raise RefusedError(
                f"queue {self._space.directory}: the next segment is not ready, or too small;"
                " ask again, or free some space"
            )
        self._roll(0)

    def mark_idle(self) -> bool:
        """Writes the idle mark if the last batch is a real one (DURABILITY W8)."""
        if not self._real or not self._mark(IDLE, 2 * BATCH_BYTES):
            return False
        self._real = False
        return True

    def mark_clean(self) -> None:
        """Writes the mark of a clean stop, from space that is always kept for it."""
        self._mark(CLEAN, BATCH_BYTES)

    def _mark(self, flags: int, need: int) -> bool:
        if self.failed is not None:
            raise self.failed
        if self._current.end + need > self._current.reserved:
            return False
        blob, crc, _ = self._encode((), flags)
        self._append(blob, crc)
        return True

    def _encode(self, records: Sequence[RecordFields], flags: int) -> tuple[bytes, int, list[int]]:
        now, lsn = self._current, self.lsn
        return encode_batch(
            records, now.base + now.end, now.salt, now.seed, lsn + 1, lsn, self._chain, flags
        )

    def _append(self, blob: bytes, crc: int) -> None:
        """Writes one batch at the end and syncs it (DURABILITY W1, W5, W6)."""
        fs, now = self._fs, self._current
        at, size = now.end, len(blob)
        now.claim(at + size)
        try:
            # a short write is repeated whole, not continued: one that lies about what it wrote
            # would leave a hole in the middle of the log (fault 15)
            if fs.pwrite(now.fd, blob, at) != size and fs.pwrite(now.fd, blob, at) != size:
                raise OSError(errno.EFBIG, "short write")
        except OSError as error:
            self._take_back(error)
            raise self._fail(error, "a batch cannot be written") from error
        began = monotonic()
        try:
            fs.fdatasync(now.fd)
        except OSError as error:
            raise self._fail(error, "a batch cannot be synced") from error
        took = monotonic() - began
        now.end = at + size
        self.lsn += 1
        self._chain = crc
        self.syncs += 1
        self.last_sync = took
        if took > SLOW_SYNC:
            self._log(f"queue file {now.path}: a sync took {took:.1f} s; the disk is slow")

    def _take_back(self, error: OSError) -> None:
        """Cuts what a write for want of space left; touches nothing where the disk failed (W5)."""
        if is_full(error):
            with suppress(OSError):
                self._fs.truncate(self._current.fd, self._current.end)
                self._fs.fsync(self._current.fd)

    def _fail(self, error: OSError, what: str) -> DiskFailedError:
        """The error after which nothing is promised any more (DURABILITY W6)."""
        path = self._current.path
        failed = DiskFailedError(
            f"queue file {path}: {what} ({error.strerror}); the outcome of the last requests is"
            " unknown; look at the disk, then start the daemon again",
            file=path,
        )
        self.failed = failed
        return failed

    def _make_room(self, need: int) -> None:
        """Room for a batch of `need` bytes, in this segment or the next; or RefusedError."""
        if self._current.end + need + MARKS_BYTES > self._current.capacity:
            self._roll(need)
        now = self._current
        try:
            # only where the file system cannot reserve: else all of `capacity` is
            while now.end + need + MARKS_BYTES > now.reserved and now.fill(self._fs):
                pass
        except OSError as error:
            if not is_full(error) and not is_scarce(error):
                raise self._fail(error, "it cannot be filled ahead") from error
            spare = self.spare
            if spare is not None and spare.reserved >= HEADER_BYTES + need + MARKS_BYTES:
                # what is written of the spare one is room too, and was promised
                self._roll(need)
                return
            raise RefusedError(
                f"queue file {now.path}: no space for {need} bytes ({error.strerror});"
                " free some and try again"
            ) from error

    def _roll(self, need: int) -> LiveSegment:
        """Goes on in a new segment that has room for a batch of `need` bytes.

        A segment without a batch is replaced by its successor, which has the same first lsn and
        so the same name: the rename puts one in the place of the other at once.
        """
        least = HEADER_BYTES + need + MARKS_BYTES
        before = self.files[-1] if self.files else None
        try:
            blank = self._take_spare(least)
            if blank is None:
                blank = self._space.make_at_any_size(self.segment_bytes, least)
            header = self._header(before)
            path, crc = self._space.publish(blank, header)
        except DiskFailedError as error:
            self.failed = error
            raise
        if before is not None:
            if before.empty:
                self.files.pop()
            if before.fd >= 0:
                self._fs.close(before.fd)
                before.fd = -1
        number = 0 if before is None else before.number + (not before.empty)
        now = LiveSegment(number, path, replace(header, crc=crc), HEADER_BYTES)
        now.fd, now.capacity, now.reserved = blank.fd, blank.capacity, blank.reserved
        now.filled, now.whole = blank.filled, blank.reserved == blank.capacity
        self._chain = crc
        self.files.append(now)
        self._current = now
        return now

    def _take_spare(self, least: int) -> Blank | None:
        spare, self.spare = self.spare, None
        if spare is None or spare.capacity >= least:
            return spare
        self._space.discard(spare)
        return None

    def _header(self, before: LiveSegment | None) -> Header:
        """The next segment's header: a salt of its own, and what it knows of its predecessor."""
        link = None
        if before is not None and before.empty:
            link = before.header.predecessor
        elif before is not None:
            link = Predecessor(before.header.first_lsn, before.end, self.lsn, self._chain)
        salt = int.from_bytes(os.urandom(8), "little")
        return Header(self.store, salt, self.lsn + 1, self._clock_ms(), link)

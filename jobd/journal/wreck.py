"""What one damaged segment still holds: each record that can be read, or at least named.

The rule for what lies between: where all bytes are accounted for, nothing else was there; where
28 or more are not, records that nobody can name may have been (:class:`Gap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from jobd.journal.held import Held
from jobd.journal.onebit import mend
from jobd.journal.record import (
    BATCH,
    BATCH_BYTES,
    BATCH_CRC_AT,
    BATCH_MAGIC,
    CLEAN,
    FRAME,
    FRAME_BYTES,
    FRAME_CRC_AT,
    MAX_PAYLOAD,
    TYPE_MASK,
    record_cost,
)
from jobd.journal.segment import Header

_ZEROES = bytes(FRAME_BYTES)


class Piece(NamedTuple):
    """A record. `sure`: its checksums fit as they stand.

    Else one bit was set right to read it, or (`body` None) it is known by its frame alone.
    """

    type: int
    kind: int
    id: int
    revision: int
    body: bytes | None
    sure: bool
    file: str
    offset: int


class Gap(NamedTuple):
    """A place in which there may have been records that nobody can name."""

    file: str
    offset: int
    bytes: int
    why: str


class Wound(NamedTuple):
    """Damage that took no record with it."""

    file: str
    offset: int
    why: str


class _Head(NamedTuple):
    flags: int
    records: int
    lsn: int
    length: int
    crc: int
    mended: bool


class Wreck:
    """One segment's bytes. `end`: where they should end, and with which lsn, as the next one says.

    After :meth:`pieces`, `lsn` is that of the last batch that was met.
    """

    def __init__(
        self, name: str, header: Header, data: bytes, end: tuple[int, int] | None, *, last: bool
    ) -> None:
        self._name, self._header, self._end, self._last = name, header, end, last
        self._data = data
        self._held = Held(data)
        self._clean = False
        self.lsn = header.first_lsn - 1

    def pieces(self) -> Iterator[Piece | Gap | Wound]:
        """Everything in it, in order."""
        at = self._header.bytes
        while True:
            head = self._head(at)
            if head is None:
                found = self._held.find(self._header, at, self.lsn + 1)
                if found is None:
                    break
                yield from self._lost_batches(at, found[0], found[1] - self.lsn - 1)
                at, self.lsn = found[0], found[1] - 1
                continue
            stop = at + BATCH_BYTES + head.length
            payload = self._data[at + BATCH_BYTES : stop]
            whole = len(payload) == head.length and crc32(payload) == head.crc
            if not whole and self._torn(at):
                break
            if head.lsn != self.lsn + 1:
                yield self._gap(at, 0, f"batches {self.lsn + 1} to {head.lsn - 1} are missing")
            if head.mended:
                yield Wound(self._name, at, f"a bit in the header of batch {head.lsn} was flipped")
            if not whole:
                yield Wound(self._name, at, f"batch {head.lsn} is not as it was written")
            yield from self._payload(at + BATCH_BYTES, min(stop, len(self._data)), head.records)
            at, self.lsn = stop, head.lsn
            self._clean = bool(head.flags & CLEAN)
        yield from self._tail(at)

    def _head(self, at: int) -> _Head | None:
        """The header of a batch behind the last one, at `at`; one flipped bit is set right."""
        raw = self._data[at : at + BATCH_BYTES]
        if len(raw) < BATCH_BYTES:
            return None
        stored = int.from_bytes(raw[BATCH_CRC_AT:], "little")
        body = raw[:BATCH_CRC_AT]
        mended = crc32(body) != stored
        if mended:
            right = mend(body, stored)
            if right is None:
                return None
            raw = right + crc32(right).to_bytes(4, "little")
        magic, flags, count, salt, lsn, _, length, crc, _, _ = BATCH.unpack(raw)
        ours = magic == BATCH_MAGIC and salt == self._header.salt and length <= MAX_PAYLOAD
        # what was set right has to fit exactly, for it may be something else altogether
        fits = lsn == self.lsn + 1 if mended else lsn > self.lsn
        return _Head(flags, count, lsn, length, crc, mended) if ours and fits else None

    def _torn(self, at: int) -> bool:
        """Whether a batch that is not whole is the one in flight at a crash (DURABILITY R6)."""
        return self._last and self._held.find(self._header, at + 8, self.lsn + 1) is None

    def _tail(self, at: int) -> Iterator[Piece | Gap | Wound]:
        """What stands behind the last batch that can be read."""
        if not self._last:
            stop, lsn = self._end or (len(self._data), self.lsn)
            if lsn > self.lsn or any(self._data[at:stop]):
                yield from self._lost_batches(at, stop, lsn - self.lsn)
                self.lsn = max(lsn, self.lsn)
            return
        rest = self._data[at:].rstrip(b"\0")
        if rest and self._clean:
            yield Wound(self._name, at, f"{len(rest)} bytes stand behind the mark of a clean stop")
        elif rest:
            yield Wound(
                self._name, at, f"{len(rest)} bytes of a last batch that was never acknowledged"
            )

    def _gap(self, at: int, size: int, why: str) -> Gap:
        return Gap(self._name, at, size, why)

    def _lost_batches(self, start: int, stop: int, batches: int) -> Iterator[Piece | Gap | Wound]:
        """The records of batches whose headers cannot be read."""
        yield Wound(self._name, start, f"{max(batches, 1)} batches cannot be read as such")
        # headers that can be read stand here where a batch was written twice
        known = Held(self._data[start:stop]).salts()
        batches += sum(salt == self._header.salt for salt in known)
        left = stop - start - BATCH_BYTES * batches
        for cost, piece in self._scan(start, stop):
            left -= cost
            yield piece
        if left >= FRAME_BYTES or stop > len(self._data):
            yield self._gap(start, stop - start, f"{left} bytes of it cannot be read")

    def _payload(self, start: int, stop: int, count: int) -> Iterator[Piece | Gap | Wound]:
        """The records of one batch; all are there as soon as so many were met as it says."""
        met = 0
        for _, piece in self._scan(start, stop):
            met += 1
            yield piece
        if met < count:
            yield self._gap(start, stop - start, f"{count - met} of its records cannot be named")

    def _scan(self, start: int, stop: int) -> Iterator[tuple[int, Piece]]:
        return records_in(self._data, self._header.seed, self._name, start, stop)


def records_in(
    data: bytes, seed: int, name: str, start: int, stop: int
) -> Iterator[tuple[int, Piece]]:
    """The records in a range of a file, by their frames alone, each with the bytes it takes."""
    at = start
    stop = min(stop, len(data))
    while at + FRAME_BYTES <= stop:
        frame = data[at : at + FRAME_BYTES]
        if frame == _ZEROES:
            at += 4
            continue
        stored = int.from_bytes(frame[FRAME_CRC_AT:], "little")
        right = mend(frame[:FRAME_CRC_AT], stored, seed)
        if right is None:
            at += 4
            continue
        size, type_, kind, zero, id_, revision, crc, _ = FRAME.unpack(right + frame[-4:])
        if zero:
            at += 4
            continue
        sure = crc32(frame[:FRAME_CRC_AT], seed) == stored
        body: bytes | None = data[at + FRAME_BYTES : at + FRAME_BYTES + size]
        if at + FRAME_BYTES + size > stop:
            body = None
        elif crc32(body or b"") != crc:
            sure = False
            body = mend(body or b"", crc)
        sure = sure and body is not None
        cost = record_cost(size)
        yield cost, Piece(type_ & TYPE_MASK, kind, id_, revision, body, sure, name, at)
        at += cost

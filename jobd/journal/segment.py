"""One segment file: its header, and the walk through its batches.

The walk believes a length only after the checksum over it, and reads a bounded window at a time,
so that a damaged file costs neither a large allocation nor an endless loop (fault 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from jobd.errors import VersionError
from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.record import (
    BATCH,
    BATCH_BYTES,
    BATCH_CRC_AT,
    BATCH_MAGIC,
    CLEAN,
    FRAME_BYTES,
    KNOWN_FLAGS,
    MAX_PAYLOAD,
    MUST_KNOW_FLAGS,
    seed_of,
)

SEGMENT_MAGIC = b"JOBDSEG\n"
#: a snapshot's file has the same header, and the same batches behind it (journal/snapshot.py)
SNAPSHOT_MAGIC = b"JOBDSNP\n"
#: and a file of the archive (journal/archive.py)
ARCHIVE_MAGIC = b"JOBDARC\n"
MAJOR, MINOR = 1, 0
#: the first batch begins here: the header has a page of its own, which is never written again
HEADER_BYTES = 4096
#: what a header of any version may claim to be long
MAX_HEADER_BYTES = 1 << 16
#: magic, major, minor, header bytes, store, salt, first lsn, created ms, then the predecessor's
#: first lsn, length, last lsn, last CRC, and whether there is one
_FIELDS = Struct("<8sHHI16sQQQQQQII")
_PREFIX = Struct("<8sHHI")
_U32 = Struct("<I")
HAS_PREDECESSOR = 1

_NAME = re.compile(r"seg-(\d{20})\.log")
_WINDOW = 4 << 20


@dataclass(frozen=True, slots=True)
class Predecessor:
    """What a segment knows of the one before it; all of it was durable when this one was made."""

    first_lsn: int
    length: int
    last_lsn: int
    last_crc: int


@dataclass(frozen=True, slots=True)
class Header:
    """A segment's header. `crc` is its own, and what the first batch chains on."""

    store: bytes
    salt: int
    first_lsn: int
    created_ms: int
    predecessor: Predecessor | None
    bytes: int = HEADER_BYTES
    crc: int = 0

    @property
    def seed(self) -> int:
        """What the CRCs of this segment's record frames start from."""
        return seed_of(self.salt)


class BadSegmentError(Exception):
    """A segment's header is not one; the sentence says in what. Turned into QueueDamagedError."""


def segment_name(first_lsn: int) -> str:
    """The file name of the segment whose first batch has `first_lsn`."""
    return f"seg-{first_lsn:020d}.log"


def first_lsn_of(name: str) -> int | None:
    """The first lsn that a segment's file name tells, None where it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def pack_header(header: Header, magic: bytes = SEGMENT_MAGIC) -> tuple[bytes, int]:
    """The bytes of a segment's header, or with that magic of a snapshot's, and their CRC."""
    before = header.predecessor
    fields = _FIELDS.pack(
        magic,
        MAJOR,
        MINOR,
        HEADER_BYTES,
        header.store,
        header.salt,
        header.first_lsn,
        header.created_ms,
        before.first_lsn if before else 0,
        before.length if before else 0,
        before.last_lsn if before else 0,
        before.last_crc if before else 0,
        HAS_PREDECESSOR if before else 0,
    )
    body = fields.ljust(HEADER_BYTES - _U32.size, b"\0")
    crc = crc32(body)
    return body + _U32.pack(crc), crc


def read_header(fs: Fs, fd: int, name: str) -> Header:
    """The verified header of the segment `name`.

    Raises BadSegmentError when it is damaged, VersionError when it is sound but of a major
    version that this program cannot read (DURABILITY R12), OSError when it cannot be read.
    """
    header = read_any_header(fs, fd, name, SEGMENT_MAGIC, "segment")
    if first_lsn_of(name) != header.first_lsn:
        raise BadSegmentError(f"says in its header that its first lsn is {header.first_lsn}")
    return header


def read_any_header(fs: Fs, fd: int, name: str, wanted: bytes, word: str) -> Header:
    """The verified header of a file that begins with the magic `wanted`; `word` says what it is.

    Raises as :func:`read_header`.
    """
    head = read_exactly(fs, fd, _PREFIX.size, 0)
    if len(head) < _PREFIX.size or head[:8] != wanted:
        raise BadSegmentError(f"does not begin with a {word}'s header")
    _, major, minor, size = _PREFIX.unpack(head)
    if not _FIELDS.size + _U32.size <= size <= MAX_HEADER_BYTES:
        raise BadSegmentError("has a header of impossible length")
    head = read_exactly(fs, fd, size, 0)
    if len(head) < size:
        raise BadSegmentError(f"ends at {len(head)}, inside its header of {size} bytes")
    (crc,) = _U32.unpack_from(head, size - _U32.size)
    if crc32(head[: size - _U32.size]) != crc:
        raise BadSegmentError("has a header whose checksum does not fit")
    if major != MAJOR:
        raise VersionError(
            f"queue {word} {name}: is of format {major}.{minor}, and this program reads"
            f" {MAJOR}.x; start a jobd that knows format {major}.{minor}",
            needed=f"{major}.{minor}",
        )
    fields = _FIELDS.unpack_from(head)
    store, salt, first, created, p_first, p_length, p_last, p_crc, flags = fields[4:]
    before = Predecessor(p_first, p_length, p_last, p_crc) if flags & HAS_PREDECESSOR else None
    return Header(store, salt, first, created, before, size, crc)


def _holds(count: int, length: int, mark: int, lsn: int) -> bool:
    """Whether the numbers of a batch behind `lsn` are possible at all."""
    return (
        mark <= lsn and length <= MAX_PAYLOAD and not length & 7 and count * FRAME_BYTES <= length
    )


class Walk:
    """Goes through the batches of one segment, in order, as far as they are sound.

    After `batches` has ended: `offset` is where the next batch would begin, `lsn`, `crc`, `flags`
    are the last sound batch's (the header's where there is none), `records` how many records were
    passed, and `misfit` is True when the batch at `offset` has a sound header of its own that
    cannot stand here, `torn` when that header fits and only its payload does not.
    """

    __slots__ = (
        "_fd", "_fs", "_header", "_name", "_stop",
        "crc", "flags", "lsn", "misfit", "offset", "records", "torn",
    )  # fmt: skip

    def __init__(self, fs: Fs, fd: int, header: Header, name: str, stop: int) -> None:
        """A walk from the header to file offset `stop`."""
        self._fs, self._fd, self._header, self._name, self._stop = fs, fd, header, name, stop
        self.offset = header.bytes
        self.lsn = header.first_lsn - 1
        self.crc = header.crc
        self.flags = 0
        self.records = 0
        self.misfit = False
        self.torn = False

    def batches(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Each sound batch: its payload, the number of records, the payload's offset, the lsn.

        Raises OSError where the disk cannot be read: never a tear (DURABILITY R5).
        """
        stop, salt, unpack = self._stop, self._header.salt, BATCH.unpack_from
        lsn, chain, flags, records = self.lsn, self.crc, 0, 0
        base, at, size, window = self.offset, 0, 0, b""
        try:
            while not flags & CLEAN:
                if size - at < BATCH_BYTES:
                    base, at = base + at, 0
                    window = self._window(base, 0)
                    size = len(window)
                    if size < BATCH_BYTES:
                        return
                magic, bits, count, its_salt, its_lsn, mark, length, p_crc, previous, crc = unpack(
                    window, at
                )
                head = window[at : at + BATCH_CRC_AT]
                if magic != BATCH_MAGIC or its_salt != salt or crc32(head) != crc:
                    return
                if its_lsn != lsn + 1 or previous != chain or not _holds(count, length, mark, lsn):
                    self.misfit = True
                    return
                start = at + BATCH_BYTES
                end = start + length
                if end > size:
                    if base + end > stop:
                        self.torn = True
                        return
                    base, at = base + at, 0
                    window = self._window(base, BATCH_BYTES + length)
                    size = len(window)
                    if size < BATCH_BYTES + length:
                        return
                    continue
                payload = window[start:end]
                if crc32(payload) != p_crc:
                    self.torn = True
                    return
                if bits & ~KNOWN_FLAGS & MUST_KNOW_FLAGS:
                    raise self._unknown_flags(bits)
                lsn, chain, flags = its_lsn, crc, bits
                records += count
                at = end
                self.crc = crc  # for who goes on from here another time
                yield payload, count, base + start, lsn
        finally:
            self.offset, self.lsn, self.crc = base + at, lsn, chain
            self.flags, self.records = flags, records

    def _window(self, base: int, least: int) -> bytes:
        """The bytes from `base` on: a window, or `least` where one batch is longer."""
        count = min(max(_WINDOW, least), self._stop - base)
        return read_exactly(self._fs, self._fd, count, base) if count > 0 else b""

    def _unknown_flags(self, flags: int) -> VersionError:
        return VersionError(
            f"queue segment {self._name}: a batch has flags {flags:#06x}, which this program does"
            " not know and must; start the newer jobd that wrote them",
            flags=flags,
        )


def find_batch(
    fs: Fs, fd: int, header: Header, start: int, stop: int, least_lsn: int
) -> tuple[int, int, int, int, int] | None:
    """The first batch header in `[start, stop)` that verifies and has at least `least_lsn`.

    Gives its offset, lsn, record count, payload length and payload CRC; None where there is
    none. This is the search that tells damage from a tear (DURABILITY R6).
    """
    base = start
    while stop - base >= BATCH_BYTES:
        window = read_exactly(fs, fd, min(_WINDOW, stop - base), base)
        at = window.find(BATCH_MAGIC)
        while 0 <= at <= len(window) - BATCH_BYTES:
            fields = BATCH.unpack_from(window, at)
            if (
                not (base + at) & 7
                and fields[3] == header.salt
                and fields[4] >= least_lsn
                and crc32(window[at : at + BATCH_CRC_AT]) == fields[9]
            ):
                return base + at, fields[4], fields[2], fields[6], fields[7]
            at = window.find(BATCH_MAGIC, at + 1)
        if base + len(window) >= stop or len(window) < BATCH_BYTES:
            return None
        # a header may lie across the edge of two windows
        base += len(window) - BATCH_BYTES + 1
    return None


def nonzero_extent(fs: Fs, fd: int, start: int, stop: int) -> tuple[int, int] | None:
    """The offset of the first byte in `[start, stop)` that is not zero and that behind the last.

    None where all are zero: space that was filled ahead and never used.
    """
    first = last = -1
    base = start
    while base < stop:
        window = read_exactly(fs, fd, min(_WINDOW, stop - base), base)
        if not window:
            break
        if window.count(0) != len(window):
            kept = window.rstrip(b"\0")
            last = base + len(kept)
            if first < 0:
                first = base + len(window) - len(window.lstrip(b"\0"))
        base += len(window)
    return None if first < 0 else (first, last)

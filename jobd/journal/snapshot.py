"""Snapshots: what the queue tells up to one batch, as a file of its own, and how it is made.

A snapshot's bytes are those of a segment (header, batches of records), closed by a footer
(FORMAT.md, "A snapshot"); the records in it are complete statements, sorted by kind and id, so
that one of them can be found by what it is about. It is written beside the queue by whoever likes,
in any process, and counts only once it was renamed (:func:`publish`). What a record says is the
caller's affair, as everywhere in this package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from struct import Struct
from zlib import crc32

from jobd.journal.fsutil import Fs, read_exactly, write_all
from jobd.journal.live import LiveSegment
from jobd.journal.record import (
    BATCH,
    BATCH_BYTES,
    BATCH_CRC_AT,
    CLEAN,
    FRAME_BYTES,
    IGNORABLE,
    MAX_RECORDS,
    TYPE_MASK,
    Record,
    encode_batch,
    record_cost,
    seed_of,
)
from jobd.journal.replay import records_of
from jobd.journal.segment import (
    SNAPSHOT_MAGIC,
    BadSegmentError,
    Header,
    Predecessor,
    Walk,
    pack_header,
    read_any_header,
)

#: the type of the footer's record; no statement may have it
FOOTER_TYPE = 0x7F
#: bytes of records in one batch: what is read to find one of them
BATCH_TARGET = 64 << 10
#: what is written and synced at once: more keeps the queue's own syncs waiting
WRITE_STEP = 1 << 20

#: records before the footer, their bytes, batch lsn, its header's CRC, entries of the index
_FOOTER = Struct("<QQQII")
#: kind, id, offset of the batch that begins with a record of that kind and id
_ENTRY = Struct("<IQQ")
_NAME = re.compile(r"snap-(\d{20})\.snap")

#: one statement: type, kind, id, revision, body
Statement = tuple[int, int, int, int, bytes]


class BadSnapshotError(Exception):
    """A snapshot's file is damaged; the sentence says in what, `offset` where."""

    def __init__(self, why: str, offset: int = 0) -> None:
        super().__init__(why)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sound snapshot in the queue's directory, or about to be there.

    `lsn` is that of the last batch it tells of. `keys` and `places` are its index: kind and id of
    the first record of each batch, and where that batch begins; `footer` is where that one does.
    """

    path: str
    header: Header
    lsn: int
    bytes: int
    records: int
    keys: tuple[int, ...]
    places: tuple[int, ...]
    footer: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return os.path.basename(self.path)

    @property
    def after(self) -> Predecessor:
        """The end of the queue's part that it tells of."""
        assert self.header.predecessor is not None  # it is refused without one
        return self.header.predecessor


def snapshot_name(lsn: int) -> str:
    """The file name of the snapshot that tells of everything up to batch `lsn`."""
    return f"snap-{lsn:020d}.snap"


def lsn_of(name: str) -> int | None:
    """The lsn that a snapshot's file name tells, None where it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def key_of(kind: int, id_: int) -> int:
    return kind << 64 | id_


class SnapshotWriter:
    """Writes one snapshot to a path of its own; not seen by anybody before :func:`publish`.

    `add` every statement, sorted by kind and id, then `finish`; or `discard`. Raises OSError as
    the disk gave it: nothing but this file is touched, so the queue is never harmed by it.
    """

    def __init__(
        self,
        fs: Fs,
        path: str,
        store: bytes,
        after: Predecessor,
        made_ms: int,
        pace: Callable[[int], None] | None = None,
    ) -> None:
        """`after` is the last batch told of, and where its segment's data end. `pace` is called
        with the number of bytes after each step of writing: to wait there, or to raise."""
        self._fs, self.path, self._pace = fs, path, pace
        salt = int.from_bytes(os.urandom(8), "little")
        self._header = Header(store, salt, 1, made_ms, after)
        head, crc = pack_header(self._header, SNAPSHOT_MAGIC)
        self._header = replace(self._header, crc=crc)
        self._chain, self._seed, self._lsn = crc, seed_of(salt), 0
        self._buffer, self._at = bytearray(head), 0
        self._batch: list[Statement] = []
        self._size = 0
        self._index: list[tuple[int, int, int]] = []
        self.records = 0
        self._bytes = 0
        self._last = 0
        self._fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def add(self, statement: Statement) -> None:
        """Take one statement in. Raises ValueError where it is out of order, or of type 127."""
        if statement[0] & TYPE_MASK == FOOTER_TYPE:
            raise ValueError(f"statement of type {FOOTER_TYPE}: that is the footer's")
        key = key_of(statement[1], statement[2])
        if key < self._last:
            raise ValueError(f"statement of kind {statement[1]} id {statement[2]}: out of order")
        self._last = key
        cost = record_cost(len(statement[4]))
        full = self._size + cost > BATCH_TARGET or len(self._batch) == MAX_RECORDS
        if self._batch and full:
            self._end_batch()
        self._batch.append(statement)
        self._size += cost
        self._bytes += cost
        self.records += 1

    def add_all(self, statements: Iterable[Statement]) -> None:
        """Take in each of them."""
        for one in statements:
            self.add(one)

    def finish(self) -> Snapshot:
        """Closes it with its footer, syncs it, reads all of it back from the disk and compares.

        Raises BadSnapshotError where what is read is not what was written.
        """
        if self._batch:
            self._end_batch()
        before = self._header.predecessor
        assert before is not None
        body = _FOOTER.pack(
            self.records, self._bytes, before.last_lsn, before.last_crc, len(self._index)
        ) + b"".join(_ENTRY.pack(*entry) for entry in self._index)
        self._put([(FOOTER_TYPE | IGNORABLE, 0, before.last_lsn, 0, body)], 0)
        self._put([], CLEAN)
        self._flush()
        fs = self._fs
        fs.fsync(self._fd)
        # what memory shows is no proof: the next reader may come after a power cut
        fs.drop_cache(self._fd)
        found = _survey(fs, self._fd, self.path, before.last_lsn)
        written = (self._at, self.records, tuple(key_of(*entry[:2]) for entry in self._index))
        if (found.bytes, found.records, found.keys) != written:
            raise BadSnapshotError("is not what was written")
        self._close()
        return found

    def discard(self) -> None:
        """Closes and removes what was written; errors do not matter."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._fs.unlink(self.path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)

    def _end_batch(self) -> None:
        first = self._batch[0]
        self._index.append((first[1], first[2], self._at + len(self._buffer)))
        self._put(self._batch, 0)
        self._batch, self._size = [], 0
        if len(self._buffer) >= WRITE_STEP:
            self._flush()

    def _put(self, batch: list[Statement], flags: int) -> None:
        blob, self._chain, _ = encode_batch(
            batch, 0, self._header.salt, self._seed, self._lsn + 1, self._lsn, self._chain, flags
        )
        self._lsn += 1
        self._buffer += blob

    def _flush(self) -> None:
        """Writes what is gathered and syncs it: one large sync at the end stalls everybody."""
        write_all(self._fs, self._fd, memoryview(self._buffer), self._at)
        self._fs.fdatasync(self._fd)
        size = len(self._buffer)
        self._at += size
        self._buffer = bytearray()
        if self._pace is not None:
            self._pace(size)


def publish(fs: Fs, directory: str, made: Snapshot) -> Snapshot:
    """Gives a finished snapshot its name; it is the queue's own, durably, when this returns.

    Raises OSError.
    """
    path = os.path.join(directory, snapshot_name(made.lsn))
    fs.rename(made.path, path)
    fs.fsync_dir(directory)
    return replace(made, path=path)


def survey(fs: Fs, path: str) -> Snapshot:
    """The snapshot at `path`, every byte of it checked.

    Raises BadSnapshotError (also where it cannot be read: damage, DURABILITY R5), VersionError.
    """
    try:
        fd = fs.open(path, os.O_RDONLY)
        try:
            return _survey(fs, fd, path, lsn_of(os.path.basename(path)))
        finally:
            fs.close(fd)
    except OSError as error:
        raise BadSnapshotError(f"cannot be read ({error.strerror})") from error


def glance(fs: Fs, path: str, footer: int) -> Snapshot:
    """The snapshot at `path`, which its maker has read through: header and footer alone are read.

    Raises BadSnapshotError.
    """
    try:
        fd = fs.open(path, os.O_RDONLY)
        try:
            header = read_any_header(fs, fd, os.path.basename(path), SNAPSHOT_MAGIC, "snapshot")
            size = fs.size(fd)
            batch = read_exactly(fs, fd, size - footer, footer)
        finally:
            fs.close(fd)
    except OSError as error:
        raise BadSnapshotError(f"cannot be read ({error.strerror})") from error
    except BadSegmentError as error:
        raise BadSnapshotError(str(error)) from error
    if len(batch) < BATCH_BYTES or crc32(batch[:BATCH_CRC_AT]) != BATCH.unpack_from(batch)[9]:
        raise BadSnapshotError("has no footer where it should be", footer)
    _, _, count, _, _, _, length, crc, _, _ = BATCH.unpack_from(batch)
    payload = batch[BATCH_BYTES : BATCH_BYTES + length]
    if crc32(payload) != crc or len(payload) < FRAME_BYTES + _FOOTER.size:
        raise BadSnapshotError("has no footer where it should be", footer)
    (told, *_) = _FOOTER.unpack_from(payload, FRAME_BYTES)
    return _with_footer(path, header, size, told, payload, count, footer + BATCH_BYTES)


def _survey(fs: Fs, fd: int, path: str, lsn: int | None) -> Snapshot:
    name, size = os.path.basename(path), fs.size(fd)
    try:
        header = read_any_header(fs, fd, name, SNAPSHOT_MAGIC, "snapshot")
    except BadSegmentError as error:
        raise BadSnapshotError(str(error)) from error
    before = header.predecessor
    if header.first_lsn != 1 or before is None or lsn not in (None, before.last_lsn):
        raise BadSnapshotError("says in its header that it is another one")
    walk = Walk(fs, fd, header, name, size)
    last: tuple[bytes, int, int] = (b"", 0, 0)
    records = 0
    for payload, count, start, _ in walk.batches():
        if count:
            last = (payload, count, start)
            records += count
    if not walk.flags & CLEAN:
        raise BadSnapshotError("is damaged, or ends before its end", walk.offset)
    if walk.offset != size:
        raise BadSnapshotError("goes on behind its end", walk.offset)
    return _with_footer(path, header, size, records - 1, *last)


def _with_footer(
    path: str, header: Header, size: int, records: int, payload: bytes, count: int, start: int
) -> Snapshot:
    """The snapshot whose footer is in the batch with that payload. Raises BadSnapshotError."""
    before = header.predecessor
    assert before is not None
    body = payload[FRAME_BYTES:]
    if count != 1 or payload[4] & TYPE_MASK != FOOTER_TYPE or len(body) < _FOOTER.size:
        raise BadSnapshotError("has no footer", start)
    told, _, lsn, crc, entries = _FOOTER.unpack_from(body)
    if (told, lsn, crc) != (records, before.last_lsn, before.last_crc):
        raise BadSnapshotError("has a footer that is not its own", start)
    table = body[_FOOTER.size : _FOOTER.size + entries * _ENTRY.size]
    if len(table) != entries * _ENTRY.size:
        raise BadSnapshotError("has a footer that is cut short", start)
    index = list(_ENTRY.iter_unpack(table))
    return Snapshot(
        path, header, before.last_lsn, size, records,
        tuple(key_of(kind, id_) for kind, id_, _ in index), tuple(place for *_, place in index),
        start - BATCH_BYTES,
    )  # fmt: skip


def statements_in(fs: Fs, snapshot: Snapshot, known: frozenset[int] | None) -> Iterator[Record]:
    """Every statement of a snapshot, in order; `where` and `lsn` of these mean nothing.

    Raises QueueDamagedError, VersionError, as :func:`jobd.journal.replay.records_of`.
    """
    whole = LiveSegment(0, snapshot.path, snapshot.header, snapshot.bytes)
    if known is not None:
        # the footer is not known, and so skipped: a million records pass no other sieve
        yield from records_of(fs, whole, known)
        return
    yield from (record for record in records_of(fs, whole, None) if record.type != FOOTER_TYPE)

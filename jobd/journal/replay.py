"""Yields every record of a segment, checked, in the order of writing.

One tight loop: a million of these calls are most of a start after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import error as StructError

from jobd.errors import QueueDamagedError, VersionError
from jobd.journal.damage import unreadable
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.record import FRAME, FRAME_BYTES, IGNORABLE, TYPE_MASK, Record
from jobd.journal.segment import Walk


def records_of(fs: Fs, segment: LiveSegment, known: frozenset[int] | None) -> Iterator[Record]:
    """The records of one segment up to its `end`.

    The checksums are verified again, although opening did so: a page may have been read anew from
    a failing disk since. Raises QueueDamagedError where they no longer fit, and VersionError for
    a type outside `known` (None: all are known) that may not be skipped (DURABILITY R12).
    """
    try:
        fd = fs.open(segment.path, os.O_RDONLY)
        try:
            yield from _records(fs, fd, segment, known)
        finally:
            fs.close(fd)
    except OSError as error:
        raise unreadable(os.path.dirname(segment.path), segment.name, 0, error) from error


def _records(
    fs: Fs, fd: int, segment: LiveSegment, known: frozenset[int] | None
) -> Iterator[Record]:
    end, base = segment.end, segment.base
    walk = Walk(fs, fd, segment.header, segment.name, end)
    unpack, frame_bytes, make = FRAME.unpack_from, FRAME_BYTES, tuple.__new__
    for payload, count, start, lsn in walk.batches():
        at, length = 0, len(payload)
        for _ in range(count):
            try:
                size, stored, kind, _, id_, revision, _, _ = unpack(payload, at)
            except StructError:
                raise _bad(segment, start + at, lsn, "holds fewer records than it says") from None
            stop = at + frame_bytes + size
            if stop > length:
                raise _bad(segment, start + at, lsn, "holds a record that is longer than it")
            type_ = stored & TYPE_MASK
            if known is None or type_ in known:
                body = payload[at + frame_bytes : stop]
                yield make(Record, (type_, kind, id_, revision, body, (base + start) + at, lsn))
            elif not stored & IGNORABLE:
                raise _unknown(segment, start + at, type_)
            at = (stop + 3) & ~3
    if walk.offset != end:
        raise _bad(segment, walk.offset, walk.lsn + 1, "was sound when the queue was opened")


def _bad(segment: LiveSegment, offset: int, lsn: int, why: str) -> QueueDamagedError:
    return QueueDamagedError(
        f"queue file {segment.path}: damaged at offset {offset}: batch {lsn} {why};"
        " run `jobd fsck`",
        file=segment.path,
        offset=offset,
        lsn=lsn,
    )


def _unknown(segment: LiveSegment, offset: int, type_: int) -> VersionError:
    return VersionError(
        f"queue file {segment.path}: record at offset {offset} is of type {type_}, which this"
        " program does not know and may not skip; start the newer jobd that wrote it",
        file=segment.path,
        offset=offset,
        type=type_,
    )

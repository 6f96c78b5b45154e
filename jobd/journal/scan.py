"""Reads the queue again from some batch on, beside the writer: what has happened since.

Only batches that are durable are seen: a segment's `end` moves after the sync.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import error as StructError
from typing import NamedTuple

from jobd.errors import QueueDamagedError
from jobd.journal.damage import unreadable
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.record import FRAME, FRAME_BYTES, TYPE_MASK
from jobd.journal.segment import Walk


class Mark(NamedTuple):
    """A place between two batches, of the segment that begins with batch `first`."""

    first: int
    offset: int
    lsn: int
    crc: int


class Entry(NamedTuple):
    """One record as :func:`batches_after` yields it; `place` is where it stands in its batch."""

    place: int
    type: int
    kind: int
    id: int
    body: bytes


class Batch(NamedTuple):
    """One batch: its number, its records, and the place before it."""

    lsn: int
    entries: list[Entry]
    before: Mark
    bytes: int


def batches_after(
    fs: Fs, segments: Sequence[LiveSegment], after: int, mark: Mark | None = None
) -> Iterator[Batch]:
    """Every batch with an lsn above `after`, oldest first; from the oldest there is.

    `mark` is one that an earlier scan gave, not behind `after`: it spares the way from the
    segment's beginning. What is in a segment that goes meanwhile may be left out. Raises
    QueueDamagedError where a checksum does not fit.
    """
    firsts = [segment.header.first_lsn for segment in segments]
    for segment in segments[max(0, bisect_right(firsts, after + 1) - 1) :]:
        start = mark if mark is not None and mark.first == segment.header.first_lsn else None
        yield from _of_segment(fs, segment, after, start)


def last_before(segments: Sequence[LiveSegment], at: int) -> int:
    """The lsn behind which lies all that happened from `at` (ms UTC) on, by the segments' dates."""
    made = [segment.header.created_ms for segment in segments]
    found = bisect_right(made, at) - 1
    return segments[found].header.first_lsn - 1 if found > 0 else 0


def _of_segment(fs: Fs, segment: LiveSegment, after: int, start: Mark | None) -> Iterator[Batch]:
    end = segment.end
    first = segment.header.first_lsn
    try:
        fd = fs.open(segment.path, os.O_RDONLY)
        try:
            walk = Walk(fs, fd, segment.header, segment.name, end)
            if start is not None and start.lsn <= after:
                walk.offset, walk.lsn, walk.crc = start.offset, start.lsn, start.crc
            before = Mark(first, walk.offset, walk.lsn, walk.crc)
            for payload, count, offset, lsn in walk.batches():
                if count and lsn > after:
                    entries = list(_entries(segment, payload, count, offset))
                    yield Batch(lsn, entries, before, len(payload))
                before = Mark(first, offset + len(payload), lsn, walk.crc)
        finally:
            fs.close(fd)
    except OSError as error:
        if segment.gone:
            return
        raise unreadable(os.path.dirname(segment.path), segment.name, 0, error) from error
    if before.offset != end and not segment.gone:
        raise _bad(segment, before.offset)


def _entries(segment: LiveSegment, payload: bytes, count: int, offset: int) -> Iterator[Entry]:
    at = 0
    for index in range(count):
        try:
            size, stored, kind, _, id_, _, _, _ = FRAME.unpack_from(payload, at)
        except StructError:
            raise _bad(segment, offset + at) from None
        body = payload[at + FRAME_BYTES : at + FRAME_BYTES + size]
        yield Entry(index, stored & TYPE_MASK, kind, id_, body)
        at = (at + FRAME_BYTES + size + 3) & ~3


def _bad(segment: LiveSegment, offset: int) -> QueueDamagedError:
    return QueueDamagedError(
        f"queue file {segment.path}: damaged at offset {offset}: it was sound when the queue was"
        " opened; run `jobd fsck`",
        file=segment.path,
        offset=offset,
    )

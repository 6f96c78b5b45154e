"""Writes a whole queue anew from events: for a salvage and for a copy. Durable when it returns."""

from __future__ import annotations

from collections.abc import Iterable

from jobd.core import events as e
from jobd.core.state import State
from jobd.errors import DiskFailedError
from jobd.journal import MAX_RECORDS, SEGMENT_BYTES, RecordIn, record_cost
from jobd.journal.examine import examine
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.segment import Header
from jobd.journal.snapshot import Snapshot
from jobd.journal.space import SpaceMaker
from jobd.journal.writer import Writer

#: bytes of records in one batch
_BATCH = 1 << 20


def write_anew(
    fs: Fs,
    folder: str,
    store: bytes,
    events: Iterable[e.Event],
    at: int,
    base: State,
    snapshot: Snapshot | None,
    segment_bytes: int = SEGMENT_BYTES,
) -> int:
    """How many records `events` took, which are applied to `base`; read back and compared.

    `folder` is there and empty, or holds the `snapshot` that `base` is from; `at` in milliseconds
    UTC. Raises TransitionError for an event that cannot happen, RefusedError for a full disk,
    DiskFailedError, OSError.
    """
    before, lsn, chain = _behind(snapshot, store)
    writer = Writer(
        fs, SpaceMaker(fs, folder, 0), before, store, lsn, chain, segment_bytes,
        lambda: at, lambda line: None,
    )  # fmt: skip
    batch: list[RecordIn] = []
    size = records = 0
    try:
        for event in events:
            kind, body = type(event), e.encode(event)
            record = RecordIn(e.TYPE_OF[kind], e.KIND_OF[kind], event[0], base.apply(event), body)
            cost = record_cost(len(body))
            if size + cost > _BATCH or len(batch) == MAX_RECORDS:
                writer.write(batch)
                batch, size = [], 0
            batch.append(record)
            size += cost
            records += 1
        writer.write(batch)
        writer.mark_clean()
        fs.truncate(writer.current.fd, writer.current.end)
        fs.fsync(writer.current.fd)
    finally:
        fs.close(writer.current.fd)
    found = examine(fs, folder)
    if sum(segment.records for segment in found.segments) != records or not found.clean:
        raise DiskFailedError(f"queue {folder}: does not read as it was written; look at the disk")
    return records


def _behind(snapshot: Snapshot | None, store: bytes) -> tuple[list[LiveSegment], int, int]:
    """What a writer goes on from: the segment that the snapshot ends with, which need not be."""
    if snapshot is None:
        return [], 0, 0
    after = snapshot.after
    header = Header(store, 0, after.first_lsn, 0, None)
    return [LiveSegment(0, "", header, after.length)], after.last_lsn, after.last_crc

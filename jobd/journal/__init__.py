"""The durable queue on disk: bytes in, bytes out; knows nothing of jobs. See FORMAT.md."""

from __future__ import annotations

from jobd.journal.fsutil import Fs
from jobd.journal.journal import RESERVE_BYTES, SEGMENT_BYTES, Journal, Stats
from jobd.journal.record import (
    IGNORABLE,
    MAX_PAYLOAD,
    MAX_RECORDS,
    Named,
    Record,
    RecordFields,
    RecordIn,
    record_cost,
)
from jobd.journal.recovery import Report
from jobd.journal.writer import BATCH_COST

__all__ = [
    "BATCH_COST",
    "IGNORABLE",
    "MAX_PAYLOAD",
    "MAX_RECORDS",
    "RESERVE_BYTES",
    "SEGMENT_BYTES",
    "Fs",
    "Journal",
    "Named",
    "Record",
    "RecordFields",
    "RecordIn",
    "Report",
    "Stats",
    "record_cost",
]

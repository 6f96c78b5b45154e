"""Figures of the queue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the open queue.

    `bytes` of data in `segments` files, `last_sync_ms` of the last batch, the `lsn` of the last
    batch, how many batches were synced since opening, and the bytes of all snapshots.
    """

    bytes: int
    segments: int
    last_sync_ms: float
    lsn: int
    syncs: int
    snapshot_bytes: int = 0

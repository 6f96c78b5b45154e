"""A small queue whose every byte has a known place, to be damaged."""

from __future__ import annotations

from struct import pack_into
from zlib import crc32

import pytest

from jobd.errors import QueueDamagedError
from jobd.journal import Journal, RecordIn
from jobd.journal.examine import examine
from jobd.journal.record import BATCH_BYTES
from tests.support.sim_disk import SimDisk

Q = "/q"


def open_on(disk: SimDisk, **options: object) -> Journal:
    return Journal.open(Q, fs=disk, segment_bytes=32 << 10, reserve_bytes=0, **options)  # type: ignore[arg-type]


def rec(number: int, body: bytes = b"payload") -> RecordIn:
    return RecordIn(1, 2, number, 1, body)


def names(disk: SimDisk) -> list[str]:
    return [name for name in disk.listdir(Q) if name.startswith("seg-")]


def ids(disk: SimDisk) -> list[int]:
    journal = open_on(disk)
    found = [record.id for record in journal.replay()]
    journal.close()
    return found


class Store:
    """A small queue of two segments, with the place of every batch in the last one."""

    def __init__(self, *, idle: bool = False, clean: bool = False) -> None:
        disk = SimDisk()
        journal = open_on(disk)
        for number in (1, 2):
            journal.write([rec(number)])
        journal.close()
        journal = open_on(disk)
        self.starts: list[int] = []
        for number in (3, 4, 5):
            self.starts.append(journal.stats().bytes - self._first(disk))
            journal.write([rec(number), rec(number * 10, b"second" * 3)])
        if idle:
            self.starts.append(journal.stats().bytes - self._first(disk))
            assert journal.idle()
        self.end = journal.stats().bytes - self._first(disk)
        journal.close(clean=clean)
        if clean:
            self.starts.append(self.end)
            self.end += BATCH_BYTES
        disk.exit_process()
        self.disk = disk
        self.first, self.last = (f"{Q}/{name}" for name in names(disk))
        self.data = {path: disk.data(path) for path in (self.first, self.last)}
        #: the sound store as it is without the zeroes that were filled ahead
        self.data[self.last] = self.data[self.last][: self.end]
        self.restore()

    @staticmethod
    def _first(disk: SimDisk) -> int:
        return len(disk.data(f"{Q}/{names(disk)[0]}"))

    def restore(self) -> None:
        for path, data in self.data.items():
            self.disk.put(path, data)

    def batch_at(self, offset: int) -> int:
        """Where the batch begins that holds `offset`; -1 in the header."""
        return max((start for start in self.starts if start <= offset), default=-1)


def flips(data: bytes) -> range:
    return range(len(data) * 8)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def refusal(disk: SimDisk) -> QueueDamagedError:
    with pytest.raises(QueueDamagedError) as caught:
        examine(disk, Q)
    return caught.value


def reseal(data: bytearray, at: int) -> None:
    """Gives a batch header at `at` a checksum that fits what it says."""
    pack_into("<I", data, at + 44, crc32(data[at : at + 44]))

"""Each rule of reading by itself: order, neighbours, versions, types (DURABILITY 9, 10, 22, 28)."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack_into
from zlib import crc32

import pytest

from jobd.errors import QueueDamagedError, VersionError
from jobd.journal import IGNORABLE, RecordIn
from jobd.journal.record import BATCH_BYTES
from jobd.journal.segment import HEADER_BYTES
from tests.support.damaged_store import (
    Q,
    Store,
    ids,
    names,
    open_on,
    rec,
    refusal,
    reseal,
)
from tests.support.sim_disk import SimDisk


def three_segments() -> SimDisk:
    disk = SimDisk()
    for number in (1, 2, 3):
        journal = open_on(disk)
        journal.write([rec(number)])
        journal.close()
    return disk


def test_segments_missing_swapped_or_of_another_queue() -> None:
    disk = three_segments()
    one, two, three = (f"{Q}/{name}" for name in names(disk))

    missing = disk.snapshot()
    missing.remove(two)
    assert two.rpartition("/")[2] in str(refusal(missing))
    missing = disk.snapshot()
    missing.remove(one)
    assert one.rpartition("/")[2] in str(refusal(missing))

    swapped = disk.snapshot()
    swapped.put(one, disk.data(two))
    swapped.put(two, disk.data(one))
    assert refusal(swapped).details["file"] == one

    other = three_segments()
    for path in (one, two, three):
        mixed = disk.snapshot()
        mixed.put(path, other.data(path))
        error = refusal(mixed)
        assert error.details["file"] in (path, two)
        assert "another queue" in str(error)


def test_a_copy_of_an_older_state_of_an_inner_segment() -> None:
    disk = three_segments()
    path = f"{Q}/{names(disk)[1]}"
    disk.put(path, disk.data(path)[:-BATCH_BYTES])
    assert refusal(disk).details["offset"] == len(disk.data(path))


def test_a_batch_twice_and_batches_in_another_order() -> None:
    store = Store()
    data = store.data[store.last]
    one, two, three, end = (*store.starts, store.end)
    for changed, at in (
        (data + data[three:end], end),
        (data + data[one:two], end),
        (data[:two] + data[one:two] + data[two:], two),
        (data[:one] + data[two:three] + data[one:two] + data[three:], one),
        (data[:two] + data[three:], two),
    ):
        store.disk.put(store.last, changed)
        error = refusal(store.disk)
        assert (error.details["file"], error.details["offset"]) == (store.last, at)


def change_header(store: Store, change: Callable[[bytearray], None]) -> None:
    data = bytearray(store.data[store.last])
    change(data)
    pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    # the first batch chains on the header; what matters here comes before it
    store.disk.put(store.last, bytes(data))


def test_unknown_major_version_is_refused_with_the_version_needed() -> None:
    store = Store()
    change_header(store, lambda data: pack_into("<HH", data, 8, 2, 5))
    with pytest.raises(VersionError, match=r"format 2\.5"):
        open_on(store.disk)
    # the same bytes without a fitting checksum are damage, not a version
    data = bytearray(store.data[store.last])
    pack_into("<H", data, 8, 2)
    store.disk.put(store.last, bytes(data))
    assert refusal(store.disk).details["offset"] == 0


def test_newer_minor_version_is_read() -> None:
    disk = SimDisk()
    open_on(disk).close()
    path = f"{Q}/{names(disk)[0]}"
    data = bytearray(disk.data(path)[:HEADER_BYTES])
    pack_into("<H", data, 10, 7)
    pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    disk.put(path, bytes(data))
    assert ids(disk) == []


def test_unknown_flag_that_must_be_known_is_refused() -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    data[store.starts[2] + 4] |= 0x80
    reseal(data, store.starts[2])
    store.disk.put(store.last, bytes(data))
    with pytest.raises(VersionError, match="flags 0x0080"):
        open_on(store.disk)
    data[store.starts[2] + 4] &= 0x7F
    data[store.starts[2] + 5] |= 0x80
    reseal(data, store.starts[2])
    store.disk.put(store.last, bytes(data))
    assert ids(store.disk)[-1] == 50


def test_unknown_types_are_refused_or_skipped() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write([RecordIn(1, 1, 1, 1, b"a"), RecordIn(9 | IGNORABLE, 1, 2, 1, b"b")])
    journal.write([RecordIn(2 | IGNORABLE, 1, 3, 1, b"c")])
    journal.close()
    journal = open_on(disk, known_types={1, 2})
    assert [(r.type, r.id) for r in journal.replay()] == [(1, 1), (2, 3)]
    journal.write([RecordIn(5, 1, 4, 1, b"d")])
    journal.close()
    journal = open_on(disk, known_types={1, 2})
    with pytest.raises(VersionError, match="type 5"):
        list(journal.replay())
    journal.close()
    journal = open_on(disk)
    assert [(r.type, r.id) for r in journal.replay()] == [(1, 1), (9, 2), (2, 3), (5, 4)]
    journal.close()


class BadSector(SimDisk):
    """Reads of one file fail from an offset on."""

    bad = ""
    behind = 0

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        if self._fds[fd][1] == self.bad and offset + count > self.behind:
            raise OSError(5, "Input/output error")
        return super().pread(fd, count, offset)


@pytest.mark.parametrize("behind", [0, HEADER_BYTES])
@pytest.mark.parametrize("which", [0, 1])
def test_a_read_error_is_not_a_tear(which: int, behind: int) -> None:
    disk = Store().disk
    disk.__class__ = BadSector
    assert isinstance(disk, BadSector)
    disk.bad = f"{Q}/{names(disk)[which]}"
    disk.behind = behind
    with pytest.raises(QueueDamagedError, match="cannot be read") as caught:
        open_on(disk)
    assert caught.value.details["file"] == disk.bad
    assert "quarantine" not in disk.listdir(Q)


FIELDS = {"lsn": (16, "<Q"), "chain": (40, "<I"), "watermark": (24, "<Q")}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_sealed_header_that_does_not_fit_is_damage(field: str, index: int) -> None:
    """Each rule by itself: the header's own checksum is right, one number in it is not."""
    store = Store()
    data = bytearray(store.data[store.last])
    at = store.starts[index]
    place, form = FIELDS[field]
    for value in (0xFFFF_FFFF, 7777):
        pack_into(form, data, at + place, value)
        reseal(data, at)
        store.disk.put(store.last, bytes(data))
        assert refusal(store.disk).details["offset"] == at


def test_a_sealed_header_of_another_salt_is_stale() -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    at = store.starts[2]
    pack_into("<Q", data, at + 8, 12345)
    reseal(data, at)
    store.disk.put(store.last, bytes(data))
    assert ids(store.disk.snapshot()) == [1, 2, 3, 30, 4, 40]
    # nor does a stale batch behind a tear, with whatever lsn, prove anything
    batch = data[at:]
    pack_into("<Q", batch, 16, 10**6)
    reseal(batch, 0)
    store.disk.put(store.last, bytes(data[:at]) + b"torn...." + bytes(batch))
    assert ids(store.disk.snapshot()) == [1, 2, 3, 30, 4, 40]


def test_a_batch_that_stands_too_far_on_is_damage() -> None:
    """Its lsn is the expected one: bytes were inserted, which no crash does."""
    store = Store()
    data = store.data[store.last]
    at = store.starts[2]
    store.disk.put(store.last, data[:at] + b"inserted" + data[at:])
    assert refusal(store.disk).details["offset"] == at


def test_a_sound_batch_behind_a_clean_stop_is_damage() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write([rec(1)])
    writer = journal._writer
    writer.mark_clean()
    end = journal.stats().bytes
    journal.write([rec(2)])
    journal.close(clean=False)
    disk.exit_process()
    error = refusal(disk)
    assert error.details["offset"] == end
    assert "clean stop" in str(error)


@pytest.mark.parametrize("gap", [0, 5000])
def test_something_behind_an_inner_segment_is_damage(gap: int) -> None:
    store = Store()
    data = store.data[store.first]
    store.disk.put(store.first, data + bytes(gap) + b"\1" + bytes(20))
    assert refusal(store.disk).details["offset"] == len(data)
    store.disk.put(store.first, data + bytes(gap))
    assert ids(store.disk) == [1, 2, 3, 30, 4, 40, 5, 50]

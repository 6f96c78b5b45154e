"""Every byte of a snapshot changed, cut or missing: told, and nothing is lost (row 23, R2, R12)."""

from __future__ import annotations

import os
from dataclasses import replace
from struct import pack_into
from zlib import crc32

import pytest

from jobd.errors import QueueDamagedError, VersionError
from jobd.journal import snapshot as s
from jobd.journal.examine import examine
from jobd.journal.segment import HEADER_BYTES
from jobd.journal.snapshot import BadSnapshotError, SnapshotWriter, glance, survey
from tests.support.sim_disk import SimDisk
from tests.support.snapped import Q, Queue, batches, live, open_on, snapshots, standing

COUNT = 18


class Store:
    """A queue with two snapshots, and batches behind each."""

    def __init__(self) -> None:
        disk = SimDisk()
        queue = Queue(disk)
        live(queue, 0, 13)
        live(queue, 13, COUNT)
        queue.journal.close(clean=False)
        disk.exit_process()
        self.disk = disk.snapshot()
        self.older, self.newest = snapshots(self.disk)
        self.data = self.disk.data(self.newest)

    def with_newest(self, data: bytes) -> SimDisk:
        """The same disk with other bytes in the newest snapshot."""
        disk = self.disk.snapshot()
        disk.put(self.newest, data)
        return disk


@pytest.fixture(scope="module")
def store() -> Store:
    return Store()


def bad(disk: SimDisk, path: str) -> BadSnapshotError:
    with pytest.raises(BadSnapshotError) as caught:
        survey(disk, path)
    return caught.value


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def test_the_store_is_as_it_should_be(store: Store) -> None:
    assert standing(store.disk.snapshot()) == COUNT < len(batches())
    assert survey(store.disk, store.newest).records > 10


def test_every_byte_is_seen(store: Store) -> None:
    disk = store.disk.snapshot()
    for at in range(len(store.data)):
        # of the header's reserved bytes not all: one checksum is over them
        if 96 < at < HEADER_BYTES - 8 and at % 16:
            continue
        disk.put(store.newest, flipped(store.data, at, at % 8))
        found = bad(disk, store.newest)
        assert found.offset <= at
        assert str(found)


def test_any_end_but_its_own_is_seen(store: Store) -> None:
    disk = store.disk.snapshot()
    for cut in [*range(0, len(store.data), 13), *range(len(store.data) - 60, len(store.data))]:
        disk.put(store.newest, store.data[:cut])
        bad(disk, store.newest)
    for more in (b"\0", store.data[-48:], bytes(4096)):
        disk.put(store.newest, store.data + more)
        assert "behind its end" in str(bad(disk, store.newest))


def test_the_older_one_tells_the_same(store: Store) -> None:
    for at in range(0, len(store.data), 37):
        disk = store.with_newest(flipped(store.data, at, at % 8))
        queue = Queue(disk)
        (line,) = queue.journal.report.bad_snapshots
        assert "nothing is lost" in line
        assert store.newest in line
        queue.journal.close(clean=False)
        disk.exit_process()
        assert standing(disk) == COUNT
        assert store.newest not in snapshots(disk)
        name = os.path.basename(store.newest)
        assert disk.data(f"{Q}/quarantine/{name}") == flipped(store.data, at, at % 8)
        # the next one has its name again, and is no less
        after = Queue(disk)
        after.snapshot()
        after.journal.close()
        assert standing(disk) == COUNT


def test_a_missing_one_tells_the_same_too(store: Store) -> None:
    disk = store.disk.snapshot()
    disk.remove(store.newest)
    assert standing(disk) == COUNT


def test_both_damaged_is_refused_and_both_are_named(store: Store) -> None:
    disk = store.with_newest(flipped(store.data, 5000, 1))
    disk.put(store.older, flipped(disk.data(store.older), 5000, 1))
    before = {name: disk.data(f"{Q}/{name}") for name in disk.listdir(Q) if name != "LOCK"}
    with pytest.raises(QueueDamagedError) as caught:
        open_on(disk)
    for path in (store.older, store.newest):
        assert os.path.basename(path) in str(caught.value)
    after = {name: disk.data(f"{Q}/{name}") for name in disk.listdir(Q) if name != "LOCK"}
    assert after == before


def test_a_segment_that_is_missing_behind_is_refused(store: Store) -> None:
    names = [name for name in store.disk.listdir(Q) if name.startswith("seg-")]
    newest = survey(store.disk, store.newest).lsn
    for name in names:
        disk = store.disk.snapshot()
        disk.remove(f"{Q}/{name}")
        if int(name[4:24]) > newest and name != names[-1]:
            with pytest.raises(QueueDamagedError, match="missing"):
                open_on(disk)
    disk = store.disk.snapshot()
    for name in names:
        if int(name[4:24]) > newest:
            disk.remove(f"{Q}/{name}")
    with pytest.raises(QueueDamagedError, match="is missing: it was there when snapshot"):
        examine(disk, Q)


def test_damage_in_a_segment_that_is_told_of_harms_nothing(store: Store) -> None:
    newest = survey(store.disk, store.newest).lsn
    old = [
        name
        for name in store.disk.listdir(Q)
        if name.startswith("seg-") and int(name[4:24]) <= newest
    ]
    assert old, "those behind the older snapshot are kept"
    for name in old:
        for at in (20, HEADER_BYTES + 60):
            disk = store.disk.snapshot()
            disk.put(f"{Q}/{name}", flipped(disk.data(f"{Q}/{name}"), at, 3))
            assert standing(disk) == COUNT


def test_a_version_to_come_is_refused_in_words(store: Store) -> None:
    data = bytearray(store.data)
    data[8] = 2
    pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    disk = store.with_newest(bytes(data))
    with pytest.raises(VersionError, match=r"queue snapshot snap-\d+\.snap: is of format 2\.0"):
        open_on(disk)
    assert store.newest in snapshots(disk)


def test_another_queues_snapshot_is_not_taken(store: Store) -> None:
    other = Store()
    disk = store.with_newest(other.data)
    with pytest.raises(QueueDamagedError, match="of another queue"):
        open_on(disk)
    disk = store.disk.snapshot()
    disk.put(f"{Q}/{s.snapshot_name(99_999)}", store.data)
    assert "another one" in str(bad(disk, f"{Q}/{s.snapshot_name(99_999)}"))
    assert standing(disk) == COUNT


def test_a_snapshot_of_another_past_is_not_taken(store: Store) -> None:
    """The same queue, copied and gone on with otherwise: the chain of checksums tells."""
    true = survey(store.disk, store.newest)
    disk = store.disk.snapshot()
    disk.remove(store.newest)
    after = replace(true.after, last_crc=true.after.last_crc ^ 1)
    writer = SnapshotWriter(disk, store.newest, true.header.store, after, 0)
    writer.add((80, 3, 1, 1, b""))
    writer.finish()
    with pytest.raises(QueueDamagedError, match="does not follow what snapshot"):
        open_on(disk)


def test_what_was_not_written_as_it_should_is_found_at_once(store: Store) -> None:
    after = survey(store.disk, store.newest).after
    disk = SimDisk()
    for spoil in ("records", "sectors"):
        writer = SnapshotWriter(disk, "/one", bytes(16), after, 0)
        writer.add((80, 3, 1, 1, b"statement"))
        if spoil == "records":
            writer.records += 1
        else:  # what is read back is what the disk has, not what memory shows
            disk.drop_cache = lambda fd: lose(disk)  # type: ignore[method-assign]
        with pytest.raises(BadSnapshotError):
            writer.finish()
        writer.discard()
        assert disk.listdir("/") == []
    with pytest.raises(ValueError, match="out of order"):
        SnapshotWriter(disk, "/two", bytes(16), after, 0).add_all(
            [(80, 3, 2, 1, b""), (80, 3, 1, 1, b"")]
        )


def lose(disk: SimDisk) -> None:
    """A write that never reached the disk."""
    disk.file("/one").cache[4200:4300] = bytes(100)


def test_the_footer_alone_tells_the_same(store: Store) -> None:
    whole = survey(store.disk, store.newest)
    assert glance(store.disk, store.newest, whole.footer) == whole
    with pytest.raises(BadSnapshotError):
        glance(store.disk, store.newest, whole.footer - 8)
    for at in range(whole.footer, len(store.data) - 48):
        disk = store.with_newest(flipped(store.data, at, at % 8))
        with pytest.raises(BadSnapshotError):
            glance(disk, store.newest, whole.footer)

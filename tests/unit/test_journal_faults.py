"""Failing syncs and writes, a full disk, short writes (DURABILITY W4-W6, 13-19)."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal import BATCH_COST, Journal, RecordIn, record_cost
from tests.support.queue_client import (
    FIRST,
    SMALL,
    Client,
    batch,
    carry_on,
    copy_of,
    kept_copies,
    live_through,
    open_on,
    operations,
    torn_store,
    write_until_refused,
)
from tests.support.queue_client import small_steps as small_steps  # used by pytest
from tests.support.sim_disk import SimDisk


def one_fault(number: int, at: int, kinds: set[str]) -> Callable[[str, int], int | None]:
    return lambda kind, op: number if op == at and kind in kinds else None


def from_then_on(number: int, at: int, kinds: set[str]) -> Callable[[str, int], int | None]:
    return lambda kind, op: number if op >= at and kind in kinds else None


SYNCS = {"datasync", "sync", "dirsync"}
SPACE = {"create", "write", "fallocate", "mkdir", "rename"}


@pytest.mark.parametrize("make", [one_fault, from_then_on])
@pytest.mark.parametrize(
    ("number", "kinds"),
    [
        (errno.EIO, SYNCS),
        (errno.EIO, SYNCS | SPACE),
        (errno.ENOSPC, SPACE),
        (errno.EDQUOT, SPACE),
    ],
)
def test_error_at_every_operation(
    make: Callable[[int, int, set[str]], Callable[[str, int], int | None]],
    number: int,
    kinds: set[str],
) -> None:
    """A refusal or a stop, never a lost batch, never a second sync on a failed descriptor."""
    ended: set[type[BaseException] | None] = set()
    for at in range(1, operations() + 1):
        disk = SimDisk()
        disk.fault = make(number, at, kinds)
        client = Client()
        try:
            live_through(disk, client)
        except (RefusedError, DiskFailedError) as error:
            ended.add(type(error))
        else:
            ended.add(None)
        disk.exit_process()
        carry_on(disk.after_cut("kept"), copy_of(client))
        carry_on(disk.after_cut("lost"), copy_of(client))
        carry_on(disk, client)
    assert ended == {None, DiskFailedError} if number == errno.EIO else RefusedError in ended


def test_after_a_failed_sync_the_cache_is_not_believed() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    disk.fault = lambda kind, op: errno.EIO if kind == "datasync" else None
    with pytest.raises(DiskFailedError, match="outcome of the last requests is unknown"):
        client.write(journal)
    disk.fault = lambda kind, op: None
    # the device has healed; nothing may be promised all the same
    for call in (
        lambda: journal.write(batch(9)),
        lambda: journal.idle(),
        lambda: journal.room(),
        lambda: journal.read(1),
        lambda: journal.spare(),
        lambda: next(journal.replay()),
    ):
        with pytest.raises(DiskFailedError):
            call()
    journal.close()
    lied = disk.data("/q/seg-00000000000000000001.log")
    assert bytes([2]) * 700 in lied  # the cache shows what the disk lacks
    disk.exit_process()
    journal = open_on(disk)
    assert [r.id for r in journal.replay()] == [100, 101]
    journal.close()


def test_a_queue_that_cannot_be_synced_is_not_read_further() -> None:
    """What a kill left in memory alone is made durable first, or nothing is believed (R10)."""
    disk, _, _ = torn_store()
    before = disk.data(f"/q/{FIRST}")
    disk.fault = lambda kind, op: errno.EIO if kind == "datasync" else None
    with pytest.raises(DiskFailedError, match="cannot be synced"):
        open_on(disk)
    assert disk.data(f"/q/{FIRST}") == before
    assert kept_copies(disk) == []


def test_failed_sync_in_the_background_stops_the_queue() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write(batch(1))
    disk.fault = lambda kind, op: errno.EIO if kind in SYNCS else None
    with pytest.raises(DiskFailedError):
        journal.spare()
    disk.fault = lambda kind, op: None
    with pytest.raises(DiskFailedError):
        journal.write(batch(2))
    journal.close()


def test_full_disk_refuses_and_goes_on_when_there_is_space() -> None:
    disk = SimDisk(capacity=40 << 10)
    lines: list[str] = []
    journal = Journal.open("/q", fs=disk, segment_bytes=SMALL, reserve_bytes=8192, log=lines.append)
    client = Client()
    journal.spare()
    disk.capacity = disk._used()  # somebody else has taken all that is not reserved
    with pytest.raises(RefusedError, match="free some space"):
        write_until_refused(client, journal)
    # the spare segment and the one made of the freed reserve were used first
    assert client.acked >= 11
    assert "reserve" not in disk.listdir("/q")
    for _ in range(3):
        journal.spare()
    assert len([line for line in lines if "space" in line.lower()]) == 1
    assert journal.room() < 2000
    disk.capacity = 1 << 30
    journal.spare()
    assert journal.room() > 4096
    client.write(journal)
    assert "reserve" in disk.listdir("/q")
    journal.close()
    carry_on(disk, client)


@pytest.mark.parametrize(("fallocates", "segment"), [(True, 64 << 10), (False, 256 << 10)])
def test_room_is_kept(fallocates: bool, segment: int) -> None:
    """What `room` promised is written on a disk that has not a byte left."""
    for size in (1, 40, 300, 900):
        disk = SimDisk(fallocates=fallocates)
        journal = open_on(disk, segment_bytes=segment, reserve_bytes=0)
        journal.write(batch(1, size=5000))
        journal.spare()
        disk.capacity = 0
        room = journal.room()
        assert room > 100_000
        cost = BATCH_COST + record_cost(size)
        for number in range(room // cost):
            journal.write([RecordIn(1, 2, number, 1, bytes(size))])
        journal.close()


def test_marks_always_have_room() -> None:
    """A segment that is full to the last record still takes the idle mark and the clean one."""
    for size in range(0, 60, 4):
        disk = SimDisk()
        journal = open_on(disk, reserve_bytes=0)
        disk.capacity = 0
        while True:
            try:
                journal.write([RecordIn(1, 2, 1, 1, bytes(size))])
            except RefusedError:
                break
        assert journal.stats().lsn > 50
        assert journal.idle()
        journal.close()
        disk.capacity = 1 << 30
        journal = open_on(disk)
        assert journal.report.clean
        journal.close()


def test_full_disk_at_the_start_frees_the_reserve() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    journal.close()
    disk.capacity = disk._used() + 100
    journal = open_on(disk)
    client.verify(journal)
    client.write(journal, records=1, size=100)
    journal.close()
    assert "reserve" not in disk.listdir("/q")
    disk.capacity = disk._used() + 100
    with pytest.raises(RefusedError):
        open_on(disk)
    assert disk.open_files() == 0
    disk.capacity = 1 << 30
    carry_on(disk, client)


def test_without_fallocate_only_written_zeroes_are_room() -> None:
    disk = SimDisk(fallocates=False)
    client = Client()
    journal = open_on(disk, segment_bytes=256 << 10)
    # what is asked for at once, a large request or the ends of many runs, fits from the start
    assert 22 * 4096 < journal.room() < 24 * 4096
    for _ in range(10):
        client.write(journal)
        journal.spare()
        assert journal.room() > 22 * 4096
    assert "reserve" not in disk.listdir("/q")
    disk.capacity = 0
    with pytest.raises(RefusedError):
        write_until_refused(client, journal, 1_000)
    disk.capacity = 1 << 30
    client.write(journal)
    journal.close()
    carry_on(disk, client)


def test_short_write_is_repeated_whole_and_twice_is_taken_back() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    disk.short_writes = 1
    client.write(journal)
    client.write(journal)
    end = journal.stats().bytes
    disk.short_writes = 2
    with pytest.raises(DiskFailedError, match="short write"):
        client.write(journal)
    assert len(disk.data("/q/seg-00000000000000000001.log")) == end
    journal.close()
    disk.exit_process()
    journal = open_on(disk)
    assert journal.report.torn_bytes == 0
    assert [r.id for r in journal.replay()] == [100, 101, 200, 201, 300, 301]
    journal.close()

"""A power cut, or no space, at every step of snapshots and of removing what they replace.

Fault matrix, rows 17, 24 and 25.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from jobd.errors import DiskFailedError, RefusedError
from tests.support.sim_disk import PowerCut, SimDisk
from tests.support.snapped import Q, Queue, batches, expected, live, snapshots, standing
from tests.support.stating import told


def operations() -> int:
    disk = SimDisk()
    live(Queue(disk))
    return disk.ops


def states(disk: SimDisk, seed: int) -> Iterator[SimDisk]:
    yield disk.after_cut("lost")
    yield disk.after_cut("kept")
    for number in range(2):
        yield disk.after_cut("torn", seed * 10 + number)


def lived(disk: SimDisk, keep_older: bool) -> int:
    """How many batches were acknowledged until the power went, or all were."""
    acked = 0
    try:
        queue = Queue(disk)
        for number in range(len(batches())):
            queue.write(number)
            acked = number + 1
            if number % 5 == 4:
                queue.snapshot(keep_older=keep_older or number < 15)
    except PowerCut:
        pass
    return acked


def test_a_life_without_a_cut() -> None:
    disk = SimDisk()
    queue = Queue(disk)
    live(queue)
    assert told(queue.state) == expected(len(batches()))
    queue.check_bodies()  # those too whose segments went while it ran
    assert len(snapshots(disk)) == 1, "the last one was to be kept alone"
    names = disk.listdir(Q)
    assert not [name for name in names if name.endswith(".tmp")]
    assert len([name for name in names if name.startswith("seg-")]) < 4
    queue.journal.close()
    assert disk.open_files() == 0
    assert standing(disk) == len(batches())


@pytest.mark.parametrize("part", range(4))
def test_power_cut_at_every_operation(part: int) -> None:
    for cut in range(1 + part, operations() + 1, 4):
        disk = SimDisk()
        disk.cut_at = cut
        acked = lived(disk, keep_older=False)
        for after in states(disk, cut):
            found = standing(after)
            assert acked <= found <= acked + 1, f"cut {cut}"
            # and on: another snapshot, and a start from it
            again = Queue(after)
            if found:
                again.snapshot()
            again.journal.close(clean=False)
            assert standing(after.after_cut("lost")) == found
            assert not [name for name in after.listdir(Q) if name.endswith(".tmp")]


def test_the_older_snapshot_is_as_good_at_any_moment() -> None:
    """Whenever the power goes, the newest snapshot may be damaged too: the rest tells the same."""
    for cut in range(1, operations() + 1, 2):
        disk = SimDisk()
        disk.cut_at = cut
        acked = lived(disk, keep_older=True)
        after = disk.after_cut("lost")
        found = snapshots(after) if "q" in after.listdir("/") else []
        if not found:
            continue
        data = bytearray(after.data(found[-1]))
        data[len(data) // 2] ^= 4
        after.put(found[-1], bytes(data))
        assert acked <= standing(after) <= acked + 1, f"cut {cut}"


def test_no_space_at_any_write_of_a_snapshot() -> None:
    """It is given up and leaves nothing; the queue goes on, and the next one succeeds (row 17)."""
    for step in range(1, 40):
        disk = SimDisk()
        queue = Queue(disk)
        for number in range(8):
            queue.write(number)
        queue.journal.seal()
        start = disk.ops

        def full(kind: str, op: int, at: int = start + step) -> int | None:
            return errno.ENOSPC if op == at and kind in ("create", "write") else None

        before = disk.listdir(Q)
        disk.fault = full
        try:
            queue.made()
            failed = False
        except OSError:
            failed = True
        disk.fault = lambda kind, op: None
        if failed:
            assert disk.listdir(Q) == before
        queue.write(8)
        assert queue.journal.snapshot is None
        if failed:
            queue.snapshot()
            queue.journal.close()
            assert standing(disk) == 9
        elif disk.ops - start < step:
            return
    pytest.fail("a snapshot never ended")


def test_a_sync_that_fails_is_no_snapshot() -> None:
    for nth in range(1, 30):
        disk = SimDisk()
        queue = Queue(disk)
        for number in range(6):
            queue.write(number)
        queue.journal.seal()
        seen = 0

        def fail(kind: str, op: int, nth: int = nth) -> int | None:
            nonlocal seen
            seen += "sync" in kind
            return errno.EIO if "sync" in kind and seen == nth else None

        disk.fault = fail
        try:
            made = queue.made()
            queue.journal.adopt(made)
        except OSError:
            pass
        else:
            assert seen < nth
            return
        disk.fault = lambda kind, op: None
        # the queue's own files are sound, and it goes on
        queue.write(6)
        queue.journal.close(clean=False)
        assert standing(disk.after_cut("lost")) == 7
    pytest.fail("no end")


def test_what_was_promised_keeps_its_room() -> None:
    """A segment is left early only where the next one is ready and has room (DURABILITY W4)."""
    disk = SimDisk()
    queue = Queue(disk)
    queue.write(0)
    with pytest.raises(RefusedError, match="not ready"):
        queue.journal.seal(1)
    queue.journal.spare()
    room = (8 << 10) - 4096
    with pytest.raises(RefusedError, match="too small"):
        queue.journal.seal(room)
    assert queue.journal.sealed() is None
    queue.journal.seal(room - 200)
    assert queue.journal.sealed() is not None
    queue.write(1)
    assert queue.journal.room() < room
    queue.journal.close()
    assert standing(disk) == 2


def test_a_failed_disk_lets_nothing_be_sealed() -> None:
    disk = SimDisk()
    queue = Queue(disk)
    disk.fault = lambda kind, op: errno.EIO if kind == "datasync" else None
    with pytest.raises(DiskFailedError):
        queue.write(0)
    with pytest.raises(DiskFailedError):
        queue.journal.seal()

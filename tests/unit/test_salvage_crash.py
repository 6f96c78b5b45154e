"""A crash at every step of a salvage, and a full disk: the queue is the old one or the new one."""

from __future__ import annotations

import pytest

from jobd.daemon.folding import fold
from jobd.daemon.salvage import salvage
from jobd.errors import DiskFailedError, RefusedError
from jobd.journal import swap
from tests.support.damaged_store import flipped
from tests.support.hurt_queue import AT, WHO, Q, Queue, fates, mended, open_on
from tests.support.sim_disk import PowerCut, SimDisk


@pytest.fixture(scope="module")
def queue() -> Queue:
    return Queue()


def hurt_disk(queue: Queue) -> SimDisk:
    name = queue.names[0]
    disk = queue.hurt({name: flipped(queue.data[name], queue.data[name].index(b"three") * 8)})
    disk.put(f"{Q}/reserve", bytes(40_000))
    return disk


def go(disk: SimDisk) -> None:
    salvage(disk, Q, WHO, at=AT + 1, segment_bytes=16 << 10)


def operations(queue: Queue) -> int:
    disk = hurt_disk(queue)
    go(disk)
    return disk.ops


def everything_is_there(queue: Queue, disk: SimDisk) -> None:
    """Whoever opens it next has the whole result, and the old files are kept."""
    if not swap.pending(disk, Q):
        disk.exit_process()
    hurt = mended_or_found(disk)
    assert hurt.keys() == queue.truth.keys()
    for number, one in hurt.items():
        assert number == 3 or one == queue.truth[number]
    assert hurt[3].word == "suspect"
    kept = disk.listdir(f"{Q}/quarantine")
    olds = [name for folder in kept for name in disk.listdir(f"{Q}/quarantine/{folder}")]
    assert {name for name in olds if name.startswith("seg-")} == set(queue.names)
    assert "report.json" in olds
    assert not [name for name in disk.listdir(Q) if name.startswith("salvage")]


def mended_or_found(disk: SimDisk) -> dict[int, object]:
    go(disk)
    disk.exit_process()
    journal = open_on(disk)
    state = fold(journal.replay())
    journal.close()
    return dict(fates(state))


@pytest.mark.parametrize("mode", ["lost", "kept", "torn"])
def test_a_power_cut_at_every_step(queue: Queue, mode: str) -> None:
    for step in range(1, operations(queue) + 1):
        disk = hurt_disk(queue)
        disk.cut_at = step
        with pytest.raises(PowerCut):
            go(disk)
        everything_is_there(queue, disk.after_cut(mode, step))


def test_a_power_cut_while_the_files_change_place_is_finished_by_the_daemon(queue: Queue) -> None:
    seen = 0
    for step in range(1, operations(queue) + 1):
        disk = hurt_disk(queue)
        disk.cut_at = step
        with pytest.raises(PowerCut):
            go(disk)
        after = disk.after_cut("kept")
        if swap.pending(after, Q):
            seen += 1
            journal = open_on(after)
            assert fates(fold(journal.replay()))[3].word == "suspect"
            journal.close()
    assert seen > 8


def test_a_failing_disk_at_every_step_loses_nothing(queue: Queue) -> None:
    failed = 0
    for step in range(1, operations(queue) + 1):
        disk = hurt_disk(queue)
        disk.fault = lambda kind, op, at=step: 5 if op == at else None  # type: ignore[misc]
        try:
            go(disk)
        except DiskFailedError:
            failed += 1
        disk.exit_process()
        everything_is_there(queue, disk.after_cut("kept"))
    assert failed > 20


def test_a_full_disk_is_told_and_the_reserve_is_used(queue: Queue) -> None:
    disk = hurt_disk(queue)
    disk.capacity = disk._used() + 1000
    go(disk)
    assert "reserve" not in disk.listdir(Q)
    disk = hurt_disk(queue)
    disk.remove(f"{Q}/reserve")
    disk.capacity = disk._used() + 1000
    with pytest.raises(RefusedError, match="nothing was changed"):
        go(disk)
    disk.exit_process()
    disk.capacity = 1 << 40
    hurt = mended(disk)
    assert hurt.suspect == {3}

"""Archiving is cut short at every step: every run is there once, whole (fault matrix, row 1)."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jobd.daemon.archivefsck import look
from jobd.history import keeper
from jobd.history.index import Index
from tests.support.archiverig import ArchiveRig, Q
from tests.support.sim_disk import PowerCut, SimDisk

RUNS = 11


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BATCH", 3)
    monkeypatch.setattr(keeper, "AFTER_TROUBLE", 0.0)


def begun(path: Path) -> tuple[SimDisk, dict[int, object]]:
    """A disk with a queue whose runs are over, none of them archived; and what they are."""
    disk = SimDisk()
    disk.mkdir(Q)
    rig = ArchiveRig(disk, path / "begun.sqlite")
    rig.register()
    for run in range(1, RUNS + 1):
        rig.live(run)
    expected = rig.told()
    rig.close()
    disk.exit_process()
    return disk.snapshot(), dict(expected)


def archive(disk: SimDisk, index: Path) -> None:
    """A process that archives, rolls, and archives the rest."""
    rig = ArchiveRig(disk, index, window=6)
    try:
        rig.keep()
        for series in ("runs", "dead"):
            rig.archive.roll(series)
        rig.keeper.window = keeper.Window(2, 1 << 50)
        rig.keep()
    finally:
        rig.keeper.close()
        if rig.keeper._index is not None:
            rig.keeper._index.close()


def check(disk: SimDisk, index: Path, expected: dict[int, object]) -> None:
    """All runs are there, each once, and archiving goes on."""
    rig = ArchiveRig(disk, index)
    there = [run.id for run in rig.state.runs.oldest_first()]
    said = look(disk, f"{Q}/archive", str(index), rig.journal.store, lambda: there)
    assert said["sound"], f"what a crash leaves is no damage: {said}"
    rig.keep()
    assert rig.history.ready
    assert rig.told() == expected
    assert len(list(rig.state.runs.oldest_first())) == 2
    # not even one that was archived twice is counted twice
    rollups = rig.history.rollups(None, 0, 1 << 40)
    assert sum(sum(r.outcomes.values()) for _, _, r in rollups) == RUNS - 2
    rig.close()


def steps(disk: SimDisk, path: Path) -> int:
    """How many operations archiving takes."""
    whole = disk.snapshot()
    archive(whole, path / "steps.sqlite")
    return whole.ops


def test_without_a_cut(tmp_path: Path) -> None:
    disk, expected = begun(tmp_path)
    archive(disk, tmp_path / "i")
    disk.exit_process()
    assert len(disk.listdir(f"{Q}/archive")) == 3
    check(disk, tmp_path / "i", expected)


@pytest.mark.parametrize("mode", ["lost", "kept", "torn"])
def test_power_cut_at_every_operation(tmp_path: Path, mode: str) -> None:
    disk, expected = begun(tmp_path)
    count = steps(disk, tmp_path)
    assert count > 40
    for cut in range(1, count + 1):
        cut_off = disk.snapshot()
        cut_off.cut_at = cut
        index = tmp_path / f"{mode}-{cut}.sqlite"
        with pytest.raises(PowerCut):
            archive(cut_off, index)
        if cut % 3 == 0:
            Index.remove(str(index))
        check(cut_off.after_cut(mode, cut), index, expected)


def test_kill_at_every_operation(tmp_path: Path) -> None:
    disk, expected = begun(tmp_path)
    for cut in range(1, steps(disk, tmp_path) + 1, 2):
        killed = disk.snapshot()
        killed.cut_at = cut
        index = tmp_path / f"{cut}.sqlite"
        with pytest.raises(PowerCut):
            archive(killed, index)
        killed.off = False
        killed.exit_process()
        check(killed, index, expected)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_error_at_every_operation_of_the_archive(tmp_path: Path, number: int) -> None:
    """It waits, keeps all in memory, and goes on; a file whose sync failed is left alone."""
    disk, expected = begun(tmp_path)
    for step in range(1, 60):
        broken = disk.snapshot()
        index = tmp_path / f"{number}-{step}.sqlite"
        rig = ArchiveRig(broken, index)
        told = rig.forget
        first = broken.ops + step

        def fault(kind: str, op: int, first: int = first) -> int | None:
            return number if op == first else None

        def forget(runs: object, rig: ArchiveRig = rig, told: object = told) -> bool:
            # the queue's own operations are not what is looked at here
            rig.disk.fault, kept = (lambda kind, op: None), rig.disk.fault
            try:
                return told(runs)  # type: ignore[operator, no-any-return]
            finally:
                rig.disk.fault = kept

        rig.keeper._door = rig.keeper._door._replace(forget=forget)
        broken.fault = fault
        rig.keep()
        broken.fault = lambda kind, op: None
        done = broken.ops < first
        rig.keep()
        assert rig.told() == expected
        assert rig.state.ended == 2
        rig.close()
        broken.exit_process()
        check(broken, index, expected)
        if done:
            return
    pytest.fail("archiving did not end")


def test_a_full_disk_keeps_runs_in_memory(tmp_path: Path) -> None:
    disk, expected = begun(tmp_path)
    rig = ArchiveRig(disk, tmp_path / "i")
    disk.capacity = disk._used() + 2048
    rig.keep(3)
    assert "No space left" in rig.keeper.row()["problem"]
    assert rig.state.ended == RUNS
    assert rig.told() == expected
    disk.capacity = 1 << 40
    rig.room = False
    rig.keep(3)
    assert rig.state.ended == RUNS
    rig.room = True
    rig.keep()
    assert (rig.state.ended, rig.keeper.row()["problem"]) == (2, None)
    assert rig.told() == expected
    rig.close()

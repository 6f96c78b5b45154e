"""A damaged queue whose ended runs had left: they are in the archive, and are not made suspect."""

from __future__ import annotations

from pathlib import Path

from jobd.core.states import RunState
from tests.support.archiverig import ArchiveRig, Q
from tests.support.hurt_queue import mended
from tests.support.sim_disk import SimDisk

RUNS = 12


def left(path: Path) -> SimDisk:
    """A disk with a queue of which all but the last two runs have left."""
    disk = SimDisk()
    disk.mkdir(Q)
    rig = ArchiveRig(disk, path / "i", 2)
    rig.register()
    for run in range(1, RUNS + 1):
        rig.live(run)
    rig.keep()
    rig.journal.idle()
    rig.close()
    rig.journal.close()
    disk.exit_process()
    return disk.snapshot()


def test_whole_it_is_as_it_was(tmp_path: Path) -> None:
    disk = left(tmp_path)
    rig = ArchiveRig(disk, tmp_path / "i", 2)
    rig.keep()
    assert [run.id for run in rig.state.runs.oldest_first()] == [11, 12]
    assert sorted(rig.told()) == list(range(1, RUNS + 1))
    rig.close()


def test_damage_in_what_is_left_of_them_harms_none(tmp_path: Path) -> None:
    disk = left(tmp_path)
    names = [name for name in disk.listdir(Q) if name.startswith("seg-")]
    hurt = 0
    for name in names:
        data = disk.data(f"{Q}/{name}")
        for at in range(4096 + 40, len(data.rstrip(b"\0")), 500):
            one = disk.snapshot()
            broken = bytearray(data)
            broken[at] ^= 1
            one.put(f"{Q}/{name}", bytes(broken))
            found = mended(one)
            if not found.report.get("damage"):
                continue
            hurt += 1
            # the one record that is hurt may be that which says that they have left
            for run in found.state.runs.oldest_first():
                assert run.id > RUNS - 2 or run.state is RunState.DONE or run.id in found.suspect
            index = tmp_path / f"{name}-{at}"
            rig = ArchiveRig(one, index, 2)
            rig.keep()
            told = rig.told()
            assert set(told) >= set(range(1, RUNS - 1)), f"{name} {at}"
            assert len(found.suspect) <= 2, f"{name} {at}: {found.suspect}"
            rig.close()
    assert hurt > 3

"""The archive read back, its index made anew, damage in both, and what goes when it is too old."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobd.core.archiving import Wanted
from jobd.daemon.archivefsck import look
from jobd.errors import NotFoundError, QueueDamagedError, RefusedError, UsageError
from jobd.history import keeper, reader
from jobd.history.index import Index
from jobd.history.retention import Keep
from jobd.journal.archive import named
from tests.support.archiverig import AT, ArchiveRig, Q
from tests.support.sim_disk import SimDisk

DAY = 86_400_000


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BATCH", 4)


def rigged(path: Path, runs: int = 20, window: int = 0) -> ArchiveRig:
    """A queue of two jobs whose runs have left."""
    disk = SimDisk()
    disk.mkdir(Q)
    rig = ArchiveRig(disk, path / "i", window)
    rig.register(1)
    rig.register(2)
    for run in range(1, runs + 1):
        rig.live(run, 1 + run % 2)
    rig.keep()
    return rig


def again(rig: ArchiveRig) -> ArchiveRig:
    """The next process on what the last one left."""
    rig.close()
    rig.disk.exit_process()
    made = ArchiveRig(rig.disk, rig.path, 0)
    made.keep()
    return made


def ids(rig: ArchiveRig, below: int = 1 << 62, most: int = 100, **wanted: Any) -> list[int]:
    return [run.id for run in rig.history.page(Wanted(**wanted), below, most).runs]


def content(rig: ArchiveRig) -> list[Any]:
    """All that the index says, but where its rows lie."""
    history = rig.history
    sums = [(job, hour, r.fields()) for job, hour, r in history.rollups(None, 0, 1 << 40)]
    return [ids(rig), history.newest, history.keyed, history.highest, sums]


def test_pages(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    everything = list(range(20, 0, -1))
    assert ids(rig) == everything
    assert ids(rig, most=3) == [20, 19, 18]
    assert ids(rig, below=18, most=3) == [17, 16, 15]
    assert ids(rig, jobs=(1,)) == list(range(20, 0, -2))
    assert ids(rig, jobs=()) == []
    assert ids(rig, outcomes=("failed",)) == [16, 2]
    assert ids(rig, outcomes=("failed", "cancelled")) == [18, 16, 15, 12, 9, 6, 3, 2]
    assert ids(rig, since=AT + 18_000) == [20, 19, 18]
    assert ids(rig, until=AT + 3_000) == [2, 1]
    assert ids(rig, labels=(("n", "1"),), jobs=(2,)) == [19, 13, 7, 1]
    run = rig.history.page(Wanted(), 8, 1).runs[0]
    assert (run.id, run.job, run.archived) == (7, rig.state.jobs["job-2"], True)
    rig.close()


def test_single_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = rigged(tmp_path)
    history = rig.history
    assert sorted(history.runs([3, 4, 99])) == [3, 4]
    found = history.by_key(2, "k5")
    assert found is not None
    assert found.id == 5
    assert history.by_key(1, "k5") is None
    assert history.by_key(2, "k6") is None
    assert (history.newest, history.highest, history.keyed) == ({1: 20, 2: 19}, 20, {2})
    last = history.last([2], lambda run: run.id < 10)
    assert last is not None
    assert last.id == 9
    assert history.last(None, lambda run: False) is None
    monkeypatch.setattr(reader, "MOST", 5)
    with pytest.raises(UsageError, match="at most 5"):
        history.runs(range(1, 10))
    rig.close()


@pytest.mark.parametrize("how", ["gone", "another queue's", "no database", "cut", "ahead"])
def test_the_index_is_made_anew(tmp_path: Path, how: str) -> None:
    rig = rigged(tmp_path)
    before = content(rig)
    rig.close()
    path = rig.path
    if how == "gone":
        Index.remove(str(path))
    elif how == "another queue's":
        Index.remove(str(path))
        Index(str(path), bytes(16)).close()
    elif how == "no database":
        path.write_bytes(b"not a database" * 1000)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    else:
        names = [name for name in rig.disk.listdir(f"{Q}/archive") if name.startswith("runs")]
        one = f"{Q}/archive/{names[0]}"
        whole = rig.disk.data(one)
        rig.disk.put(one, whole[:6000])
    rig = again(rig)
    if how == "ahead":
        assert not rig.history.runs([20])
    else:
        assert content(rig) == before
    whole = content(rig)
    rig = again(rig)
    assert content(rig) == whole
    rig.close()


def test_while_it_is_made_nothing_is_guessed(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    rig.close()
    Index.remove(str(rig.path))
    rig.disk.exit_process()
    fresh = ArchiveRig(rig.disk, rig.path)
    assert fresh.history.any
    with pytest.raises(RefusedError, match="its index is being read; ask again soon"):
        fresh.history.runs([1])
    fresh.keeper.close()  # the daemon stops in the middle: another goes on from there
    fresh.keeper.work()
    assert not fresh.history.ready
    fresh.keeper.end()
    fresh.disk.exit_process()
    rig = ArchiveRig(rig.disk, rig.path, 0)
    rig.keep()
    assert len(rig.history.runs(range(21))) == 20
    rig.close()


def test_one_that_breaks_while_it_is_used_is_made_anew(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    index = rig.history.index
    assert index is not None
    index._connect().execute("DROP TABLE runs")
    with pytest.raises(RefusedError, match="is made anew; ask again soon"):
        rig.history.runs([1])
    rig.keeper.work()
    rig.keeper.work()
    assert len(rig.history.runs(range(21))) == 20
    assert rig.path.with_name("i.damaged").exists()
    rig.close()


@pytest.mark.parametrize("indexed", [True, False])
def test_a_flipped_bit_costs_one_run_and_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, indexed: bool
) -> None:
    """Wherever it is: all others are read, nothing wrong is, and fsck tells which one it was."""
    rig = rigged(tmp_path)
    expected, store = rig.told(), rig.journal.store
    rig.close()
    folder, index = f"{Q}/archive", str(rig.path)
    name = next(name for name in rig.disk.listdir(folder) if name.startswith("runs"))
    size, lost = len(rig.disk.data(f"{folder}/{name}")), set[int]()
    for at in [*range(0, 120, 24), *range(4096, size, 97)]:
        disk = rig.disk.snapshot()
        data = bytearray(disk.data(f"{folder}/{name}"))
        data[at] ^= 1
        disk.put(f"{folder}/{name}", bytes(data))
        said = look(disk, folder, index if indexed else "", store, lambda: ())
        caplog.clear()
        other = tmp_path / f"{at}"
        hurt = ArchiveRig(disk, other, 0)
        hurt.keep()
        found = hurt.told()
        assert all(expected[number] == whole for number, whole in found.items()), at
        missing = expected.keys() - found.keys()
        if at < 4096:
            assert f"archive file {folder}/{name}" in caplog.text or found == expected
            assert bool(said["unreadable"]) is bool(missing)
        else:
            named_ = {row["run"] for row in said["damaged"] if "run" in row}
            lost |= missing
            assert len(missing) <= 1, at
            assert named_ == missing, at
            # of the last batch alone it takes the index to know that it was whole once
            assert said["sound"] is False or not (indexed or missing), at
            problem = hurt.history.runs(sorted(missing)).get(*missing) if missing else None
            assert problem is None or isinstance(problem, QueueDamagedError)
        hurt.close()
    assert len(lost) > 10


def test_a_damaged_record_is_not_served(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    index = rig.history.index
    assert index is not None
    ((_, place),) = index.places([4])
    name = next(n for n in rig.disk.listdir(f"{Q}/archive") if named(n) == ("runs", place >> 40))
    data = bytearray(rig.disk.data(f"{Q}/archive/{name}"))
    data[(place & ((1 << 40) - 1)) + 40] ^= 1
    rig.disk.file(f"{Q}/archive/{name}").cache[:] = data
    problem = rig.history.runs([4, 5])[4]
    assert isinstance(problem, QueueDamagedError)
    assert "run 4: is damaged in the archive" in str(problem)
    page = rig.history.page(Wanted(), 8, 5)
    assert ([run.id for run in page.runs], page.below, page.damaged) == ([7, 6, 5, 3], 3, [4])
    assert rig.history.last(None, lambda run: run.id < 5) is not None
    assert sorted(rig.history.runs([5, 7])) == [5, 7]
    rig.close()


def test_a_job_that_is_known_no_more_is_told_by_the_archive(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    del rig.state.jobs_by_id[1]
    run = rig.history.runs([4])[4]
    assert (run.job.name, run.spec.image, run.job.removed) == ("job-1", "img", True)
    rig.close()


# -- what goes -----------------------------------------------------------------------------


def aged(path: Path) -> ArchiveRig:
    """Three segments, of runs that ended on three days, and one with the dead."""
    disk = SimDisk()
    disk.mkdir(Q)
    rig = ArchiveRig(disk, path / "i", 0)
    rig.register()
    run = 1
    for _ in range(3):
        for _ in range(5):
            rig.live(run)
            run += 1
        rig.keep()
        rig.now += DAY
    return rig


def retire(rig: ArchiveRig, keep: Keep) -> list[int]:
    """What is left after everything that is due has gone."""
    rig.keeper.keep = keep
    for _ in range(4):
        for series in ("runs", "dead"):
            rig.archive.roll(series)
        rig.keeper._retire()
    return sorted(ids(rig))


def segments(rig: ArchiveRig) -> list[str]:
    return [name.split("-")[0] for name in rig.disk.listdir(f"{Q}/archive")]


def test_the_oldest_go_by_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = aged(tmp_path)
    assert segments(rig) == ["dead", "runs", "runs", "runs"]
    assert retire(rig, Keep(1 << 50, 15)) == list(range(1, 16))
    assert retire(rig, Keep(1 << 50, 11)) == [2, *range(6, 16)]
    assert "4 runs were removed" in caplog.text
    assert sorted(rig.files.logs) == [("job-1", 1, 1), ("job-1", 4, 1), ("job-1", 5, 1)]
    assert rig.files.bodies == [f"{5:032x}"]
    assert retire(rig, Keep(1 << 50, 0)) == []
    assert rig.disk.listdir(f"{Q}/archive") == []
    outcomes = rig.history.rollups([1], 0, 1 << 40)[0][2].outcomes
    assert sum(outcomes.values()) == 15, "roll-ups outlive the runs"
    rig = again(rig)
    assert ids(rig) == []
    assert not rig.history.any


def test_they_go_by_age_and_the_dead_later_if_so_said(tmp_path: Path) -> None:
    rig = aged(tmp_path)
    rig.now = AT + 8_000 + DAY
    assert retire(rig, Keep(DAY, 1 << 50, dead=2 * DAY)) == [2, *range(6, 16)]
    assert retire(rig, Keep(DAY, 0, dead=2 * DAY)) == [2]
    rig.now += DAY
    assert retire(rig, Keep(DAY, 0, dead=2 * DAY)) == []
    rig.close()


def test_what_a_run_in_memory_needs_stays(tmp_path: Path) -> None:
    from jobd.core import events as e

    rig = aged(tmp_path)
    rig.write(e.RunQueued(16, 1, 1, AT, "cli", [0, "", 0, ""], b"", 0, {"after": [[3, "any"]]}))
    rig.live_bodies = {f"{10:032x}"}
    assert retire(rig, Keep(1 << 50, 0)) == [1, 3, 4, 5]
    assert sorted(rig.files.bodies) == [f"{15:032x}"]
    rig.write(e.RunFinished(16, AT, "cancelled", "", ""))
    assert retire(rig, Keep(1 << 50, 0)) == []
    rig.close()


def test_one_that_is_written_to_goes_too(tmp_path: Path) -> None:
    rig = rigged(tmp_path)
    rig.keeper.keep = Keep(1 << 50, 0)
    rig.keeper._retire()
    assert ids(rig) == []
    rig.live(21)
    rig.keep()
    assert ids(rig) == [21]
    rig = again(rig)
    assert ids(rig) == [21]
    rig.close()


def test_nothing_goes_while_the_clock_is_being_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = aged(tmp_path)
    rig.keeper._retire()
    rig.now += 400 * DAY
    assert retire_once(rig, Keep(DAY, 1 << 50)) == list(range(1, 16))
    assert "the clock was set" in caplog.text
    assert retire_once(rig, Keep(DAY, 1 << 50)) == []
    rig.close()


def retire_once(rig: ArchiveRig, keep: Keep) -> list[int]:
    rig.keeper.keep = keep
    for series in ("runs", "dead"):
        rig.archive.roll(series)
    rig.keeper._retire()
    return sorted(ids(rig))


def test_what_is_going_is_not_shown(tmp_path: Path) -> None:
    rig = aged(tmp_path)
    index = rig.history.index
    assert index is not None
    ((_, place),) = index.places([1])
    rig.history.hidden.add(place >> 40)
    assert 1 not in ids(rig)
    rig.archive.roll("runs")
    rig.archive.remove([place >> 40], lambda: None)
    rig.history.hidden.clear()
    assert 1 not in ids(rig)
    with pytest.raises(NotFoundError, match="is gone"):
        rig.archive.read(place)
    rig.close()

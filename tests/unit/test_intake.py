"""The intake's small parts: names of drops, when one is complete, what has changed since."""

from __future__ import annotations

import os
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core.commands import Body
from jobd.core.watching import WatchSpec
from jobd.intake import dropbox, inotify, names, paths
from jobd.intake.box import CLOSED_QUIET, FOUND_QUIET, UNSURE_QUIET, Box
from jobd.intake.inotify import Inotify
from jobd.intake.loading import Load
from jobd.intake.marks import happened, made_ns, number_of
from jobd.intake.spool import Look, Spool
from jobd.intake.watched import MOST_SEEN, Group, Watched
from jobd.intake.writers import is_remote, is_written

FILE_NAMES = st.binary(min_size=1, max_size=255).filter(lambda n: not set(n) & set(b"/\0"))


@given(FILE_NAMES)
def test_any_name_is_claimed_and_found_again(name: bytes) -> None:
    one = names.claim(name)
    assert names.claimed(one.file) == one
    assert len(one.file.encode()) <= 255
    assert name.startswith(one.given)
    if len(name) <= 66:
        assert one.given == name
    assert len(names.ended(one.given, 1 << 40, ".result")) <= 255


def test_what_is_no_claimed_file() -> None:
    for text in ("", "x", "0" * 32, "0" * 31 + ".x", "G" * 32 + ".x", "0" * 32 + "_x"):
        assert names.claimed(text) is None


@pytest.mark.parametrize("name", [b".x", b"x.tmp", b"x.meta.toml", b".tmp"])
def test_what_is_left_alone(name: bytes) -> None:
    assert names.is_left_alone(name)
    assert not names.is_left_alone(name.strip(b".") + b"x")


def look(changed_s: float = 0.0, written: bool | None = False, wrong: str = "") -> Look:
    return Look(5, round(changed_s * 1e9), written, wrong)


def test_when_a_file_is_complete() -> None:
    box = Box("j")
    box.expect(b"moved", inotify.MOVED_TO, 100.0)
    box.expect(b"closed", inotify.CLOSE_WRITE, 100.0)
    assert box.ready(100.0, 9) == [b"moved"]
    assert box.is_complete(b"moved", look(time.time()), 100.0)
    assert box.next_at() == 100.0 + CLOSED_QUIET
    # written to again: it is the last close that counts
    box.expect(b"closed", inotify.CLOSE_WRITE, 100.1)
    assert box.ready(100.0 + CLOSED_QUIET, 9) == []
    assert box.ready(101.0, 9) == [b"closed"]
    assert not box.is_complete(b"closed", look(written=True), 101.0)
    assert box.next_at() is None


@pytest.mark.parametrize(("written", "quiet"), [(False, FOUND_QUIET), (None, UNSURE_QUIET)])
def test_when_one_that_was_found_is(written: bool | None, quiet: float) -> None:
    box, now = Box("j"), time.time()
    for name, old in ((b"old", quiet + 9), (b"new", 0.0)):
        box.found(name, 50.0)
        assert box.ready(50.0, 9) == [name]
        assert box.is_complete(name, look(now - old, written), 50.0) is (name == b"old")
    assert box.next_at() == 50.0 + quiet
    assert not box.is_complete(b"new", look(now + 3, written), 50.0 + quiet)
    assert box.is_complete(b"new", look(now + 3, written), 50.0 + 2 * quiet)


def test_whether_a_file_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as writer:
        fd = os.open(path, os.O_RDONLY)
        assert is_written(fd) is True
        writer.close()
        assert is_written(fd) is False
        os.close(fd)
    assert not is_remote(str(tmp_path))


def test_what_the_kernel_tells(tmp_path: Path) -> None:
    one = Inotify()
    number = one.add(os.fsencode(tmp_path), inotify.CLOSE_WRITE | inotify.MOVED_TO)
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert [(e.watch, e.name) for e in one.read()] == [(number, b"a"), (number, b"b")]
    assert one.read() == []
    one.remove(number)
    one.remove(number)
    with pytest.raises(NotADirectoryError):
        one.add(os.fsencode(tmp_path / "b"), inotify.CREATE)
    one.close()


def test_what_has_happened_to_a_file_since(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "file")
    Path(os.fsdecode(path)).write_text("x")
    every = ("closed", "created", "deleted", "moved")
    found = os.stat(path)
    before, after = (made_ns(path) or found.st_ctime_ns) - 1, found.st_ctime_ns + 1
    assert happened(path, found, before, every) == "closed"
    assert happened(path, found, after, every) is None
    assert happened(path, found, before, ("created",)) == "created"
    if made_ns(path) is None:
        pytest.skip("this file system does not know when a file was made")
    time.sleep(0.02)
    os.rename(path, path + b"2")
    path += b"2"
    moved = os.stat(path)
    assert happened(path, moved, after, every) == "moved"
    assert happened(path, moved, after, ("closed", "created")) is None
    time.sleep(0.02)
    Path(os.fsdecode(path)).write_text("y")
    changed = os.stat(path)
    assert happened(path, changed, moved.st_ctime_ns + 1, ("created", "moved")) is None
    assert happened(path, changed, moved.st_ctime_ns + 1, ("closed",)) == "closed"
    assert made_ns(b"/nonexistent") is None


def test_the_mark_passes_nothing_that_is_left(tmp_path: Path) -> None:
    spec = WatchSpec("w", str(tmp_path), debounce=1000)
    watch = Watched((1, "w"), "j", spec, 7, {})
    paths = [os.fsencode(tmp_path / f"f{n}") for n in range(4)]
    for path in paths:
        Path(os.fsdecode(path)).write_text("x")
        time.sleep(0.02)
    times = [os.stat(path).st_ctime_ns for path in paths]
    watch.is_written(paths[1])
    watch.note(paths[0], "closed", 10.0)
    watch.note(paths[2], "closed", 10.0)
    watch.note(paths[3], "closed", 10.9)
    watch.note(paths[3], "moved", 10.9)  # not asked for
    assert watch.next_group(10.5) is None
    group = watch.next_group(11.0)
    assert group is not None
    assert len(group.payloads) == 2
    assert (group.mark, group.seen) == (times[1], [number_of(paths[2], times[2])])
    assert watch.mark == 7
    assert watch.next_group(20.0) is None, "one at a time"
    watch.went()
    assert watch.mark == times[1]
    assert watch.is_told(paths[2], times[2])
    assert not watch.is_told(paths[1], times[1])
    watch.unclosed.clear()
    group = watch.next_group(20.0)
    assert group is not None
    assert group.mark == times[3]
    assert group.seen == [number_of(paths[3], times[3])]
    assert len(group.seen) <= MOST_SEEN


def test_without_inotify_folders_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Inotify:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify, "Inotify", none)
    monkeypatch.setattr(dropbox, "LOOK_REMOTE", 0.05)
    monkeypatch.setattr(paths, "LOOK_REMOTE", 0.05)
    spool, loads = Spool(tmp_path / "spool"), SimpleQueue[list[Load]]()
    groups = SimpleQueue[Group]()
    made: list[Any] = [
        dropbox.Dropbox(spool, loads.put, no_body, print, lambda: 99, {}, print),
        paths.Paths(groups.put, print),
    ]
    try:
        made[0].jobs(["j"], [])
        made[0].start()
        spec = WatchSpec("w", str(tmp_path), debounce=0)
        made[1].watch([((1, "w"), "j", spec, time.time_ns() - 10**9, [])])
        (tmp_path / "changed").write_text("x")
        assert b'"closed"' in groups.get(timeout=30).payloads[0]
        spool.make("j")
        (tmp_path / "changed").rename(tmp_path / "spool" / "j" / "dropped")
        assert [load.payload for load in loads.get(timeout=30)] == [b"x"]
    finally:
        for one in made:
            one.close()


def no_body(data: bytes) -> Body:
    raise AssertionError("it is small")

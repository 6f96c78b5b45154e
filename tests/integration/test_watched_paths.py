"""`[[on]] path` on the real file system: each change is one run, also over a restart."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until

NUMBERS = count(1)


class Place:
    """A folder that a paused job watches."""

    def __init__(self, client: Client, path: Path, **on: Any) -> None:
        self.client, self.path = client, path
        self.name = f"job-{next(NUMBERS)}"
        on.setdefault("debounce", "50ms")
        self.path.mkdir(exist_ok=True)
        self.spec = {"name": self.name, "image": "img", "command": ["exit=0"], **SMALL}
        self.register(**on)
        client.pause(self.name)

    def register(self, **on: Any) -> None:
        self.client.register({**self.spec, "on": [{"path": str(self.path), **on}]})

    def told(self) -> list[Any]:
        """The payloads of its runs, the oldest first, paths below the folder."""
        runs = sorted(self.client.runs(job=self.name, limit=1000), key=lambda run: run["id"])
        assert {run["trigger"]["kind"] for run in runs} <= {"path"}
        text = [self.client.payload(run["id"]).decode() for run in runs]
        return [json.loads(one.replace(f"{self.path}/", "")) for one in text]

    def pairs(self) -> list[tuple[str, str]]:
        return [(one["event"], one["path"]) for one in self.told()]

    def until(self, *wanted: tuple[str, str]) -> None:
        """Wait until these are told, and nothing else is."""
        until(lambda: len(self.told()) >= len(wanted))
        assert sorted(self.pairs()) == sorted(wanted)


@pytest.fixture
def place(client: Client, tmp_path: Path) -> Place:
    return Place(client, tmp_path / "in", event="closed|created|deleted|moved", pattern="*.csv")


def test_what_happens_is_told(place: Place) -> None:
    (place.path / "a.csv").write_text("1")
    (place.path / "other.txt").write_text("1")
    place.until(("closed", "a.csv"))
    (place.path / "a.csv").rename(place.path / "b.csv")
    until(lambda: len(place.told()) == 2)
    assert place.told()[1] == {"event": "moved", "path": "b.csv", "from": "a.csv"}
    (place.path / "b.csv").unlink()
    until(lambda: len(place.told()) == 3)
    assert place.pairs()[2] == ("deleted", "b.csv")
    outside = place.path.parent / "outside.csv"
    outside.write_text("2")
    outside.rename(place.path / "c.csv")
    until(lambda: len(place.told()) == 4)
    (place.path / "c.csv").rename(outside)
    until(lambda: len(place.told()) == 5)
    assert place.pairs()[3:] == [("moved", "c.csv"), ("deleted", "c.csv")]


def test_what_was_there_before_is_not_told(client: Client, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    time.sleep(0.02)  # the files' clock goes by hundredths
    place = Place(client, tmp_path)
    (tmp_path / "new").write_text("1")
    place.until(("closed", "new"))


def test_a_restart_misses_nothing_and_tells_nothing_twice(
    host: FakeHost, place: Place, tmp_path: Path
) -> None:
    for number in range(5):
        (place.path / f"before-{number}.csv").write_text("1")
    wanted = [("closed", f"before-{number}.csv") for number in range(5)]
    place.until(*wanted)
    for how in (signal.SIGKILL, signal.SIGTERM):
        host.end(how)
        word = f"{how:d}"
        (place.path / f"made-{word}.csv").write_text("1")
        (place.path / "before-1.csv").write_text("again")
        (tmp_path / "x").write_text("1")
        os.utime(tmp_path / "x", (1, 1))
        (tmp_path / "x").rename(place.path / f"moved-{word}.csv")
        host.start()
        wanted += [("closed", f"made-{word}.csv"), ("closed", "before-1.csv")]
        # made meanwhile, wherever that was
        wanted += [("closed", f"moved-{word}.csv")]
        place.until(*wanted)
    host.restart()
    (place.path / "last.csv").write_text("1")
    place.until(*wanted, ("closed", "last.csv"))


def test_a_file_that_is_open_over_a_restart_is_told_when_it_is_closed(
    host: FakeHost, client: Client, tmp_path: Path
) -> None:
    place = Place(client, tmp_path / "in")
    with open(place.path / "slow", "w") as slow, open(place.path / "slower", "w") as slower:
        slow.write("x")
        slow.flush()
        # the mark moves on, and must not pass those that are open
        (place.path / "quick").write_text("1")
        place.until(("closed", "quick"))
        host.end(signal.SIGKILL)
        slow.close()
        host.start()
        place.until(("closed", "quick"), ("closed", "slow"))
        slower.write("y")
    place.until(("closed", "quick"), ("closed", "slow"), ("closed", "slower"))


def test_folders_below_are_watched_where_that_is_wanted(client: Client, tmp_path: Path) -> None:
    deep = Place(client, tmp_path / "in", recursive=True, event="closed|moved")
    flat = Place(client, tmp_path / "in")
    (deep.path / "a" / "b").mkdir(parents=True)
    (deep.path / "a" / "b" / "at-once").write_text("1")
    (deep.path / "top").write_text("1")
    deep.until(("closed", "a/b/at-once"), ("closed", "top"))
    flat.until(("closed", "top"))
    (deep.path / "a" / "b").rename(deep.path / "c")
    until(lambda: ("moved", "c/at-once") in deep.pairs())
    (deep.path / "c" / "after").write_text("1")
    until(lambda: ("closed", "c/after") in deep.pairs())
    assert len(deep.told()) == 4
    assert len(flat.told()) == 1


def test_many_changes_of_one_moment_are_one_run(client: Client, tmp_path: Path) -> None:
    place = Place(client, tmp_path / "in", batch=True, debounce="300ms")
    for number in range(30):
        (place.path / f"f{number}").write_text("1")
    until(place.told)
    (rows,) = place.told()
    assert {row["path"] for row in rows} == {f"f{number}" for number in range(30)}


def test_a_file_that_is_written_again_and_again_is_told_once_it_is_quiet(
    client: Client, tmp_path: Path
) -> None:
    place = Place(client, tmp_path / "in", debounce="1s")
    for _ in range(20):
        (place.path / "log").write_text("1")
        time.sleep(0.01)
    place.until(("closed", "log"))
    # and what is gone before that, never
    (place.path / "short").write_text("1")
    (place.path / "short").unlink()
    (place.path / "end").write_text("1")
    place.until(("closed", "log"), ("closed", "end"))


def test_a_folder_that_comes_later_or_goes_is_waited_for(client: Client, tmp_path: Path) -> None:
    place = Place(client, tmp_path / "in")
    place.path.rmdir()
    time.sleep(0.1)
    place.path.mkdir()
    (place.path / "a").write_text("1")
    place.until(("closed", "a"))


def test_links_are_not_followed_and_names_may_be_any_bytes(client: Client, tmp_path: Path) -> None:
    place = Place(client, tmp_path / "in", recursive=True)
    (tmp_path / "far").mkdir()
    (place.path / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "secret").write_text("1")
    (place.path / "to-file").symlink_to(tmp_path / "far" / "secret")
    os.mkfifo(place.path / "fifo")
    with open(os.path.join(os.fsencode(place.path), b"n\xff"), "wb") as file:
        file.write(b"1")
    until(place.told)
    assert [os.fsencode(path) for _, path in place.pairs()] == [b"n\xff"]


def test_a_full_queue_is_waited_for(host: FakeHost, client: Client, tmp_path: Path) -> None:
    place = Place(client, tmp_path / "in")
    client.set(place.name, {"limits.queue": 1})
    (place.path / "a").write_text("1")
    place.until(("closed", "a"))
    (place.path / "b").write_text("1")
    # what it could not queue is not passed by the mark
    host.restart()
    client.cancel(next(run["id"] for run in client.runs(job=place.name)))
    place.until(("closed", "a"), ("closed", "b"))


def test_changes_beyond_the_kernels_queue_are_found(
    host: FakeHost, client: Client, tmp_path: Path
) -> None:
    place = Place(client, tmp_path / "in", batch=True, debounce="1s")
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    number = most // 2 + 100  # each is made, and closed
    if number > 20_000:
        pytest.skip("a queue that is too long to be filled here")
    os.kill(host.pid, signal.SIGSTOP)
    for each in range(number):
        os.close(os.open(place.path / f"{each}", os.O_WRONLY | os.O_CREAT))
    os.kill(host.pid, signal.SIGCONT)
    until(lambda: sum(map(len, place.told())) >= number)
    rows = [row["path"] for one in place.told() for row in one]
    assert len(rows) == len(set(rows)) == number

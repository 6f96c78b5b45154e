"""Snapshots as their user meets them: a real daemon, killed at will, started from them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.errors import RefusedError
from tests.support.fakehost import SMALL, FakeHost, Said, queue
from tests.support.waiting import until

MIB = 1 << 20


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text('journal.snapshot_after = "2M"\n')
    one = FakeHost(home).start()
    with one.client() as client:
        client.register({"name": "job", "image": "img", "command": ["payload"], **SMALL})
        client.pause("job")
    yield one
    one.end(signal.SIGKILL)


def files(host: FakeHost, start: str, end: str) -> list[Path]:
    state = host.home / "state"
    return sorted(path for path in state.glob(f"{start}*{end}") if path.is_file())


def row(host: FakeHost) -> dict[str, object]:
    found: dict[str, object] = host.json("status")["journal"]["snapshot"]
    return found


def makers(host: FakeHost) -> list[int]:
    """The processes that make a snapshot for that host."""
    assert host._process is not None
    children = Path(f"/proc/{host._process.pid}/task")
    found = []
    for task in children.iterdir():
        for pid in (task / "children").read_text().split():
            if b"snapshotter" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def test_all_is_there_after_a_start_from_one(host: FakeHost) -> None:
    with host.client() as client:
        client.register({"name": "two", "image": "img", "command": ["result=abc"], **SMALL})
        done = queue(client, "two")[0]
        client.wait(done)
        large = os.urandom(70_000)
        runs = [queue(client, "job", payload=data)[0] for data in (b"one", b"", large)]
        first = client.snapshot()
        assert first["records"] >= 6
        runs += [queue(client, "job", payload=b"behind")[0]]
        shown = {run: host.json("show", str(run)) for run in [done, *runs]}
        client.snapshot()
        client.queue("job", payload=b"and on", key="again")
        assert host.ctl("snapshot").out.startswith("snapshot of 2")
        last = host.json("snapshot")
        assert last["lsn"] > first["lsn"]
        assert last["problem"] is None
    assert len(files(host, "snap-", ".snap")) == 2
    # what a segment had reserved when it was left is given back
    until(
        lambda: all(
            path.stat().st_blocks * 512 < 2 * MIB for path in files(host, "seg-", ".log")[:-1]
        )
    )
    assert all(int(path.name[4:24]) > first["lsn"] for path in files(host, "seg-", ".log"))
    host.restart()
    with host.client() as client:
        assert {run: host.json("show", str(run)) for run in shown} == shown
        payloads = [client.payload(run) for run in runs]
        assert payloads == [b"one", b"", large, b"behind"]
        assert client.result(done) == b"abc"
        assert queue(client, "job", payload=b"and on", key="again")[0] == runs[-1] + 1
        client.resume("job")
        client.wait(*runs)
        assert [client.payload(run) for run in runs] == payloads


def test_they_are_made_as_more_is_written_and_the_disk_stays_small(host: FakeHost) -> None:
    with host.client() as client:
        while row(host)["finished"] < 3:  # type: ignore[operator]
            client.queue("job", payload=os.urandom(4000), count=50)
            client.cancel(job="job")
    last = until(lambda: (found := row(host))["finished"] and not found["making"] and found)
    assert last["problem"] is None
    assert last["bytes"] > MIB
    older, newest = (int(path.name[5:25]) for path in files(host, "snap-", ".snap"))
    assert newest == last["lsn"]
    # all segments that the older one tells of have gone
    assert int(files(host, "seg-", ".log")[0].name[4:24]) > older > 0
    assert "snapshot 2" in host.ctl("status").out


def test_what_is_damaged_is_told_and_the_older_one_is_used(host: FakeHost) -> None:
    with host.client() as client:
        runs = [queue(client, "job", payload=b"%d" % number)[0] for number in range(3)]
        client.snapshot()
        runs.append(queue(client, "job", payload=b"3")[0])
        client.snapshot()
    host.end(signal.SIGKILL)
    newest = files(host, "snap-", ".snap")[-1]
    data = bytearray(newest.read_bytes())
    data[-200] ^= 1
    newest.write_bytes(data)
    told = fsck(host)
    assert told.status == 65
    assert f"{newest.name}: damaged at offset" in told.out
    assert "nothing is lost" in told.out
    host.start()
    assert not newest.exists()
    assert (host.home / "state/quarantine" / newest.name).exists()
    with host.client() as client:
        assert [client.payload(run) for run in runs] == [b"0", b"1", b"2", b"3"]
        assert newest.name in host.ctl("status").out
        client.snapshot()
    host.restart()
    with host.client() as client:
        assert [client.payload(run) for run in runs] == [b"0", b"1", b"2", b"3"]


def fsck(host: FakeHost) -> Said:
    words = [sys.executable, "-m", "jobd", "fsck", "--home", str(host.home)]
    done = subprocess.run(words, capture_output=True, timeout=60)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("who", ["maker", "daemon", "stop"])
def test_one_that_is_cut_short_harms_nothing(host: FakeHost, who: str) -> None:
    """Its maker is killed; or the daemon, at any moment of it; or the daemon is told to stop."""
    with host.client() as client:
        runs = []
        for _ in range(12):
            answer = client.queue("job", payload=os.urandom(4000), count=1000)
            runs += [run["id"] for run in answer["runs"]]
        pids = until(lambda: makers(host))
        if who == "maker":
            until(lambda: os.sched_getscheduler(pids[0]) == os.SCHED_IDLE)
            os.kill(pids[0], signal.SIGKILL)
            problem = until(lambda: row(host)["problem"])
            assert "ended with status -9" in str(problem)
            assert "SNAPSHOT FAILED" in host.ctl("status").out
            assert not files(host, "snap-", ".tmp")
        elif who == "stop":
            host.restart(signal.SIGTERM)
        else:
            host.restart(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    with host.client() as client:
        client.snapshot()
        assert row(host)["problem"] is None
        assert not files(host, "snap-", ".tmp")
    host.restart()
    with host.client() as client:
        assert len(client.payload(runs[0])) == len(client.payload(runs[-1])) == 4000
        assert host.json("status")["counts"]["queued"] == 12_000


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_no_space_is_told_and_when_there_is_some_it_goes_on(tmp_path: Path) -> None:
    """A real full file system (row 17): no snapshot, all else goes on, without a restart."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "state").mkdir(mode=0o700)
    mount(home / "state", "-t", "tmpfs", "-o", "size=190m,mode=0700", "none")
    host = FakeHost(home)
    try:
        host.start()
        with host.client() as client:
            client.register({"name": "job", "image": "img", "command": ["payload"], **SMALL})
            client.pause("job")
            run = queue(client, "job", payload=b"kept")[0]
            with pytest.raises(RefusedError, match=r"no space for it: \d+ bytes are missing"):
                client.snapshot()
            assert "no space" in host.ctl("status").out
            client.queue("job", payload=b"goes on")
            mount(home / "state", "-o", "remount,size=600m")
            assert client.snapshot()["problem"] is None
            assert "no space" not in host.ctl("status").out
        host.restart()
        with host.client() as client:
            assert client.payload(run) == b"kept"
    finally:
        host.end(signal.SIGKILL)
        subprocess.run(["umount", str(home / "state")], check=True, timeout=30)


def mount(place: Path, *words: str) -> None:
    subprocess.run(["mount", *words, str(place)], check=True, timeout=30)

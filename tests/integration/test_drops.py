"""Dropped files on the real file system: `cp` and `mv` are the whole client."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.client import Client
from tests.support.dropped import Folder, dropping_host
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until

ROOT = os.geteuid() == 0
NOBODY = 65534
needs_root = pytest.mark.skipif(not ROOT, reason="gives files to others")


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    with dropping_host() as one:
        yield one


def test_a_job_has_a_folder_once_it_is_registered(folder: Folder) -> None:
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o3730
    for name in (".claimed", "done", "failed", "rejected"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) & 0o777 == 0o700
    assert folder.path.parent.stat().st_mode & 0o777 == 0o711


def test_a_file_that_is_copied_or_moved_in_is_a_run(folder: Folder) -> None:
    one = folder.prepare(b"one\n")
    subprocess.run(["cp", one, folder.path / "copied"], check=True)
    subprocess.run(["mv", one, folder.path / "moved.csv"], check=True)
    subprocess.run(["sh", "-c", f"echo redirected >{folder.path}/by-shell"], check=True)
    runs = folder.ended(3)
    assert {run["trigger"]["kind"] for run in runs} == {"drop"}
    assert {run["trigger"]["name"] for run in runs} == {"copied", "moved.csv", "by-shell"}
    assert {run["submitted_by"]["uid"] for run in runs} == {os.geteuid()}
    assert sorted(folder.client.payload(run["id"]) for run in runs) == [
        b"one\n",
        b"one\n",
        b"redirected\n",
    ]
    by_name = {run["trigger"]["name"]: run["id"] for run in runs}
    wanted = {f"{name}.{number}.result".encode() for name, number in by_name.items()}
    assert folder.names("done") == wanted
    assert folder.names() == set()


def test_a_result_is_told_and_a_failure_too(host: FakeHost, client: Client) -> None:
    good = Folder(host, client, command=["result=fine"])
    bad = Folder(host, client, command=["print=alas", "exit=4"])
    good.drop("a")
    bad.drop("b")
    run = good.ended(1)[0]["id"]
    assert (good.path / "done" / f"a.{run}.result").read_bytes() == b"fine"
    run = bad.ended(1)[0]["id"]
    text = (bad.path / "failed" / f"b.{run}.error").read_text()
    assert f"run {run} of job {bad.name}: failed" in text
    assert "exit status 4" in text
    assert "alas" in text


def test_what_is_hidden_or_unfinished_is_left_alone(folder: Folder) -> None:
    for name in (".hidden", "part.tmp", "alone.meta.toml"):
        folder.drop(name)
    folder.drop("last")
    folder.ended(1)
    assert folder.names() == {b"part.tmp", b"alone.meta.toml"}
    assert (folder.path / ".hidden").exists()


def test_a_file_that_is_being_written_is_not_taken(folder: Folder) -> None:
    with open(folder.path / "slow", "wb") as file:
        file.write(b"begin ")
        file.flush()
        folder.drop("other")
        folder.ended(1)
        # also not by a daemon that did not see it opened
        folder.host.restart()
        folder.drop("another")
        folder.ended(2)
        assert folder.names() == {b"slow"}
        file.write(b"end")
    runs = folder.ended(3)
    assert folder.client.payload(runs[2]["id"]) == b"begin end"


def test_what_was_dropped_while_jobd_was_down_is_taken(folder: Folder) -> None:
    folder.host.end(signal.SIGKILL)
    folder.drop("meanwhile", b"m")
    with open(folder.path / "copied", "wb") as file:
        file.write(b"c")
    folder.host.start()
    runs = folder.ended(2)
    assert {folder.client.payload(run["id"]) for run in runs} == {b"m", b"c"}


def test_the_end_is_told_after_a_restart(host: FakeHost, client: Client) -> None:
    folder = Folder(host, client, command=["result=late"])
    client.pause(folder.name)
    folder.drop("file")
    run = until(folder.runs)[0]["id"]
    host.restart()
    assert not folder.names("done")
    client.resume(folder.name)
    folder.ended(1)
    assert (folder.path / "done" / f"file.{run}.result").read_bytes() == b"late"
    folder.settled(run)
    # told once: nobody tells again what somebody has taken away
    (folder.path / "done" / f"file.{run}.result").unlink()
    host.restart()
    folder.drop("next")
    until(lambda: len(folder.names("done")) == 1)
    assert not (folder.path / "done" / f"file.{run}.result").exists()


def test_a_cancelled_drop_is_told(folder: Folder) -> None:
    folder.client.pause(folder.name)
    folder.drop("file")
    folder.drop("second")
    runs = until(lambda: len(folder.runs()) == 2 and folder.runs())
    folder.client.cancel(runs[0]["id"])
    assert folder.host.ctl("cancel", "--job", folder.name).status == 0
    until(lambda: len(folder.errors()) == 2)
    for name in folder.errors():
        assert b"cancelled" in (folder.path / "failed" / os.fsdecode(name)).read_bytes()


def test_settings_stand_beside_the_file(host: FakeHost, client: Client) -> None:
    folder = Folder(host, client, access={"override": ["priority", "env"]})
    folder.client.pause(folder.name)
    meta = 'priority = 7\nlabels = { a = "ä" }\ndelay = "1h"\n[env]\nX = "y"\n'
    (folder.path / "file.meta.toml").write_text(meta)
    folder.drop("file")
    run = until(folder.runs)[0]
    assert (run["priority"], run["labels"], run["status"]) == (7, {"a": "ä"}, "delayed")
    assert run["not_before"] > run["queued_at"]
    assert folder.names() == set()
    assert not folder.claimed()


def test_two_files_of_one_name_are_two_runs(folder: Folder) -> None:
    for number in range(3):
        folder.drop("same", b"%d" % number)
        until(lambda number=number: len(folder.runs()) == number + 1)
    runs = folder.ended(3)
    assert [folder.client.payload(run["id"]) for run in runs] == [b"0", b"1", b"2"]


def test_a_file_above_the_limit_is_the_payload_itself(host: FakeHost, client: Client) -> None:
    data = b"a line of a video\n" * 6000
    folder = Folder(host, client)
    client.pause(folder.name)
    folder.drop("large", data)
    run = until(folder.runs)[0]["id"]
    until(folder.claimed)
    host.restart()
    assert len(folder.claimed()) == 1
    client.resume(folder.name)
    folder.ended(1)
    assert folder.names("failed") == set()
    lines = [line["text"] for line in client.logs(run) if line["stream"] == "stdout"]
    assert lines == ["a line of a video"] * 6000
    said = host.ctl("payload", str(run))
    assert (said.status, "is the dropped file 'large'" in said.err) == (73, True)
    assert host.ctl("retry", str(run)).status == 73


def test_one_that_failed_can_be_dropped_again(host: FakeHost, client: Client) -> None:
    folder = Folder(host, client, command=["exit=1"])
    folder.drop("large", b"l" * 100_000)
    run = folder.ended(1)[0]["id"]
    kept = folder.path / "failed" / f"large.{run}"
    assert kept.read_bytes() == b"l" * 100_000
    kept.rename(folder.path / "large")
    folder.ended(2)


def test_one_between_is_copied(folder: Folder) -> None:
    data = os.urandom(50_000)
    folder.drop("middle", data)
    run = folder.ended(1)[0]["id"]
    assert folder.client.payload(run) == data


@pytest.mark.slow
def test_more_than_the_kernels_queue_holds_are_found(folder: Folder) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    number = most // 2 + 100  # each is made, and closed
    if number > 20_000:
        pytest.skip("a queue that is too long to be filled here")
    folder.client.pause(folder.name)
    os.kill(folder.host.pid, signal.SIGSTOP)
    for each in range(number):
        os.close(os.open(folder.path / f"{each}", os.O_WRONLY | os.O_CREAT))
    os.kill(folder.host.pid, signal.SIGCONT)
    until(lambda: folder.client.job(folder.name)["counts"].get("queued") == number)
    assert folder.names() == set()


def test_a_full_queue_is_waited_for(host: FakeHost, client: Client) -> None:
    folder = Folder(host, client, limits={"queue": 1})
    client.pause(folder.name)
    folder.drop("one")
    folder.drop("two")
    until(lambda: len(folder.runs()) == 1 and len(folder.claimed()) == 1)
    client.resume(folder.name)
    folder.ended(2)
    assert not folder.names("rejected")


def test_a_job_that_is_gone_leaves_no_empty_folder(folder: Folder) -> None:
    folder.client.unregister(folder.name)
    until(lambda: not folder.path.exists())
    folder.client.register({"name": folder.name, "image": "img", "command": ["exit=0"], **SMALL})
    folder.drop("again")
    folder.ended(1)


def test_what_is_refused_or_waits_fills_no_disk(host: FakeHost, client: Client) -> None:
    bodies = host.home / "state" / "bodies"

    def kept() -> set[Path]:
        return {path for path in bodies.rglob("*") if path.is_file()}

    before = kept()
    folder = Folder(host, client, limits={"queue": 1})
    client.pause(folder.name)
    folder.drop("one", b"1" * 50_000)
    until(folder.runs)
    folder.drop("two", b"2" * 50_000)
    until(lambda: len(kept() - before) == 2)
    client.resume(folder.name)
    folder.ended(2)
    assert len(kept() - before) == 2, "each try left one"
    if os.geteuid() == 0:
        (folder.path / "three.meta.toml").write_text("priority = 1")
        folder.drop("three", b"3" * 50_000)
        folder.reason("three")
        assert len(kept() - before) == 2

"""`jobd backup`: a copy that a daemon starts on, made while the original works and is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.errors import JobdError
from tests.integration.test_fsck import jobd
from tests.support.fakehost import ENVIRONMENT, SMALL, FakeHost, queue
from tests.support.waiting import until

#: too large for a frame: a file of its own
LARGE = b"large body\n" * 200_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeHost]:
    host = FakeHost(tmp_path / "home").start()
    yield host
    host.end(signal.SIGKILL)


def register(host: FakeHost) -> None:
    with host.client() as client:
        client.register({"name": "good", "image": "img", "command": ["payload"], **SMALL})
        client.register({"name": "long", "image": "img", "command": ["hang"], **SMALL})


def test_the_copy_is_whole_and_does_nothing_by_itself(home: FakeHost, tmp_path: Path) -> None:
    register(home)
    with home.client() as client:
        done = queue(client, "good", payload=b"small")[0]
        active = queue(client, "long")[0]
        client.pause("good")
        waiting = queue(client, "good", payload=LARGE)[0]
        until(lambda: client.show(active)["status"] == "running")
        until(lambda: client.show(done)["status"] == "succeeded")
        store = client.ping()["store"]
    dest = tmp_path / "copy"
    made = jobd("backup", "--home", str(home.home), str(dest), "--logs", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["runs"], told["held"], told["bodies"], told["damaged"]) == (3, [active], 1, [])
    again = jobd("backup", "--home", str(home.home), str(dest))
    assert again.returncode == 78
    assert "not empty" in again.stderr
    copy = FakeHost(dest).start()
    try:
        rows = {row["id"]: row["status"] for row in copy.json("ls", "--all")}
        assert rows == {done: "succeeded", active: "held", waiting: "queued"}
        with copy.client() as client:
            assert client.ping()["store"] != store
            assert client.status()["draining"] is True
            assert client.show(active)["reason"]["code"] == "copied"
        assert copy.ctl("payload", str(waiting)).out.encode() == LARGE
        assert copy.ctl("logs", str(done)).out.rstrip() == "small"
        assert home.json("show", str(active))["status"] == "running", "the original goes on"
        copy.json("resume", "good")
        copy.json("undrain")
        until(lambda: copy.json("show", str(waiting))["status"] == "succeeded")
        assert copy.json("show", str(active))["status"] == "held"
    finally:
        copy.end()


def submit(host: FakeHost, acknowledged: list[int], over: threading.Event) -> None:
    while not over.is_set():
        try:
            with host.client(request_timeout=5) as client:
                while not over.is_set():
                    acknowledged += queue(client, "good", payload=os.urandom(300))
        except JobdError:
            time.sleep(0.01)


def test_copies_under_load_while_the_daemon_is_killed(home: FakeHost, tmp_path: Path) -> None:
    register(home)
    with home.client() as client:
        client.pause("good")
    acknowledged: list[int] = []
    over = threading.Event()
    threads = [threading.Thread(target=submit, args=(home, acknowledged, over)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            until(lambda least=100 * (number + 1): len(acknowledged) > least)  # type: ignore[misc]
            before = set(acknowledged)
            dest = tmp_path / f"copy{number}"
            words = [sys.executable, "-m", "jobd", "backup", "--home", str(home.home), str(dest)]
            making = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE)
            # from the middle of python's own start to the end of the copying
            time.sleep(0.1 + 0.2 * number)
            home.restart(signal.SIGKILL)
            assert making.stdout is not None
            assert b"runs" in making.stdout.read()
            making.stdout.close()
            assert making.wait() == 0
            assert jobd("fsck", "--home", str(dest)).returncode == 0
            copy = FakeHost(dest).start()
            rows = {row["id"] for row in copy.json("ls", "--all", "--limit", "100000")}
            copy.end()
            assert before <= rows, "what was acknowledged before is missing"
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_what_was_not_completed_is_not_taken_for_a_copy(home: FakeHost, tmp_path: Path) -> None:
    register(home)
    with home.client() as client:
        client.pause("good")
        for _ in range(5):
            queue(client, "good", payload=LARGE * 4)
    seen = 0
    for number in range(3):
        dest = tmp_path / f"half{number}"
        words = [sys.executable, "-m", "jobd", "backup", "--home", str(home.home), str(dest)]
        making = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        until(lambda dest=dest: (dest / "backup.incomplete").exists())  # type: ignore[misc]
        time.sleep(number * 0.01)
        making.kill()
        making.wait()
        if (dest / "backup.incomplete").exists():
            seen += 1
            refused = jobd("run", "--home", str(dest), "--engine", "fake")
            assert refused.returncode == 78
            assert "not completed" in refused.stderr
            again = jobd("backup", "--home", str(home.home), str(dest))
            assert again.returncode == 78
            assert "unfinished backup" in again.stderr
        else:
            assert jobd("fsck", "--home", str(dest)).returncode == 0
    assert seen


def test_a_damaged_queue_and_a_damaged_payload(home: FakeHost, tmp_path: Path) -> None:
    register(home)
    with home.client() as client:
        client.pause("good")
        queue(client, "good", payload=LARGE)
    body = next((home.home / "state" / "bodies").glob("??/*"))
    body.write_bytes(LARGE.swapcase())
    made = jobd("backup", "--home", str(home.home), str(tmp_path / "one"))
    assert made.returncode == 65
    assert "is damaged" in made.stderr
    home.end()
    fsck = jobd("fsck", "--home", str(home.home))
    assert (fsck.returncode, "payload of run 1" in fsck.stdout) == (65, True)
    salvaged = jobd("fsck", "--salvage", "--home", str(home.home))
    assert "run 1 (good): held as suspect: its payload" in salvaged.stdout
    segment = next((home.home / "state").glob("seg-*.log"))
    data = bytearray(segment.read_bytes())
    data[4096 + 60] ^= 1
    segment.write_bytes(bytes(data))
    made = jobd("backup", "--home", str(home.home), str(tmp_path / "two"))
    assert made.returncode == 65
    assert "damaged at offset 4096" in made.stderr

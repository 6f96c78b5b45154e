"""From inside of a container: a socket in its own mount, and files; its root is nobody here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.errors import ForbiddenError, NotFoundError
from tests.support.harness import IMAGE, Daemon

CHILD = 'cat "$PAYLOAD_FILE"'
#: what a shell without anything does; `result` tells the test that it is there
PARENT = """
echo "$JOBD_SOCKET" >"$RESULT_FILE"; id -u >>"$RESULT_FILE"
echo "30 begun" >/job/progress
echo "by file" >/job/queue/child/first
( touch /job/api/x || rm -f /job/api/jobd.sock || mv /job/api /job/gone ) 2>/job/out/refused
ls /job/api >/job/out/listed
while [ ! -e /job/out/end ]; do sleep 0.1; done
ln -s /etc/passwd /job/queue/child/link
[ "$(id -u)" != 0 ] || {
    mv /job/queue /job/moved; ln -s /job/moved /job/queue
    echo "ended" >/job/moved/child/unseen
}
"""


@pytest.fixture
def daemon(url: str, tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "h", url)
    one.start()
    one.ready()
    yield one
    for job in ("parent", "child"):
        one.ctl("cancel", "--job", job, check=False)
    one.settled()
    one.close()


def register(client: Client, name: str, script: str, **more: Any) -> None:
    spec = {"name": name, "image": IMAGE, "command": ["sh", "-c", script], "network": "none"}
    client.register({**spec, "resources": {"cpus": 0.1, "memory": "32M"}, **more})


@pytest.mark.parametrize("user", [None, "4711:4711"])
def test_from_inside_of_a_container(daemon: Daemon, tmp_path: Path, user: str | None) -> None:
    with Client(home=str(daemon.home)) as client:
        register(client, "child", CHILD)
        register(client, "other", "true")
        more = {} if user is None else {"user": user}
        register(client, "parent", PARENT, api={"queue": ["child"]}, **more)
        run = client.queue("parent")["runs"][0]["id"]
        client.wait(run, until="running")
        folder = daemon.home / f"state/work/{run}.1/job"
        by_file = _first_child(client, run)
        # a client in the container's own view of the file system: over the mount, as its root
        view = _root_of(client, run)
        with Client(socket=f"{view}/job/api/jobd.sock") as inside:
            assert inside.ping()["user"]["admin"] is False
            inside.progress(55, "over the mount")
            child = inside.queue("child", b"by socket")["runs"][0]["id"]
            inside.wait(child, by_file)
            assert [line["text"] for line in inside.logs(child)] == ["by socket"]
            with pytest.raises(NotFoundError):
                inside.show(client.queue("other")["runs"][0]["id"])
            for refused in (inside.drain, inside.jobs, lambda: inside.queue("other")):
                with pytest.raises(ForbiddenError):
                    refused()
            assert client.show(run)["progress"] == {"percent": 55, "message": "over the mount"}
            # a new daemon is heard at the same place: the mount is of the folder
            daemon.kill()
            daemon.start()
            daemon.ready()
            assert inside.queue("child", b"again")["runs"][0]["id"] > child
        (folder / "out/end").touch()
        client.wait(run)
        row = client.show(run)
        assert row["status"] == "succeeded"
        assert len(row["children"]) == 3, "what lies behind a link is not looked at"
        mine, ids = client.result(run).decode().split()
        assert (mine, ids) == ("/job/api/jobd.sock", "0" if user is None else "4711")
        client.save_output(run, str(tmp_path / "out"))
    said = (tmp_path / "out/refused").read_text()
    assert said.count("Read-only file system") + said.count("Permission denied") >= 2
    assert (tmp_path / "out/listed").read_text() == "jobd.sock\n"


def _first_child(client: Client, run: int) -> int:
    deadline = time.monotonic() + 60
    while not (children := client.show(run)["children"]):
        assert time.monotonic() < deadline, "no run was made of the file"
        time.sleep(0.05)
    first: int = children[0]
    return first


def _root_of(client: Client, run: int) -> str:
    """The file system that the run's container sees."""
    want = f"RUN_ID={run}".encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if want in environ and b"JOB_NAME=parent" in environ and words[:1] == [b"sh"]:
            return f"/proc/{pid}/root"
    raise AssertionError("the container's process is not to be found")

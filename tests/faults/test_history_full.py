"""Runs leave memory while the disk is really full: they wait, and go on by themselves."""

from __future__ import annotations

import os
import signal

import pytest

from jobctl.client import Client
from tests.faults.conftest import MakeDaemon, MakeDisk
from tests.support.process_daemon import ProcessDaemon
from tests.support.waiting import until

MB = 1 << 20
CANCELLED = 400
STAY, LEAVE = "window = 9999", "window = 0   "


def now_they_leave(daemon: ProcessDaemon) -> None:
    """The window is nothing from now on; the file is changed in its place, as no space is left."""
    path = daemon.home / "jobd.toml"
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(STAY.encode()))
        file.write(LEAVE.encode())
    os.kill(daemon.pid_now, signal.SIGHUP)


@pytest.mark.parametrize(("kind", "leave"), [("ext4", 0), ("tmpfs", 0), ("tmpfs", 40_000)])
def test_a_full_disk_keeps_them_in_memory_until_there_is_space(
    make_disk: MakeDisk, make_daemon: MakeDaemon, kind: str, leave: int
) -> None:
    disk = make_disk(kind, 48 * MB)
    daemon = make_daemon(
        disk.path / "h", "[admission]", 'disk_free = "off"', "[history]", f"{STAY}"
    )
    daemon.start()
    daemon.ready()
    daemon.register("gives", 'echo "it says"; echo -n gift > $RESULT_FILE')
    with Client(home=str(daemon.home), request_timeout=20) as client:
        given = client.queue("gives", b"pay")["runs"][0]["id"]
        assert client.wait(given)["status"] == "succeeded"
        client.pause("gives")
        client.queue("gives", b"x" * 200, count=CANCELLED)
        client.cancel(job="gives")
        disk.fill(leave)
        pid = daemon.pid_now
        now_they_leave(daemon)
        told = until(lambda: client.status()["history"]["problem"])
        assert "space" in told or "full" in told or "no room" in told, told
        assert "FINISHED RUNS STAY IN MEMORY, nothing is lost" in daemon.ctl("status").stdout
        # all of them are there, and stay readable
        assert len(client.runs(job="gives", everything=True)) == CANCELLED + 1
        assert (client.result(given), client.payload(given)) == (b"gift", b"pay")

        disk.empty()
        until(lambda: client.status()["history"]["in_memory"] == 0)
        until(lambda: client.status()["history"]["problem"] is None)
        rows = client.runs(job="gives", everything=True)
        assert [row["id"] for row in rows] == list(range(given + CANCELLED, given - 1, -1))
        assert all(row["archived"] for row in rows)
        assert (client.result(given), client.payload(given)) == (b"gift", b"pay")
        assert daemon.ctl("logs", str(given)).stdout == "it says\n"
        assert daemon.pid_now == pid, "it was the same daemon all the time"
    assert daemon.terminate() == 0
    daemon.start()
    daemon.ready()
    with Client(home=str(daemon.home), request_timeout=20) as client:
        until(lambda: client.status()["history"]["ready"])
        assert len(client.runs(job="gives", everything=True)) == CANCELLED + 1
    assert daemon.terminate() == 0

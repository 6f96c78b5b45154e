"""A queue of more runs than are counted: asked, waited for, cancelled by one record, read again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from tests.support.served import Daemon

MANY = 12_000


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "home")
    made.start()
    yield made
    made.end(signal.SIGTERM)


def test_a_long_queue_is_asked_waited_for_and_cancelled(daemon: Daemon) -> None:
    notes: list[str] = []
    with Client(home=str(daemon.home), note=notes.append) as jobd:
        for name in ("few", "many"):
            jobd.register({"name": name, "image": "img", "command": ["exit=0"]})
        jobd.drain()
        jobd.queue("few", b"x")
        queued = list(jobd.queue_many("many", MANY, b"x" * 300))
        assert len(queued) >= MANY // 10_000
        jobd.queue("few", b"x")

        [first, last] = [run["id"] for run in jobd.runs(job="few")][::-1]
        assert (first, last) == (1, MANY + 2)
        assert jobd.runs(status=["held", "delayed", "running", "failed"]) == []
        assert jobd.runs(labels={"a": "b"}) == []
        assert jobd.show("last:many")["id"] == MANY + 1

        place = jobd.why(MANY + 1)["place"]
        assert place == {"in_job": 10_001, "of_job": MANY, "ahead": 10_000, "more": True}
        told = daemon.jobctl("why", str(MANY + 1)).stdout
        assert b"place: behind 10000 of 12000 in its job, 10000 or more before it" in told
        assert b"place: 1 of 12000 in its job, 1 before it" in daemon.jobctl("why", "2").stdout

        waited: list[Any] = []
        waiter = threading.Thread(target=wait_for, args=(daemon, f"2-{MANY + 1}", waited))
        waiter.start()
        before = jobd.status()["journal"]["bytes"]
        cancelled = jobd.cancel(job="many")
        assert jobd.status()["journal"]["bytes"] - before < 500, "one record"
        assert cancelled[0]["status"] == "cancelled"
        assert notes == ["12000 runs; the first 1000 of them are shown"]
        waiter.join(30)
        assert len(waited) == 1

    daemon.end(signal.SIGKILL)
    daemon.start()
    with Client(home=str(daemon.home)) as jobd:
        assert jobd.status()["counts"] == {"queued": 2, "cancelled": MANY}
        assert len(jobd.runs(status=["cancelled"])) == 50
        jobd.undrain()
        jobd.wait(first, last, timeout=30)


def wait_for(daemon: Daemon, runs: str, into: list[Any]) -> None:
    with Client(home=str(daemon.home)) as jobd:
        into.append(jobd.wait(runs, timeout=30))

"""Alerts on a full disk take nothing of the room that ends were promised, and come later."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import MakeDaemon, MakeDisk
from tests.faults.test_disk_full import client, fill_queue
from tests.support.waiting import until

MB = 1 << 20
WAITS = "while [ ! -e $SAID/go ]; do sleep 0.05; done; exit 3"
#: as large as they may be, so that a few would not fit
ALERTS: list[dict[str, Any]] = [
    {"on": ["dead", "failed"], "url": f"http://127.0.0.1:9/{n}{'x' * 2000}"} for n in range(16)
]


@pytest.mark.parametrize("kind", ["tmpfs"])
def test_ends_come_before_alerts(make_disk: MakeDisk, make_daemon: MakeDaemon, kind: str) -> None:
    disk = make_disk(kind, 48 * MB)
    alerts = ("[alerts]", 'allow = ["http://127.0.0.1:9/*"]', 'child = "never"')
    admission = ("[admission]", 'disk_free = "off"')
    daemon = make_daemon(disk.path / "h", *alerts, *admission)
    daemon.start()
    daemon.ready()
    names = [f"waits-{number}" for number in range(6)]
    for name in names:
        daemon.register(name, WAITS, alert=ALERTS)
    daemon.register("fills", "true")
    with client(daemon) as one:
        one.pause("fills")
        ids = [one.queue(name)["runs"][0]["id"] for name in names]
    for run in ids:
        until(lambda run=run: daemon.status(run) == "running")
    pid = daemon.pid_now
    disk.fill()
    fill_queue(daemon, "fills")
    (daemon.said / "go").touch()
    for run in ids:
        until(lambda run=run: daemon.status(run) == "failed")
    with client(daemon) as one:
        assert one.alerts() == [], "there is no room for them yet"
    disk.empty()
    with client(daemon) as one:
        until(lambda: len(one.alerts()) == 2 * len(names))
        assert {row["what"] for row in one.alerts()} == {"dead", "failed"}
    assert daemon.pid_now == pid, "it was the same daemon all the time"
    assert daemon.terminate() == 0
    daemon.start()
    daemon.ready()
    with client(daemon) as one:
        assert len(one.alerts()) == 2 * len(names)

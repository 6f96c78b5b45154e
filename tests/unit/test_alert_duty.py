"""What the daemon says of itself to its alerts: engines away, full disks, nobody who delivers."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from jobd.capacity.gates import Disk, Readings
from jobd.capacity.ledger import Host, Ledger
from jobd.core import events as e
from jobd.core import outbox
from jobd.core.alertcommands import LookForAlerts, QueueDelivery
from jobd.core.alertrules import read_alerts
from jobd.core.commands import Caller
from jobd.core.model import Now, Reason
from jobd.core.policy import Rules
from jobd.core.states import Kind
from jobd.daemon import alertduty
from jobd.daemon.alertduty import GONE_AFTER, LOOK_EVERY, PATIENCE, AlertDuty
from jobd.errors import InvalidError, RefusedError
from tests.support.core import SYSTEM, Bench

GIB = 1 << 30


class Child:
    """Stands for the process that delivers."""

    def __init__(self, path: Path) -> None:
        self.started = False
        self.users: list[str] = []

    def ended(self) -> bool:
        return False

    def replaced(self) -> None:
        pass

    def start(self, user: str, now_mono: int) -> None:
        self.started = True
        self.users.append(user)

    def close(self) -> None:
        pass


class Room:
    """Of the disk: full or not."""

    full = False

    def require(self, size: int) -> None:
        if self.full:
            raise RefusedError("full")

    def missing(self, size: int) -> int:
        return size if self.full else 0


class Loop(Bench):
    """What the duty needs of the core loop."""

    def __init__(self, **alerts: Any) -> None:
        super().__init__(Rules(alerts=read_alerts(alerts)))
        self.ledger = Ledger(Host(4, 4 * GIB, 0, 0))
        self.room = Room()
        self.shed: deque[Any] = deque()
        self.touched: list[int] = []
        self.asked: list[Any] = []

    def decide(self, command: Any, caller: Caller) -> Any:
        self.asked.append(command)
        return self.do(command, caller).answer

    def touch(self, run: int) -> None:
        self.touched.append(run)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(alertduty, "NotifyChild", Child)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    return Loop(on=[{"on": ["engine", "disk"], "journal": True}])


def duty_of(loop: Any, tmp_path: Path) -> AlertDuty:
    return AlertDuty(loop, b"s" * 16, tmp_path, tmp_path / "sock", frozenset(Kind))


def turn(loop: Loop, duty: AlertDuty, ms: int = LOOK_EVERY) -> dict[tuple[str, str], str]:
    """Time goes by; what the look said of the host."""
    loop.now = Now(loop.now.wall + ms, loop.now.mono + ms)
    duty.turn(SYSTEM)
    return dict(next(c for c in reversed(loop.asked) if type(c) is LookForAlerts).host)


def test_an_engine_is_trouble_when_it_is_away_for_a_while(loop: Loop, tmp_path: Path) -> None:
    duty = duty_of(loop, tmp_path)
    assert turn(loop, duty) == {}, "nothing is known before it was looked at"
    loop.ledger.engines = dict.fromkeys(Kind)
    well = {("engine", "container"): "", ("engine", "process"): ""}
    assert turn(loop, duty) == well
    loop.ledger.engines[Kind.CONTAINER] = Reason("engine", "no answer")
    assert turn(loop, duty) == {("engine", "process"): ""}
    assert turn(loop, duty, PATIENCE)["engine", "container"].endswith("no answer")
    assert [a.what for a in loop.state.alerts.alerts.values()] == ["engine"]
    loop.ledger.engines[Kind.CONTAINER] = None
    assert turn(loop, duty) == well
    assert not loop.state.alerts.open


def test_a_disk_is_told_by_its_gate(loop: Loop, tmp_path: Path) -> None:
    duty = duty_of(loop, tmp_path)
    loop.ledger.gates.look(Readings({}, disks=(Disk("/q", 1, 100 * GIB), Disk("/i", GIB, GIB))))
    said = turn(loop, duty)
    assert said["disk", "/q"]
    assert said["disk", "/i"] == ""
    loop.ledger.gates.look(Readings({}, disks=(Disk("/q", 50 * GIB, 100 * GIB),)))
    turn(loop, duty)
    assert not loop.state.alerts.open


def test_nothing_is_looked_at_where_nobody_wants_to_know(loop: Loop, tmp_path: Path) -> None:
    loop.rules = Rules()
    duty = duty_of(loop, tmp_path)
    duty.turn(SYSTEM)
    assert (loop.asked, duty.wait_ms(loop.now)) == ([], None)


def trouble(loop: Loop, duty: AlertDuty) -> None:
    loop.ledger.engines = {kind: Reason("engine", "gone") for kind in Kind}
    turn(loop, duty)
    turn(loop, duty, PATIENCE)


def test_somebody_is_started_to_deliver_where_nobody_comes(loop: Loop, tmp_path: Path) -> None:
    duty = duty_of(loop, tmp_path)
    duty.came(SYSTEM)
    trouble(loop, duty)
    child: Any = duty._child
    assert loop.touched == [outbox.OUTBOX]
    assert (child.users, duty.problem()) == ([], None), "somebody came a moment ago"
    turn(loop, duty, GONE_AFTER)
    assert child.users == [""]
    assert duty.problem() is None
    turn(loop, duty, 20_000)
    assert "does not get through" in str(duty.problem())
    duty.came(SYSTEM)
    assert duty.problem() is None


def test_below_systemd_a_unit_does_it(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    duty = duty_of(loop, tmp_path)
    trouble(loop, duty)
    turn(loop, duty, 20_000)
    child: Any = duty._child
    assert child.users == []
    assert "start jobd notify" in str(duty.problem())


def test_roots_daemon_needs_a_user_for_it(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    duty = duty_of(loop, tmp_path)
    trouble(loop, duty)
    child: Any = duty._child
    assert child.users == []
    assert "there is no user jobd-notify" in str(duty.problem())


def test_a_job_is_told_by_the_loop_itself_and_not_on_a_full_disk(
    loop: Loop, tmp_path: Path
) -> None:
    loop.register("fixer")
    loop.rules = Rules(alerts=read_alerts({"on": [{"on": ["engine"], "job": "fixer"}]}))
    duty = duty_of(loop, tmp_path)
    loop.room.full = True
    trouble(loop, duty)
    assert not [c for c in loop.asked if type(c) is QueueDelivery]
    loop.room.full = False
    turn(loop, duty)
    assert loop.run(1).job.name == "fixer"
    assert loop.run(2).job.name == "fixer"


def test_what_there_was_no_room_for_is_decided_on_anew(loop: Loop, tmp_path: Path) -> None:
    loop.rules = Rules(alerts=read_alerts({"on": [{"on": ["dead"], "journal": True}]}))
    loop.register()
    duty = duty_of(loop, tmp_path)
    loop.shed += [
        e.AlertRaised(1, 1, 0, "dead", 1, 7, "text", "", []),
        e.AlertRaised(1, 1, 0, "dead", 1, 8, "more", "", []),
        e.AlertRaised(1, 2, 0, "dead", 9, 1, "a job that is not there", "", []),
    ]
    loop.room.full = True
    turn(loop, duty)
    assert not loop.state.alerts.alerts
    loop.room.full = False
    turn(loop, duty)
    (alert,) = loop.state.alerts.alerts.values()
    assert (alert.count, alert.run, len(alert.deliveries)) == (2, 8, 1)
    loop.shed += [e.AlertRepeated(1, 1, 0, 9, "again", []), e.AlertResolved(1, 1, 0, "well", [])]
    turn(loop, duty)
    assert (alert.count, alert.resolved_text) == (3, "well")
    assert not loop.shed


def test_secrets_come_from_their_folder_alone(loop: Loop, tmp_path: Path) -> None:
    duty = duty_of(loop, tmp_path)
    (tmp_path / "key").write_bytes(b"abc\n")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert duty.secret("key") == b"abc"
    for name in ("../key", "link", "absent"):
        with pytest.raises(InvalidError, match="secret"):
            duty.secret(name)

"""Alerts from a real daemon by a real `jobd notify` to a receiver that fails, hangs, comes back."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.errors import ForbiddenError, InvalidError
from tests.support.fakehost import ENVIRONMENT, SMALL, FakeHost
from tests.support.people import People, is_root
from tests.support.receiver import Receiver, ok, status
from tests.support.waiting import until

#: of `jobd notify` where this is root
USER = "nobody"


def config(receiver: Receiver, more: str = "") -> str:
    return f"""
[access]
socket_mode = "0666"
[alerts]
user = "{USER}"
allow = ["{receiver.url}/*"]
retry = "200ms"
secret = "alerts"
{more}
[alerts.to.ops]
url = "{receiver.url}/ops"
template = "slack"
[[alerts.on]]
on = ["breaker"]
to = "ops"
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def alerting(receiver: Receiver) -> Iterator[FakeHost]:
    """A daemon whose alerts may go to the receiver; in a folder that others can pass through."""
    place = Path(tempfile.mkdtemp(prefix="ja", dir="/var/tmp"))
    place.chmod(0o755)
    home = place / "h"
    (home / "secrets").mkdir(mode=0o700, parents=True)
    (home / "secrets" / "alerts").write_bytes(b"key\n")
    (home / "secrets" / "alerts").chmod(0o600)
    (home / "jobd.toml").write_text(config(receiver))
    one = FakeHost(home).start()
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(place)


def register(client: Client, receiver: Receiver, name: str, status_: int = 1, **more: Any) -> None:
    alert = [{"on": ["dead"], "url": f"{receiver.url}/{name}", **more}]
    client.register(
        {"name": name, "image": "img", "command": [f"exit={status_}"], "alert": alert, **SMALL}
    )


def children(pid: int) -> list[int]:
    """The processes that the daemon has started: `jobd notify` alone."""
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z" and b"notify" in words:
            found.append(int(entry))
    return found


def delivered(client: Client) -> bool:
    rows = client.alerts(everything=True)
    return all(d["state"] == "delivered" for row in rows for d in row["deliveries"])


def test_an_alert_and_its_recovery_are_delivered_signed(
    alerting: FakeHost, receiver: Receiver
) -> None:
    with alerting.client() as client:
        register(client, receiver, "report")
        run = client.queue("report")["runs"][0]["id"]
        until(lambda: receiver.good)
        (row,) = client.alerts()
        assert (row["state"], row["what"], row["job"], row["run"]) == (
            "open",
            "dead",
            "report",
            run,
        )
        register(client, receiver, "report", 0)
        client.queue("report")
        until(lambda: len(receiver.good) == 2)
        raised, resolved = (got.json for got in receiver.good)
        assert (raised["state"], resolved["state"]) == ("raised", "resolved")
        assert raised["alert"] == resolved["alert"] == row["alert"]
        assert raised["id"] != resolved["id"]
        got = receiver.good[0]
        assert got.headers["jobd-alert-id"] == raised["id"]
        stamp, made = (part.partition("=")[2] for part in got.headers["jobd-signature"].split(","))
        expected = hmac.new(b"key", f"{stamp}.".encode() + got.body, hashlib.sha256)
        assert hmac.compare_digest(made, expected.hexdigest())
        until(lambda: client.alerts() == [])
        if is_root():
            (pid,) = children(alerting.pid)
            told = Path(f"/proc/{pid}/status").read_text()
            assert "Uid:\t0" not in told
            assert "CapEff:\t0000000000000000" in told


def test_none_is_lost_whatever_dies(alerting: FakeHost, receiver: Receiver) -> None:
    """Failing, hanging, killed and started again: each is had, and a second copy has its id."""
    failing, kills = 0, 0

    def trouble(count: int) -> None:
        nonlocal failing
        with alerting.client() as client:
            for _ in range(count):
                failing += 1
                register(client, receiver, f"j{failing}")
                client.wait(client.queue(f"j{failing}")["runs"][0]["id"])

    def kill_notify() -> None:
        nonlocal kills
        for pid in until(lambda: children(alerting.pid)):
            os.kill(pid, signal.SIGKILL)
            kills += 1

    def came(more: int) -> None:
        target = len(receiver.got) + more
        until(lambda: len(receiver.got) >= target)

    receiver.answer = status(500)
    trouble(3)
    came(2)
    alerting.restart()
    receiver.answer = receiver.hang
    trouble(2)
    came(1)
    kill_notify()
    trouble(1)
    came(1)
    alerting.restart()
    kills += 1
    receiver.answer = status(302, Location="/elsewhere")
    came(1)
    receiver.answer = ok
    trouble(2)
    kill_notify()
    alerting.restart()
    with alerting.client() as client:
        until(lambda: delivered(client))
        rows = client.alerts(everything=True)
        assert len(rows) == failing
        ids = {got.json["alert"]: got.headers["jobd-alert-id"] for got in receiver.good}
        assert ids.keys() == {row["alert"] for row in rows}
    assert len(set(ids.values())) == failing
    copies = Counter(got.headers["jobd-alert-id"] for got in receiver.good)
    for got in receiver.got:
        assert got.json["alert"] in ids, "nothing else was ever sent"
        assert got.headers["jobd-alert-id"] == ids[got.json["alert"]] == got.json["id"]
    doubled = sum(count - 1 for count in copies.values())
    assert doubled <= kills * 8, "what was under way at a kill, and nothing more"
    assert all(got.path != "/elsewhere" for got in receiver.got)


def test_what_may_be_said_of_where_alerts_go(alerting: FakeHost, receiver: Receiver) -> None:
    evil = [
        f"{receiver.url}@evil.example/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:1/x",
        f"{receiver.url.replace('http', 'https')}/x",
        f"{receiver.url}/a/../b",
    ]
    with alerting.client() as client:
        for url in evil:
            spec = {"name": "evil", "image": "img", "alert": [{"on": ["dead"], "url": url}]}
            with pytest.raises(InvalidError, match=r"alert\[0\]\.url"):
                client.register(spec)
        spec = {"name": "evil", "image": "img", "alert": [{"on": ["dead"], "command": "rm"}]}
        with pytest.raises(InvalidError, match=r"alerts\.commands"):
            client.register(spec)


def test_what_is_allowed_no_more_is_not_sent(alerting: FakeHost, receiver: Receiver) -> None:
    with alerting.client() as client:
        receiver.answer = status(503)
        register(client, receiver, "once")
        client.queue("once")
        until(lambda: receiver.got)
        text = "[access]\nsocket_mode = '0666'\n[alerts]\nretry = '200ms'\nuser = 'nobody'\n"
        (alerting.home / "jobd.toml").write_text(text)
        alerting.restart(signal.SIGTERM)
        sent = len(receiver.got)

        def refused() -> list[Any]:
            rows = client.alerts()[0]["deliveries"]
            return [row for row in rows if "not allowed" in str(row["error"])]

        (delivery,) = until(refused)
        assert delivery["state"] == "waiting"
        assert len(receiver.got) == sent


def test_jobctl_shows_snoozes_tests_and_sends_again(alerting: FakeHost, receiver: Receiver) -> None:
    with alerting.client() as client:
        register(client, receiver, "seen")
    said = alerting.ctl("alerts")
    assert (said.status, said.out) == (0, "")
    assert "no alert is open" in said.err
    assert alerting.ctl("alerts", "snooze", "--job", "seen", "--what", "dead").status == 0
    alerting.ctl("run", "seen")
    (row,) = alerting.json("alerts")
    assert row["snoozed"]["until"] is not None
    assert "snoozed" in alerting.ctl("alerts").out
    assert alerting.ctl("alerts", "unsnooze", str(row["alert"])).status == 0
    until(lambda: receiver.good)
    tested = alerting.ctl("alerts", "test", "--to", "ops")
    assert tested.status == 0, tested.err + tested.out
    assert receiver.good[-1].json == {
        "text": "this is a test of the host's alerts, asked for by root"
        if is_root()
        else receiver.good[-1].json["text"]
    }
    receiver.answer = status(500)
    assert alerting.ctl("alerts", "test", "--job", "seen", "--wait", "30s").status == 1
    receiver.answer = ok
    count = len(receiver.good)
    assert alerting.ctl("alerts", "resend", str(row["alert"])).status == 0
    until(lambda: len(receiver.good) >= count + 2)
    ids = Counter(got.headers["jobd-alert-id"] for got in receiver.good if got.path == "/seen")
    assert 2 in ids.values(), "sent again with the same id"
    shown = alerting.ctl("alerts", "show", str(row["alert"]))
    assert "delivered" in shown.out
    assert alerting.ctl("alerts", "show", "999").status == 66
    assert alerting.ctl("alerts", "show").status == 2
    assert alerting.ctl("alerts", "test", "--to", "nobody").status == 78


def test_another_job_is_told_and_a_command_is_not_run_as_jobd(
    alerting: FakeHost, receiver: Receiver, tmp_path: Path
) -> None:
    out = Path(tempfile.mkdtemp(prefix="ja", dir="/var/tmp"))
    out.chmod(0o777)
    script = f"cat > {out}/body; id -u > {out}/uid"
    more = f'[alerts.commands]\npage = ["/bin/sh", "-c", "{script}"]'
    (alerting.home / "jobd.toml").write_text(config(receiver, more))
    alerting.restart(signal.SIGTERM)
    try:
        with alerting.client() as client:
            client.register({"name": "fixer", "image": "img", "command": ["payload"], **SMALL})
            alert = [{"on": ["dead"], "job": "fixer"}, {"on": ["dead"], "command": "page"}]
            spec = {"name": "bad", "image": "img", "command": ["exit=1"], "alert": alert}
            client.register({**spec, **SMALL})
            client.queue("bad")
            (run,) = until(lambda: client.runs(job="fixer"))
            assert run["trigger"]["kind"] == "alert"
            assert b'"what": "dead"' in client.payload(run["id"])
            if is_root():
                until(lambda: (out / "uid").exists() and (out / "uid").read_text())
                assert (out / "uid").read_text().strip() == "65534"
                assert b'"what": "dead"' in (out / "body").read_bytes()
    finally:
        shutil.rmtree(out)


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_who_may_see_change_and_deliver(alerting: FakeHost, receiver: Receiver) -> None:
    with alerting.client() as client:
        register(client, receiver, "secret-job")
        client.wait(client.queue("secret-job")["runs"][0]["id"])
        (row,) = until(client.alerts)
    people = People(alerting.home)
    try:
        # who delivers may take, and sees nothing of a job that is not theirs
        assert people.say(USER, "alerts", "--json").json == []
        assert people.say(USER, "alerts", "show", str(row["alert"])).status == 66
        assert people.say(USER, "alerts", "resend", str(row["alert"])).status == 66
        assert people.say(USER, "alerts", "snooze", "--job", "secret-job").status == 66
        assert people.say(USER, "alerts", "snooze").status == 77
        assert people.say(USER, "alerts", "test").status == 77
        rows = people.say(USER, "events", "--since", "1h", "-o", "json").json
        assert not [event for event in rows if "alert" in event["event"]]
    finally:
        people.close()


def test_only_who_delivers_may_take(alerting: FakeHost, receiver: Receiver) -> None:
    if not is_root():
        pytest.skip("needs root, to become another user")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(1)
            os.setuid(1)
            with alerting.client() as client:
                try:
                    client.take_alerts()
                except ForbiddenError:
                    code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with alerting.client() as client:
        assert client.take_alerts() == []


def test_who_delivers_ends_with_the_daemon(alerting: FakeHost, receiver: Receiver) -> None:
    with alerting.client() as client:
        register(client, receiver, "ends")
        client.queue("ends")
        until(lambda: receiver.good)
    (pid,) = children(alerting.pid)
    alerting.end(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it outlived the daemon"
        time.sleep(0.02)
    alerting.start()


def test_one_of_its_own_goes_on_over_a_restart_of_the_daemon(
    alerting: FakeHost, receiver: Receiver
) -> None:
    (alerting.home / "jobd.toml").write_text(config(receiver, 'child = "never"'))
    alerting.restart(signal.SIGTERM)
    words = [sys.executable, "-m", "jobd", "notify", "--home", str(alerting.home)]
    process = subprocess.Popen(words, env=ENVIRONMENT)
    try:
        with alerting.client() as client:
            for name in ("first", "second"):
                register(client, receiver, name)
                client.queue(name)
                until(lambda name=name: [got for got in receiver.good if got.path == f"/{name}"])
                assert children(alerting.pid) == []
                alerting.restart()
    finally:
        process.terminate()
        assert process.wait(20) == 0

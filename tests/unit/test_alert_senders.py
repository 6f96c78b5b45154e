"""How alerts are carried: by HTTP to a receiver that misbehaves, to commands, to the journal."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.alerts import senders
from jobd.alerts.senders import DeliveryError, run_command, send_http, tell_journal
from jobd.alerts.signing import headers, signature
from tests.support.receiver import Receiver, endless, status

FIELDS = {"id": "ab-1", "state": "raised", "what": "dead", "job": "j", "text": "text\nFORGED=1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_it_is_posted_as_it_is(receiver: Receiver) -> None:
    send_http(f"{receiver.url}/a%20b?x=1", {"Content-Type": "text/plain"}, b"body")
    (got,) = receiver.got
    assert (got.path, got.body, got.headers["content-type"]) == (
        "/a%20b?x=1",
        b"body",
        "text/plain",
    )


@pytest.mark.parametrize("number", [400, 404, 429, 500, 503])
def test_what_is_not_2xx_is_not_delivered(receiver: Receiver, number: int) -> None:
    receiver.answer = status(number)
    with pytest.raises(DeliveryError, match=f"answered {number}") as problem:
        send_http(f"{receiver.url}/SECRET", {}, b"")
    assert "SECRET" not in str(problem.value)


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, number: int) -> None:
    receiver.answer = status(number, Location=f"{receiver.url}/elsewhere")
    with pytest.raises(DeliveryError, match="redirects are not followed"):
        send_http(f"{receiver.url}/here", {}, b"")
    assert [got.path for got in receiver.got] == ["/here"]


def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    send_http(receiver.url, {}, b"")
    assert len(receiver.got) == 1


def test_one_that_hangs_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "STEP", 0.2)
    receiver.answer = receiver.hang
    with pytest.raises(DeliveryError, match="timed out"):
        send_http(receiver.url, {}, b"")


def test_one_that_drips_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "DEADLINE", 0.5)
    receiver.answer = receiver.drip
    with pytest.raises(DeliveryError, match=r"not done within 0\.5 s"):
        send_http(receiver.url, {}, b"")


def test_of_an_answer_little_is_read(receiver: Receiver) -> None:
    receiver.answer = endless
    send_http(receiver.url, {}, b"")


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeliveryError, match="refused"):
        send_http(f"http://127.0.0.1:{port}/", {}, b"")


def test_the_signature_is_that_of_time_and_body() -> None:
    made = signature(b"key", b"body", 1_700_000_000)
    expected = hmac.new(b"key", b"1700000000.body", hashlib.sha256).hexdigest()
    assert made == f"t=1700000000,v1={expected}"
    named = headers({**FIELDS, "job": "j"}, "text/plain", "ntfy", made)
    assert named["Jobd-Signature"] == made
    assert named["Jobd-Alert-Id"] == "ab-1"
    assert named["Title"] == "dead: j"
    assert not any("\n" in value for value in named.values())


def test_a_command_gets_the_body_and_the_fields(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'cat > {out}; echo "$ALERT_JOB $ALERT_STATE" >> {out}; env >> {out}'
    run_command(["/bin/sh", "-c", script], FIELDS, b"body\n")
    said = out.read_text()
    assert said.startswith("body\nj raised\n")
    assert "HOME" not in said


def test_a_command_has_no_shell_and_tells_its_status() -> None:
    with pytest.raises(DeliveryError, match="exit status 3"):
        run_command(["/bin/sh", "-c", "exit 3"], FIELDS, b"")
    with pytest.raises(DeliveryError, match="cannot be run"):
        run_command(["/bin/true; true"], FIELDS, b"")
    with pytest.raises(DeliveryError, match="cannot be run"):
        run_command(["/bin/true"], {"text": "a\0b"}, b"")


def test_a_command_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "DEADLINE", 0.5)
    pid = tmp_path / "pid"
    script = f"sleep 100 & echo $! > {pid}; wait"
    with pytest.raises(DeliveryError, match="not done within"):
        run_command(["/bin/sh", "-c", script], FIELDS, b"")
    child = pid.read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", child], capture_output=True, text=True).stdout
    assert state.strip() in ("", "Z", "Z+")


def test_no_text_forges_a_field_of_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        tell_journal(str(path), FIELDS)
        entry = journal.recv(65536)
    found = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + size].decode()
        assert rest[8 + size : 9 + size] == b"\n"
        entry = rest[9 + size :]
    assert found["MESSAGE"] == "text\nFORGED=1"
    assert "FORGED" not in found
    assert (found["PRIORITY"], found["JOBD_ALERT_JOB"]) == ("3", "j")
    os.unlink(path)
    with pytest.raises(DeliveryError, match="journal"):
        tell_journal(str(path), FIELDS)

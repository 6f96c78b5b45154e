"""The example's program against the example's sink, on busybox alone, as in its image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "contrib" / "examples" / "sendemail"
APPLETS = ("sh", "awk", "cat", "dirname", "head", "mktemp", "nc", "printf", "rm", "wc")
KEY = "SG.test-key"


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """A folder with busybox's programs and no others."""
    binary = shutil.which("busybox")
    if binary is None:
        pytest.fail("no busybox: contrib/test installs it (package busybox-static)")
    folder = tmp_path / "bin"
    folder.mkdir()
    for applet in APPLETS:
        (folder / applet).symlink_to(binary)
    return folder


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[str]:
    """The address of a sink that writes tmp_path/messages."""
    port = tmp_path / "port"
    command = [sys.executable, EXAMPLE / "sink.py", "--key", KEY, "--port-file", port]
    process = subprocess.Popen([*command, "--out", tmp_path / "messages"], stderr=subprocess.PIPE)
    try:
        while not port.exists():
            assert process.poll() is None, "the sink ended"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port.read_text().strip()}/v3/mail/send"
    finally:
        process.kill()
        process.communicate()


def send(
    tmp_path: Path, busybox: Path, payload: bytes, url: str, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    """Run the program as jobd would; its result, if any, is tmp_path/result."""
    (tmp_path / "payload").write_bytes(payload)
    return subprocess.run(
        [busybox / "sh", EXAMPLE / "sendemail.sh"],
        env={
            "PATH": str(busybox),
            "PAYLOAD_FILE": str(tmp_path / "payload"),
            "RESULT_FILE": str(tmp_path / "result"),
            "SENDGRID_API_KEY": key,
            "SENDGRID_URL": url,
            "SENDGRID_FROM": "jobd@example.com",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_of_any_kind_arrives_as_it_was(
    tmp_path: Path, busybox: Path, sink: str, ascii_only: bool
) -> None:
    text = "l1\nl2\t\"q\" \\n 'x' $HOME `id` %s </html> \x7f ü € 🚀" + chr(0)
    mail = {"to": "a+b@example.com", "subject": 'gr"ü\\', "text": text}
    payload = json.dumps(mail, ensure_ascii=ascii_only, indent=1).encode()
    done = send(tmp_path, busybox, payload, sink)
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "messages").read_text().splitlines()
    got = json.loads(line)
    assert got["personalizations"] == [{"to": [{"email": mail["to"]}]}]
    assert got["subject"] == mail["subject"]
    assert got["content"] == [{"type": "text/plain", "value": text}]
    assert got["from"] == {"email": "jobd@example.com"}
    result = json.loads((tmp_path / "result").read_text())
    assert result == {"status": 202, "message_id": got["message_id"]}
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"null",
        b'["to"]',
        b'{"to": "a@b.c", "subject": "s"}',
        b'{"to": "a@b.c", "subject": "", "text": "t"}',
        b'{"to": "a@b.c", "subject": "s", "text": 5}',
        b'{"to": "a@b.c", "subject": "s", "text": "t", "cc": "x"}',
        b'{"to": "a@b.c", "to": "b@b.c", "subject": "s", "text": "t"}',
        b'{"to": "a@b.c", "subject": "s", "text": "t",}',
        b'{"to": "a@b.c", "subject": "s", "text": "t"} {}',
        b'{"to": "a@b.c", "subject": "s", "text": "t',
        b'{"to": "a@b.c", "subject": "s", "text": "a\nb"}',
        b'{"to": "a@b.c", "subject": "s", "text": "\\x"}',
        b'{"to": "a@b.c", "subject": "s", "text": "\\u00g0"}',
    ],
)
def test_a_bad_payload_is_refused_before_anything_is_sent(
    tmp_path: Path, busybox: Path, payload: bytes
) -> None:
    # nobody listens there: an attempt to send would end with 69
    done = send(tmp_path, busybox, payload, "http://127.0.0.1:9/v3/mail/send")
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith("sendemail: payload: ")
    assert not (tmp_path / "result").exists()


GOOD = b'{"to": "a@example.com", "subject": "s", "text": "t"}'


def test_a_wrong_key_is_told_from_a_closed_door(tmp_path: Path, busybox: Path, sink: str) -> None:
    done = send(tmp_path, busybox, GOOD, sink, key="SG.other")
    assert done.returncode == 77
    assert "refused with HTTP status 401" in done.stderr
    done = send(tmp_path, busybox, GOOD, "http://127.0.0.1:9/v3/mail/send")
    assert done.returncode == 69
    assert "no answer" in done.stderr
    assert not (tmp_path / "messages").exists()


def test_a_refused_body_is_shown(tmp_path: Path, busybox: Path, sink: str) -> None:
    done = send(tmp_path, busybox, b'{"to": "nobody", "subject": "s", "text": "t"}', sink)
    assert done.returncode == 1
    assert "is not an address" in done.stderr


def test_the_key_is_not_sent_over_unchecked_tls(tmp_path: Path, busybox: Path) -> None:
    done = send(tmp_path, busybox, GOOD, "https://127.0.0.1:9/v3/mail/send")
    assert done.returncode == 78
    assert "needs curl" in done.stderr

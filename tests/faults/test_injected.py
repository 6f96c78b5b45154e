"""System calls that fail, are cut short, hang or are the last: rows 2, 13, 15, 18, 20, 22.

A whole daemon, its own calls struck by strace.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobd.errors import OutcomeUnknownError
from jobd.journal import Journal
from tests.support.fakehost import ENVIRONMENT
from tests.support.processes import open_folder
from tests.support.struck import Asking, StruckHost, need_strace
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _strace() -> None:
    need_strace()


def asks_again(host: StruckHost) -> None:
    """After a new start all that was promised is there, and asking again makes one run."""
    host.start()
    assert host.payloads() in ([b"first"], [b"first", b"second"])
    with host.client() as client:
        client.queue("job", b"second", key="k2")
        client.queue("job", b"third")
    assert host.payloads() == [b"first", b"second", b"third"]


@pytest.mark.parametrize(
    ("call", "how", "says"),
    [
        ("fdatasync", "error=EIO:when=1", "cannot be synced (Input/output error)"),
        ("pwrite64", "error=EIO:when=1", "cannot be written (Input/output error)"),
        ("pwrite64", "retval=40:when=1..2", "cannot be written (short write)"),
    ],
)
def test_a_call_that_fails_stops_the_daemon(
    host: StruckHost, call: str, how: str, says: str
) -> None:
    with host.struck(call, how) as strike:
        with host.client() as client, pytest.raises(OutcomeUnknownError, match="outcome"):
            client.queue("job", b"second", key="k2")
        assert host.ended() == 74
    assert f"a batch {says}; the outcome of the last requests is unknown" in host.said()
    # whatever failed, no sync of that file came after it (W6), but of what was taken back (W5)
    assert len(strike.calls("fdatasync")) == (1 if call == "fdatasync" else 0)
    asks_again(host)


@pytest.mark.parametrize("how", ["retval=40:when=1", "error=EINTR:when=1"])
def test_a_short_or_interrupted_write_is_made_good(host: StruckHost, how: str) -> None:
    """A short one that lies about the 40 bytes, too: strace lets nothing through."""
    with host.struck("pwrite64", how) as strike, host.client() as client:
        client.queue("job", b"second", key="k2")
        until(lambda: len(strike.calls("pwrite64")) >= 2)
    host.end(signal.SIGKILL)
    asks_again(host)


def test_a_sync_that_hangs_is_told_and_waited_for(host: StruckHost) -> None:
    host.end()
    with open_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        path = str(folder / "n")
        heard.bind(path)
        heard.settimeout(30)
        host.start(NOTIFY_SOCKET=path, WATCHDOG_USEC="300000")
        with host.struck("fdatasync", "delay_exit=2500000:when=1"):
            asking = Asking(host, lambda client: client.queue("job", b"second", key="k2"))
            health = until(lambda: syncing(host))
            drain(heard)
            fed = heard.recv(4096)
            assert syncing(host), "it was too late to tell"
            later = Asking(host, lambda client: client.queue("job", b"third"))
            told = host.ctl("ls", "--request-timeout", "1s")
            asking.join()
            later.join()
    # what hangs is told from what is dead, by its name
    assert health["phase"] == "running"
    assert told.status == 69
    assert "syncing the queue" in told.err
    assert fed == b"WATCHDOG=1", "killed for a slow disk"
    # and all that was asked for meanwhile has its answer
    assert not isinstance(asking.result, Exception)
    assert not isinstance(later.result, Exception)
    assert "a sync took" in host.said()
    assert host.payloads() == [b"first", b"second", b"third"]


def drain(heard: socket.socket) -> None:
    """Forget what was heard so far."""
    heard.setblocking(False)
    try:
        while True:
            heard.recv(4096)
    except BlockingIOError:
        heard.settimeout(30)


def syncing(host: StruckHost) -> dict[str, object] | None:
    """What the health socket says, once a sync has taken a while."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(host.home / "run" / "jobd.sock.health"))
        asked.sendall(b"ping\n")
        told = json.loads(asked.makefile().readline())
    return told if told["doing"] == "syncing" and told["loop_age_ms"] > 300 else None


def test_a_read_that_fails_at_the_start_is_no_tear(host: StruckHost) -> None:
    file = host.segment()
    host.end(signal.SIGKILL)
    before = contents(host)
    inject = ["-P", str(file), "-e", "inject=pread64:error=EIO:when=2"]
    host.begin("strace", "-o", "/dev/null", *inject)
    assert host.ended() == 65
    assert f"{file.name}: cannot be read" in host.said()
    assert contents(host) == before, "a refusal changes nothing"
    host.start()
    assert host.payloads() == [b"first"]


def contents(host: StruckHost) -> dict[str, bytes]:
    """Every file of the queue."""
    return {path.name: path.read_bytes() for path in sorted((host.home / "state").glob("*-*.*"))}


#: writes batches in small segments, each said once it is durable, with all that goes on beside it
WRITER = """
import sys
from jobd.journal import Journal, RecordIn
journal = Journal.open(sys.argv[1], segment_bytes=64 << 10, reserve_bytes=0)
number = int(sys.argv[2])
while True:
    journal.write([RecordIn(1, 2, number, 1, bytes([number % 251]) * 9_000)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    journal.spare()
    number += 1
"""
MOMENTS = [
    *[("fdatasync", when) for when in (1, 2, 9)],
    *[("pwrite64", when) for when in (1, 3, 30)],
    *[("fsync", when) for when in (1, 2, 5, 6)],
    *[("rename", when) for when in (1, 2, 3)],
    ("ftruncate", 1),
]


def test_killed_at_one_call_after_the_other(tmp_path: Path) -> None:
    """SIGKILL as a system call is entered: what was said is there, and at most one batch more."""
    need_strace()
    acked = 0
    for call, when in MOMENTS:
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}"]
        words = ["strace", "-o", "/dev/null", *inject, sys.executable, "-c", WRITER]
        done = subprocess.run(
            [*words, tmp_path / "q", str(acked + 1)],
            capture_output=True,
            env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL, f"{call} {when}: {done.stderr!r}"
        acked = int((done.stdout.splitlines() or [b"%d" % acked])[-1])
        journal = Journal.open(tmp_path / "q", segment_bytes=64 << 10, reserve_bytes=0)
        got = [(record.id, record.body) for record in journal.replay()]
        journal.close(clean=when % 2 == 0)
        assert len(got) in (acked, acked + 1), f"{call} {when}"
        assert got == [(n, bytes([n % 251]) * 9_000) for n in range(1, len(got) + 1)]
        acked = len(got)

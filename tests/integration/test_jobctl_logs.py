"""Logs as they are read and followed, and `run`: streams, attempts, exit statuses, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.wire.envelope import HOLD_MS
from tests.support.scripted import Part, Scripted

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
AT = "2026-01-01T00:00:0%d.000000000Z"

LINES = [
    AT.encode() % 0 + b" stdout F one\n",
    AT.encode() % 1 + b" stderr F warn \x1b[31m\xff\n",
    AT.encode() % 2 + b" stdout P par\n",
    AT.encode() % 3 + b" stdout F tial\n",
    AT.encode() % 4 + b" jobd F 2 lines are missing here\n",
    AT.encode() % 5 + b" stdout P no end",
]
LINES[-1] += b"\n"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as scripted:
        yield scripted


def piece(data: bytes, offset: int, **more: Any) -> list[Any]:
    """An answer of log.read."""
    answer = {
        "run": 7,
        "status": "running",
        "attempt": 1,
        "attempts": 1,
        "offset": offset,
        "data": data,
        "end": False,
        "progress": "",
    }
    return [{**answer, **more}]


def over(offset: int, **more: Any) -> list[Any]:
    """The answer that no more will come."""
    return piece(b"", offset, **{"status": "succeeded", "end": True, **more})


def shown(peer: Scripted, *words: str) -> subprocess.CompletedProcess[bytes]:
    """`jobctl WORDS`."""
    return subprocess.run(
        [sys.executable, "-m", "jobctl", "--home", str(peer.home), *words],
        capture_output=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


def ended(peer: Scripted, **more: Any) -> None:
    run = {"id": 7, "job": "j", "status": "succeeded", "exit_code": 0, "attempts": [], **more}
    peer.on("run.show", [Part({"runs": [run]}), {"count": 1, "single": True}])


def test_streams_go_where_they_belong_byte_for_byte(peer: Scripted) -> None:
    peer.then("log.read", piece(b"".join(LINES[:3]), 10), piece(b"".join(LINES[3:]), 20))
    peer.on("log.read", over(20))
    done = shown(peer, "logs", "7")
    assert done.returncode == 0
    assert done.stdout == b"one\npartial\nno end"
    assert done.stderr == b"warn \x1b[31m\xff\n2 lines are missing here\n"
    assert [a.get("offset") for _, a, _ in peer.asked] == [None, 10, 20]
    assert all("hold" not in a for _, a, _ in peer.asked)


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["--stdout"], b"one\npartial\nno end", b"2 lines are missing here\n"),
        (["--stderr"], b"", b"warn \x1b[31m\xff\n2 lines are missing here\n"),
        (["--stdout", "--tail", "2"], b"tial\nno end", b""),
        (["--stderr", "--tail", "0"], b"", b""),
    ],
)
def test_one_stream_alone(peer: Scripted, words: list[str], out: bytes, err: bytes) -> None:
    peer.then("log.read", piece(b"".join(LINES[:3]), 10), piece(b"".join(LINES[3:]), 20))
    peer.on("log.read", over(20))
    done = shown(peer, "logs", "7", *words)
    assert (done.stdout, done.stderr) == (out, err)
    assert "tail" not in peer.asked[0][1]


def test_options_reach_the_daemon(peer: Scripted) -> None:
    peer.on("log.read", over(0))
    shown(peer, "logs", "last:j", "--attempt", "2", "--tail", "5")
    assert peer.asked[0][1] == {"run": "last:j", "attempt": 2, "tail": 5}
    shown(peer, "logs", "7", "--since", "2026-01-01T00:00:00Z")
    assert peer.asked[-1][1]["since"] == 1_767_225_600_000


def test_timestamps_stand_before_lines_and_not_before_parts(peer: Scripted) -> None:
    peer.then("log.read", piece(b"".join(LINES[:4]), 10))
    peer.on("log.read", over(10))
    done = shown(peer, "logs", "7", "--timestamps", "--stdout")
    assert done.stdout.decode() == f"{AT % 0} one\n{AT % 2} partial\n"


def test_jsonl_lines(peer: Scripted) -> None:
    peer.then("log.read", piece(b"".join(LINES), 10))
    peer.on("log.read", over(10))
    done = shown(peer, "logs", "7", "-o", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[1] == {
        "time": "2026-01-01T00:00:01.000Z",
        "stream": "stderr",
        "text": "warn \x1b[31m\ufffd",
        "partial": False,
        "attempt": 1,
    }
    assert [row["partial"] for row in rows] == [False, False, True, False, False, True]
    assert done.stderr == b""
    assert shown(peer, "logs", "7", "--json").returncode == 2


def on_terminal(peer: Scripted, *words: str) -> bytes:
    """What a terminal gets to see."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobctl", "--home", str(peer.home), *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**ENVIRONMENT, "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(follower)
    seen = b""
    try:
        while data := os.read(leader, 65536):
            seen += data
    except OSError:
        pass  # Linux tells the end of a terminal's other side as EIO
    finally:
        os.close(leader)
        process.wait(30)
    return seen.replace(b"\r\n", b"\n")


def test_a_terminal_is_not_obeying_what_a_job_writes(peer: Scripted) -> None:
    peer.then("log.read", piece(b"".join(LINES), 10))
    peer.on("log.read", over(10))
    seen = on_terminal(peer, "logs", "7")
    assert b"warn \\x1b[31m\\xff\n" in seen
    assert b"\x1b" not in seen
    assert seen.endswith(b"no end\n")
    peer.then("log.read", piece(b"".join(LINES), 10))
    assert b"warn \x1b[31m\xff\n" in on_terminal(peer, "logs", "7", "--raw")
    peer.on("run.result", [Part({"data": b"\x1b[2Jx\n"}), {"size": 6}])
    assert on_terminal(peer, "result", "7") == b"\\x1b[2Jx\n"


def test_following_holds_only_when_all_was_read(peer: Scripted) -> None:
    peer.then("log.read", piece(LINES[0], 10), piece(b"", 10), piece(LINES[1], 20))
    peer.on("log.read", over(20, status="failed"))
    ended(peer, status="failed", exit_code=5)
    done = shown(peer, "logs", "-f", "7")
    assert (done.returncode, done.stdout) == (5, b"one\n")
    asked = [a for verb, a, _ in peer.asked if verb == "log.read"]
    assert [(a.get("offset"), a.get("hold")) for a in asked] == [
        (None, None),
        (10, None),
        (10, HOLD_MS),
        (20, None),
    ]


def test_following_goes_on_over_attempts_that_have_not_begun(peer: Scripted) -> None:
    peer.then(
        "log.read",
        piece(b"", 0, attempt=0, attempts=0, status="starting", progress="pulling 1 of 2"),
        piece(b"", 0, attempt=0, attempts=0, status="starting", progress="pulling 2 of 2"),
        piece(LINES[0], 10, status="retrying", end=True),
        piece(b"", 10, status="retrying", end=True),  # attempt 2 has not begun
        piece(LINES[3], 10, attempt=2, attempts=2, status="running"),
    )
    peer.on("log.read", over(10, attempt=2, attempts=2))
    with Client(home=str(peer.home)) as client:
        lines = list(client.logs(7, follow=True))
    assert [(line["text"], line["attempt"]) for line in lines] == [("one", 1), ("tial", 2)]
    asked = [a for _, a, _ in peer.asked]
    assert [a.get("attempt") for a in asked] == [None, None, None, 2, 2, 2]
    assert asked[2]["progress"] == "pulling 2 of 2"


def test_run_follows_and_exits_as_the_run_did(peer: Scripted) -> None:
    peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
    peer.then(
        "log.read",
        piece(LINES[0], 10),
        piece(b"", 10, status="retrying", end=True),
        piece(LINES[3], 10, attempt=2, attempts=2, status="failed", end=True),
    )
    why = {"code": "backoff", "text": "attempt 2 in 4s: attempt 1 failed with exit status 4"}
    first = {"number": 1, "outcome": "failed", "exit_code": 4}
    ended(peer, status="retrying", attempts=[first], not_before=None)
    peer.then(
        "run.show",
        [
            Part(
                {
                    "runs": [
                        {
                            "id": 7,
                            "job": "j",
                            "status": "retrying",
                            "attempts": [first],
                            "attempts_allowed": 2,
                            "reason": why,
                        }
                    ]
                }
            ),
            {"count": 1, "single": True},
        ],
    )
    ended(peer, status="failed", exit_code=4, attempts=[first, {"number": 2}])
    done = shown(peer, "run", "j", "-p", "x", "--", "--arg")
    assert done.returncode == 4
    assert done.stdout == b"one\ntial\n"
    assert done.stderr.decode().splitlines() == [
        "jobctl: run 7 of j",
        "jobctl: run 7 is retrying: attempt 2 in 4s: attempt 1 failed with exit status 4",
        "jobctl: run 7 failed: exit status 4",
    ]
    assert peer.asked[0][1]["args"] == ["--arg"]


def test_run_in_json_is_one_value(peer: Scripted) -> None:
    peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
    run = {"id": 7, "job": "j", "status": "cancelled", "exit_code": None}
    peer.on("run.wait", [{"ready": True, "runs": [run], "single": True}])
    done = shown(peer, "run", "j", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, run)


def test_ctrl_c_leaves_the_run_and_says_how_to_return(peer: Scripted) -> None:
    peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
    peer.then("log.read", piece(LINES[0], 10))
    peer.on("log.read", lambda a: [] if a.get("hold") else piece(b"", 10))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobctl", "--home", str(peer.home), "run", "j"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"run 7 goes on; return to it with: jobctl logs -f 7" in said
    assert b"Traceback" not in said
    assert "run.cancel" not in peer.verbs()

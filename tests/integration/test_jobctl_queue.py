"""`jobctl queue`: what it asks for, prints and exits with; and what is wrong usage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.codec import MAX_FRAME
from jobd.errors import RefusedError
from jobd.wire import envelope
from tests.support.jobctl import ROOT, RUN, Daemon, queue_answer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as peer:
        peer.on("run.queue", queue_answer)
        yield peer


def test_queue_sends_what_was_said_and_prints_the_id(daemon: Daemon) -> None:
    done = daemon.say(
        "queue j -p hello --priority -3 --in 10m --expires 1d --timeout 90s "
        "--env A=1 --env B=x=y --label team=ops --key K -- --flag --json"
    )
    assert (done.status, done.out) == (0, b"100\n")
    assert daemon.last == {
        "job": "j",
        "payload": b"hello",
        "priority": -3,
        "delay": 600_000,
        "expires": 86_400_000,
        "timeout": 90_000,
        "env": {"A": "1", "B": "x=y"},
        "labels": {"team": "ops"},
        "key": "K",
        "args": ["--flag", "--json"],
    }


def test_global_options_stand_before_or_behind(daemon: Daemon) -> None:
    wanted = {"runs": [{"id": 100, "existing": False}]}
    assert daemon.try_("--json", "queue", "j").json == wanted
    assert daemon.try_("queue", "--json", "j").json == wanted
    assert daemon.try_("queue", "j", "-o", "json").json == wanted
    assert daemon.try_("queue", "j", JOBCTL_OUTPUT="json").json == wanted
    assert daemon.try_("queue", "j", JOBCTL_OUTPUT="jsonl").lines == wanted["runs"]
    assert daemon.try_("-o", "id", "queue", "j", JOBCTL_OUTPUT="json").out == b"100\n"
    assert daemon.try_("queue", "j", "-o", "xml").status == 2
    assert daemon.try_("queue", "j", JOBCTL_OUTPUT="xml").status == 2


def test_a_date_is_echoed_and_sent_as_a_time(daemon: Daemon) -> None:
    done = daemon.try_("queue", "j", "--at", "2100-01-01T00:00:00Z", TZ="UTC")
    assert daemon.last["not_before"] == 4_102_444_800_000
    assert "2100-01-01 00:00:00 +0000" in done.err
    assert done.out == b"100\n"


def test_payloads_come_from_files_and_stdin_byte_for_byte(daemon: Daemon, tmp_path: Path) -> None:
    odd = bytes(range(256))
    (tmp_path / "p").write_bytes(odd)
    daemon.try_("queue", "j", "-f", tmp_path / "p")
    assert daemon.last["payload"] == odd
    daemon.try_("queue", "j", "-f", "-", stdin=odd)
    assert daemon.last["payload"] == odd
    daemon.try_("queue", "j", "-f", "-", stdin=b"")
    assert "payload" not in daemon.last
    done = daemon.try_("queue", "j", "-f", tmp_path / "none")
    assert done.status == 2
    assert "No such file" in done.err


def test_a_large_payload_is_uploaded_in_chunks_before(daemon: Daemon) -> None:
    daemon.on("upload.put", [{"size": 0}])
    big = os.urandom(envelope.CHUNK * 2 + 5)
    assert daemon.try_("queue", "j", "-f", "-", stdin=big).status == 0
    assert daemon.verbs() == ["upload.put", "upload.put", "upload.put", "run.queue"]
    puts = [arguments for _, arguments, _ in daemon.asked[:3]]
    assert b"".join(put["data"] for put in puts) == big
    assert [put["offset"] for put in puts] == [0, envelope.CHUNK, envelope.CHUNK * 2]
    assert [put["last"] for put in puts] == [False, False, True]
    assert {put["upload"] for put in puts} == {daemon.last["upload"]}
    keys = [key for _, _, key in daemon.asked]
    assert len(set(keys)) == 4


def test_a_payload_of_exactly_one_chunk_goes_along(daemon: Daemon) -> None:
    daemon.try_("queue", "j", "-f", "-", stdin=b"x" * envelope.CHUNK)
    assert daemon.verbs() == ["run.queue"]


def test_each_line_is_a_run_and_frames_stay_small(daemon: Daemon) -> None:
    lines = [b"%d" % n * 150 for n in range(2500)]
    done = daemon.try_("queue", "j", "--each-line", "-", stdin=b"\n".join(lines) + b"\n\n")
    assert done.status == 0
    assert len(done.out.splitlines()) == 2500
    sent = [arguments["payloads"] for _, arguments, _ in daemon.asked]
    assert [payload for batch in sent for payload in batch] == lines
    assert all(sum(map(len, batch)) < MAX_FRAME * 3 // 4 for batch in sent)
    assert all(len(batch) <= 1000 for batch in sent)
    assert "empty lines were left out: 1" in done.err
    assert (
        len(daemon.try_("queue", "j", "--each-line", "-", "--json", stdin=b"a\nb").json["runs"])
        == 2
    )


def test_what_was_queued_before_an_error_is_told(daemon: Daemon) -> None:
    daemon.then("run.queue", queue_answer({"count": 1000}), [RefusedError("queue is full")])
    done = daemon.try_("queue", "j", "--count", "1500")
    assert done.status == 75
    assert len(done.out.splitlines()) == 1000
    assert "1000 runs were queued, then: queue is full" in done.err
    daemon.then("run.queue", queue_answer({"count": 1000}), [RefusedError("queue is full")])
    told = daemon.try_("queue", "j", "--count", "1500", "--json").json
    assert len(told["runs"]) == 1000
    assert told["error"]["code"] == "refused"


def test_an_existing_run_is_told(daemon: Daemon) -> None:
    daemon.on("run.queue", [{"runs": [[9, True]], "warnings": ["the payload differs"]}])
    done = daemon.try_("queue", "j", "--key", "K")
    assert (done.status, done.out) == (0, b"9\n")
    assert "the payload differs" in done.err
    assert "has the key 'K' already" in done.err


def test_a_dry_run_queues_nothing(daemon: Daemon) -> None:
    daemon.on("run.queue", [{"settings": {"priority": 3, "resources": {"cpus": 1}}}])
    done = daemon.try_("queue", "j", "--dry-run", "--json")
    assert done.json == {
        "runs": [],
        "dry_run": True,
        "settings": {"priority": 3, "resources": {"cpus": 1}},
    }
    assert daemon.last["dry_run"] is True
    assert b"resources.cpus" in daemon.try_("queue", "j", "--dry-run").out


def test_queue_and_wait_exits_as_the_run_did(daemon: Daemon) -> None:
    daemon.on("run.wait", [{"ready": True, "runs": [RUN], "single": True}])
    daemon.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
    done = daemon.try_("queue", "j", "--wait")
    assert (done.status, done.out) == (3, b"7\n")
    assert "run 7 failed: exit status 3" in done.err
    done = daemon.try_("queue", "j", "--wait", "--json")
    assert done.status == 3
    assert done.json == {"runs": [{"id": 7, "existing": False, "status": "failed", "exit_code": 3}]}


@pytest.mark.parametrize(
    "words",
    [
        "queue",
        "queue 42",
        "queue j extra",
        "queue j -p x -f y",
        "queue j --count 0",
        "queue j --count 2 --key K",
        "queue j --each-line f -p x",
        "queue j --in 10m --at 10m",
        "queue j --env A",
        "queue j --in soon",
        "queue j --priority high",
        "queue j --after 3:never",
        "ls --limit 0",
        "logs 1-3",
        "logs",
        "wait",
        "wait j",
        "cancel",
        "cancel 3 --job j",
        "cancel 3 --status queued",
        "show all",
        "show 3 j",
        "register",
        "register --process img",
        "ls --request-timeout 0",
        "ls --request-key zz",
        "frobnicate",
        "",
    ],
)
def test_wrong_usage_is_2_and_asks_nothing(daemon: Daemon, words: str) -> None:
    done = daemon.say(words)
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith("jobctl: ")
    done = daemon.try_("--json", *words.split())
    assert done.status == 2
    assert done.json["error"]["code"] == "usage"
    assert done.err == ""
    assert daemon.asked == []


def test_text_that_is_no_utf8_is_a_payload_but_no_variable(daemon: Daemon) -> None:
    words = [sys.executable, "-m", "jobctl", "queue", "j"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_HOME": str(daemon.home)}
    for more, status in (([b"-p", b"\xff"], 0), ([b"--env", b"A=\xff"], 2)):
        done = subprocess.run(
            [*map(os.fsencode, words), *more], env=environment, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr
    assert daemon.last["payload"] == b"\xff"

"""What the verbs of jobctl ask for, print and exit with, against a peer that is told its part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.commands.register import default_name
from jobd.codec import MAX_FRAME
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from jobd.wire import envelope
from tests.support.scripted import Part, Scripted

ROOT = Path(__file__).resolve().parent.parent.parent

RUN: dict[str, Any] = {
    "id": 7,
    "job": "j",
    "revision": 2,
    "status": "failed",
    "dead": True,
    "reason": {"code": "failed", "text": "exit status 3"},
    "priority": 5,
    "trigger": {"kind": "cli", "name": None, "scheduled_at": None},
    "labels": {"team": "a\x1b[2J"},
    "key": "K",
    "retry_of": None,
    "queued_at": 1_700_000_000_123,
    "not_before": None,
    "started_at": 1_700_000_001_000,
    "finished_at": 1_700_000_003_500,
    "exit_code": 3,
    "attempts": [
        {"number": 1, "outcome": "failed", "exit_code": 3, "started_at": 1_700_000_001_000}
    ],
}
GOOD = {**RUN, "id": 8, "status": "succeeded", "exit_code": 0, "dead": False, "reason": None}


class Tried:
    """How a command ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr.decode()

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        assert self.out.isascii()
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Daemon(Scripted):
    """A scripted peer with its client beside it."""

    def try_(self, *words: str | Path, stdin: bytes = b"", **environment: str) -> Tried:
        """`jobctl WORDS` at this peer."""
        return Tried(
            subprocess.run(
                [sys.executable, "-m", "jobctl", *map(str, words)],
                input=stdin,
                capture_output=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "JOBCTL_HOME": str(self.home),
                    **environment,
                },
                timeout=60,
                check=False,
            )
        )

    @property
    def last(self) -> dict[str, Any]:
        """The arguments of the last request."""
        return self.asked[-1][1]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as peer:
        peer.on("run.queue", queue_answer)
        yield peer


def queue_answer(arguments: dict[str, Any]) -> list[Any]:
    count = len(arguments["payloads"]) if "payloads" in arguments else arguments.get("count", 1)
    return [{"runs": [[100 + n, False] for n in range(count)], "warnings": []}]


# --- queue ------------------------------------------------------------------------------------


def test_queue_sends_what_was_said_and_prints_the_id(daemon: Daemon) -> None:
    done = daemon.try_(
        *[
            "queue",
            "j",
            "-p",
            "hello",
            "--priority",
            "-3",
            "--in",
            "10m",
            "--expires",
            "1d",
            "--timeout",
            "90s",
        ],
        *[
            "--env",
            "A=1",
            "--env",
            "B=x=y",
            "--label",
            "team=ops",
            "--key",
            "K",
            "--",
            "--flag",
            "--json",
        ],
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
        "queue j --after 3",
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
    done = daemon.try_(*words.split())
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


# --- lists ------------------------------------------------------------------------------------


def test_ls_asks_and_shows(daemon: Daemon) -> None:
    daemon.on(
        "run.list", [Part({"runs": [RUN]}), Part({"runs": [GOOD]}), {"count": 2, "more": True}]
    )
    done = daemon.try_(
        *[
            "ls",
            "--status",
            "failed,dead",
            "--job",
            "j",
            "--label",
            "team=a",
            "--limit",
            "2",
            "--all",
        ]
    )
    assert done.status == 0
    assert daemon.last == {
        "status": ["failed", "dead"],
        "job": "j",
        "labels": {"team": "a"},
        "limit": 2,
        "all": True,
    }
    head, first, second = done.out.decode().splitlines()
    assert head.split() == (
        [
            "ID",
            "JOB",
            "STATUS",
            "AGE",
            "STARTED",
            "DURATION",
            "ATTEMPT",
            "PRIORITY",
            "KEY",
            "LABELS",
            "REASON",
        ]
    )
    assert "team=a\\x1b[2J" in first
    assert first.endswith("exit status 3")
    assert " 2.5s " in first
    assert second.startswith("8 ")
    assert "shows more" in done.err
    assert daemon.try_("ls", "-o", "id").out == b"7\n8\n"


def test_json_rows_have_the_whole_shape_with_iso_times(daemon: Daemon) -> None:
    daemon.on("run.list", [Part({"runs": [RUN]}), {"count": 1, "more": False}])
    (row,) = daemon.try_("ls", "--json").json
    assert row["queued_at"] == "2023-11-14T22:13:20.123Z"
    assert row["attempts"][0]["started_at"] == "2023-11-14T22:13:21.000Z"
    assert row["not_before"] is None
    assert row.keys() == RUN.keys()
    assert daemon.try_("ls", "-o", "jsonl").lines == [row]


def test_empty_lists(daemon: Daemon) -> None:
    daemon.on("run.list", [{"count": 0, "more": False}])
    daemon.on("job.list", [{"count": 0}])
    for verb in ("ls", "jobs"):
        assert daemon.try_(verb, "--json").json == []
        assert daemon.try_(verb, "-o", "jsonl").out == b""
        done = daemon.try_(verb)
        assert (done.status, done.out) == (0, b"")
        assert "no " in done.err


def test_show_takes_a_run_or_a_job(daemon: Daemon) -> None:
    daemon.on("run.show", [Part({"runs": [RUN]}), {"count": 1, "single": True}])
    daemon.on("job.show", [{"name": "j", "image": "busybox", "command": ["echo", "a b"]}])
    assert daemon.try_("show", "7", "--json").json["id"] == 7
    text = daemon.try_("show", "last:j").out.decode()
    assert daemon.last == {"runs": ["last:j"]}
    assert "run 7 of j: failed (dead)" in text
    assert "ATTEMPT" in text
    assert "\x1b" not in text
    assert daemon.try_("show", "j", "--json").json["image"] == "busybox"
    assert b"echo 'a b'" in daemon.try_("show", "j").out
    daemon.on("run.show", [Part({"runs": [RUN, GOOD]}), {"count": 2, "single": False}])
    assert [row["id"] for row in daemon.try_("show", "7-8", "--json").json] == [7, 8]


def test_errors_of_the_daemon_keep_code_and_status(daemon: Daemon) -> None:
    daemon.on("job.show", [NotFoundError("job nope: not registered")])
    done = daemon.try_("show", "nope")
    assert (done.status, done.err) == (66, "jobctl: job nope: not registered\n")
    assert daemon.try_("show", "nope", "--json").json == {
        "error": {"code": "not-found", "message": "job nope: not registered"}
    }
    daemon.on("job.register", [InvalidError("job j: resources.memory: 'x' is not a size")])
    assert daemon.try_("register", "--memory", "x", "img").status == 78


# --- the others -------------------------------------------------------------------------------


def test_register_sends_a_job_file(daemon: Daemon) -> None:
    daemon.on("job.register", [{"job": "j", "revision": 1, "changed": True, "warnings": ["w"]}])
    words = (
        "register --env A=1 --cpus 0.5 --memory 128M --timeout 10m --attempts 5 --retry-delay 10s "
        "--retry-factor 2 --retry-max-delay 10m --stop-grace 5s --stop-signal SIGINT --pids 9 "
        "--user 1000 --pull never --concurrency 2 --priority 3 --network none "
        "--secret K=name 127.0.0.1:5000/sendemail:0.0.1 ruby --name x --json"
    )
    done = daemon.try_(*words.split())
    assert (done.status, done.out) == (0, b"j: revision 1\n")
    assert "jobctl: w" in done.err
    assert daemon.last["spec"] == {
        "name": "sendemail",
        "image": "127.0.0.1:5000/sendemail:0.0.1",
        "command": ["ruby", "--name", "x", "--json"],
        "env": {"A": "1"},
        "secrets": {"K": "name"},
        "resources": {"cpus": 0.5, "memory": "128M", "pids": 9},
        "timeout": "10m",
        "retry": {"attempts": 5, "delay": "10s", "factor": 2, "max_delay": "10m"},
        "stop_grace": "5s",
        "stop_signal": "SIGINT",
        "user": "1000",
        "pull": "never",
        "limits": {"concurrency": 2},
        "priority": 3,
        "network": "none",
    }


def test_help_behind_the_image_is_the_commands(daemon: Daemon) -> None:
    daemon.on("job.register", [{"job": "j", "revision": 1, "changed": True, "warnings": []}])
    assert daemon.try_("register", "--name", "j", "img", "--help").status == 0
    assert daemon.last["spec"]["command"] == ["--help"]
    assert b"usage:" in daemon.try_("register", "--name", "j", "--help", "img").out


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "busybox"),
        ("a/b:1", "b"),
        ("h:5000/x/y", "y"),
        ("b@sha256:00", "b"),
        ("h:5000/x/y:1@sha256:00", "y"),
    ],
)
def test_the_name_comes_from_the_image(image: str, name: str) -> None:
    assert default_name(image) == name


def test_wait_exits_as_the_run_did(daemon: Daemon) -> None:
    not_yet = {"ready": False, "runs": [{**RUN, "status": "running"}], "single": True}
    daemon.then("run.wait", [not_yet])
    daemon.on("run.wait", [{"ready": True, "runs": [RUN], "single": True}])
    done = daemon.try_("wait", "7", "--json")
    assert (done.status, done.json["id"]) == (3, 7)
    assert daemon.last == {"runs": ["7"], "for": "done", "hold": envelope.HOLD_MS}
    daemon.on("run.wait", [{"ready": True, "runs": [GOOD], "single": False}])
    daemon.on("run.list", [Part({"runs": [RUN, GOOD]}), {"count": 2, "more": False}])
    done = daemon.try_("wait", "7-8", "--json")
    assert (done.status, len(done.json)) == (1, 2)
    daemon.on("run.wait", [not_yet])
    done = daemon.try_("wait", "7", "--timeout", "300ms")
    assert done.status == 124
    assert "run 7 is running" in done.err
    assert daemon.last["hold"] <= 300
    daemon.on("run.wait", [{"ready": True, "runs": [{**RUN, "status": "running"}], "single": True}])
    assert daemon.try_("wait", "7", "--for", "running").status == 0


def test_cancel(daemon: Daemon) -> None:
    daemon.on("run.cancel", [{"runs": [[7, "cancelled"]], "count": 1}])
    assert daemon.try_("cancel", "7", "--json").json == {"id": 7, "status": "cancelled"}
    assert daemon.try_("cancel", "7-9", "--json").json == [{"id": 7, "status": "cancelled"}]
    assert daemon.try_("cancel", "7").out == b"7 cancelled\n"
    daemon.try_("cancel", "--job", "j", "--status", "queued,delayed")
    assert daemon.last == {"job": "j", "status": ["queued", "delayed"]}


def test_pause_resume_unregister(daemon: Daemon) -> None:
    daemon.on("job.pause", [{"job": "j", "paused": True, "changed": True}])
    daemon.on("job.resume", [{"job": "j", "paused": False, "changed": False}])
    daemon.on("job.unregister", [ConflictError("job j: it has 2 live runs")])
    assert daemon.try_("pause", "j").out == b"j: paused\n"
    assert daemon.try_("resume", "j", "--json").json["paused"] is False
    assert daemon.try_("unregister", "j").status == 73


def test_result_and_payload_are_bytes(daemon: Daemon) -> None:
    odd = bytes(range(256)) * 10
    daemon.on("run.result", [Part({"data": odd[:100]}), Part({"data": odd[100:]}), {"size": 2560}])
    assert daemon.try_("result", "7").out == odd
    told = daemon.try_("result", "7", "--json").json
    assert (told["encoding"], told["size"]) == ("base64", 2560)
    daemon.on("run.payload", [Part({"data": "ü".encode()}), {"size": 2}])
    assert daemon.try_("payload", "7").out == "ü".encode()
    assert daemon.try_("payload", "last", "--json").json["data"] == "ü"
    daemon.on("run.result", [ConflictError("run 7: it has not ended")])
    assert daemon.try_("result", "7").status == 73


def test_status_says_trouble_first(daemon: Daemon) -> None:
    status = {
        "version": "0.1.0",
        "uptime_s": 3700,
        "engine": {"name": "docker", "version": "20.10", "reachable": False},
        "capacity": {
            "cpus": 4.0,
            "memory": 12 << 30,
            "reserved_cpus": 1.5,
            "reserved_memory": 3 << 30,
            "used_cpu": 0.5,
            "available_memory": 8 << 30,
            "pressure": None,
        },
        "counts": {"queued": 2, "running": 1},
        "draining": True,
        "journal": {"bytes": 4096, "segments": 1, "last_sync_ms": 0.3},
        "jobs": 3,
        "waiting": [{"reason": "engine", "runs": 2, "text": "docker is out of reach"}],
    }
    daemon.on("status", [status])
    lines = daemon.try_("status").out.decode().splitlines()
    assert "DRAINING" in lines[0]
    assert "OUT OF REACH" in lines[1]
    text = "\n".join(lines)
    assert "1.5 of 4 reserved" in text
    assert "3G of 12G reserved" in text
    assert "2 queued, 1 running" in text
    assert "2 wait: engine: docker is out of reach" in text
    assert daemon.try_("status", "--json").json == status


def test_a_reader_that_leaves_is_no_error(daemon: Daemon) -> None:
    rows = [{**GOOD, "id": n} for n in range(3000)]
    daemon.on("run.list", [Part({"runs": rows}), {"count": 3000, "more": False}])
    words = f"{sys.executable} -m jobctl ls --home {daemon.home} | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", words],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    assert done.stdout.startswith(b"ID")


def test_a_full_disk_behind_stdout_is_told(daemon: Daemon) -> None:
    daemon.on("run.list", [Part({"runs": [GOOD]}), {"count": 1, "more": False}])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jobctl", "ls", "--home", str(daemon.home)],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr == b"jobctl: output: No space left on device\n"


def test_a_bug_is_70_and_says_so(daemon: Daemon) -> None:
    daemon.on("run.queue", [{"runs": "nonsense", "warnings": []}])
    done = daemon.try_("queue", "j")
    assert done.status == 70
    assert "this is a bug in jobctl" in done.err
    assert "Traceback" not in done.err

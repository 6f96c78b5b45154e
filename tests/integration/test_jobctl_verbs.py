"""What the verbs of jobctl ask for, print and exit with, against a peer that is told its part."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.commands.register import default_name
from jobd.errors import ConflictError, InvalidError, NotFoundError
from jobd.wire import envelope
from tests.support.jobctl import GOOD, ROOT, RUN, Daemon, queue_answer
from tests.support.scripted import Part


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as peer:
        peer.on("run.queue", queue_answer)
        yield peer


# --- lists ------------------------------------------------------------------------------------


def test_ls_asks_and_shows(daemon: Daemon) -> None:
    daemon.on(
        "run.list", [Part({"runs": [RUN]}), Part({"runs": [GOOD]}), {"count": 2, "more": True}]
    )
    done = daemon.say("ls --status failed,dead --job j --label team=a --limit 2 --all")
    assert done.status == 0
    assert daemon.last == {
        "status": ["failed", "dead"],
        "job": "j",
        "labels": {"team": "a"},
        "limit": 2,
        "all": True,
    }
    head, first, second = done.out.decode().splitlines()
    titles = "ID JOB STATUS AGE STARTED DURATION ATTEMPT PRIORITY KEY LABELS REASON"
    assert head.split() == titles.split(" ")
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
    done = daemon.say(words)
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

"""jobctl against the daemon itself (with the engine that runs no containers), as it is used."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.client import Client
from jobd.errors import InvalidError, NotFoundError, TimeOverError
from tests.support.served import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "home")
    one.start()
    yield one
    one.end(signal.SIGTERM)


def test_the_main_job_by_the_command_line(daemon: Daemon) -> None:
    options = ["--name", "mail", "--attempts", "3", "--retry-delay", "100ms"]
    steps = ["payload", "lines=3", "fail-until=2", "result=sent"]
    assert daemon.jobctl("register", *options, "img", *steps).returncode == 0
    done = daemon.jobctl("run", "mail", "-f", "-", stdin=b"to: ops\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"to: ops\nline 0\nline 1\n" * 2
    assert b"attempt 1 failed with exit status 1" in done.stderr
    assert daemon.jobctl("result", "last").stdout == b"sent"
    assert daemon.jobctl("payload", "last:mail").stdout == b"to: ops\n"
    assert daemon.jobctl("logs", "1", "--attempt", "1", "--stderr").stderr == b"line 2\n"
    row = json.loads(daemon.jobctl("show", "1", "--json").stdout)
    assert [a["outcome"] for a in row["attempts"]] == ["failed", "succeeded"]
    assert b"succeeded" in daemon.jobctl("ls").stdout
    assert b"fake" in daemon.jobctl("status").stdout
    assert daemon.jobctl("queue", "mail", "--in", "1h").stdout == b"2\n"
    assert daemon.jobctl("unregister", "mail").returncode == 73
    assert daemon.jobctl("cancel", "--job", "mail").stdout == b"2 cancelled\n"
    assert daemon.jobctl("wait", "2").returncode == 1


def test_the_python_api(daemon: Daemon) -> None:
    with Client(home=str(daemon.home)) as jobd:
        jobd.register({"name": "j", "image": "img", "command": ["print=hi", "exit=5"]})
        number = jobd.queue("j", labels={"a": "b"})["runs"][0]["id"]
        assert jobd.wait(number)["exit_code"] == 5
        assert [line["text"] for line in jobd.logs(number, follow=True)] == ["hi"]
        assert [row["id"] for row in jobd.runs(labels={"a": "b"})] == [number]
        big = os.urandom(1_500_000)
        assert jobd.payload(jobd.queue("j", big)["runs"][0]["id"]) == big
        later = jobd.queue("j", delay=3600)["runs"][0]["id"]
        with pytest.raises(TimeOverError, match=f"run {later} is delayed"):
            jobd.wait(later, timeout=0.2)
        assert jobd.cancel(later) == {"id": later, "status": "cancelled"}
        assert jobd.pause("j")["paused"] is True
        with pytest.raises(NotFoundError):
            jobd.result(number)
        with pytest.raises(InvalidError, match=r"resources\.cpus"):
            jobd.register({"name": "j", "image": "img", "resources": {"cpus": "many"}})


def test_the_same_request_key_queues_once(daemon: Daemon) -> None:
    daemon.jobctl("register", "--name", "j", "img", "print=x")
    words = ("queue", "j", "--each-line", "-", "--request-key", "0" * 31 + "1")
    first, second = (daemon.jobctl(*words, stdin=b"a\nb\nc\n").stdout for _ in range(2))
    assert first.split() == second.split() == [b"1", b"2", b"3"]
    assert daemon.jobctl("queue", "j").stdout == b"4\n"


def test_many_runs_are_waited_for_and_listed(daemon: Daemon) -> None:
    daemon.jobctl("register", "--name", "j", "--concurrency", "1", "img", "exit=0")
    daemon.jobctl("pause", "j")
    done = daemon.jobctl("queue", "j", "--count", "1200")
    assert [int(line) for line in done.stdout.split()] == list(range(1, 1201))
    assert len(daemon.jobctl("ls", "--all", "-o", "id").stdout.split()) == 1200
    assert len(daemon.jobctl("ls", "-o", "id").stdout.split()) == 50
    daemon.jobctl("cancel", "1-1199")
    daemon.jobctl("resume", "j")
    done = daemon.jobctl("wait", "1-1200", "--json")
    rows = json.loads(done.stdout)
    assert (done.returncode, len(rows)) == (1, 1200)
    assert daemon.jobctl("wait", "1200").returncode == 0


def test_following_outlives_a_kill_of_the_daemon(daemon: Daemon) -> None:
    daemon.jobctl("register", "--name", "j", "img", "print=x", "exit=6")
    with daemon.follow("run", "j", "--in", "2s") as process:
        assert process.stderr is not None
        # acknowledged; whether it has asked for the log already or not, it has to go on
        assert process.stderr.readline() == b"jobctl: run 1 of j\n"
        daemon.end(signal.SIGKILL)
        daemon.start()
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (6, b"x\n"), said


def test_ctrl_c_leaves_the_run_and_logs_returns_to_it(daemon: Daemon) -> None:
    daemon.jobctl("register", "--name", "j", "img", "print=on", "sleep=2", "exit=4")
    with daemon.follow("run", "j") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"jobctl logs -f 1" in said
    done = daemon.jobctl("logs", "-f", "1")
    assert (done.returncode, done.stdout) == (4, b"on\n")

"""Thousands of runs from one command: several requests, one batch, and what an end midway says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobd.codec import MAX_FRAME
from jobd.wire import envelope
from tests.support.jobctl import ROOT, Daemon, queue_answer
from tests.support.served import Daemon as Served


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as peer:
        peer.on("run.queue", queue_answer)
        yield peer


@pytest.mark.parametrize("words", ["--count 2500", "--each-line -"])
def test_requests_of_one_command_are_one_batch_with_keys_of_their_own(
    daemon: Daemon, words: str
) -> None:
    done = daemon.try_("queue", "j", *words.split(), stdin=b"x\n" * 2500)
    assert done.status == 0, done.err
    assert len({key for _, _, key in daemon.asked}) == 3
    assert len({arguments["batch"] for _, arguments, _ in daemon.asked}) == 1
    assert [arguments["batch_offset"] for _, arguments, _ in daemon.asked] == [0, 1000, 2000]


def test_large_options_make_smaller_requests(daemon: Daemon) -> None:
    # each run's record has them whole: the daemon takes 8 MiB at once
    done = daemon.try_("queue", "j", "--count", "300", "--env", "A=" + "x" * 100_000)
    assert done.status == 0, done.err
    counts = [arguments["count"] for _, arguments, _ in daemon.asked]
    assert sum(counts) == 300
    assert max(counts) * 400_000 <= 8 << 20


def test_a_large_line_is_uploaded_by_itself(daemon: Daemon) -> None:
    large = b"L" * (envelope.CHUNK + 1)
    daemon.on("upload.put", [{"size": 1}])
    done = daemon.try_("queue", "j", "--each-line", "-", stdin=b"a\n" + large + b"\nb\n")
    assert (done.status, len(done.out.split())) == (0, 3)
    verbs = ["run.queue", "upload.put", "upload.put", "run.queue", "run.queue"]
    assert daemon.verbs() == verbs
    assert all(len(arguments.get("data", b"")) < MAX_FRAME for _, arguments, _ in daemon.asked)


def test_ctrl_c_midway_tells_what_is_queued_and_how_to_go_on(daemon: Daemon) -> None:
    second = threading.Event()

    def answer(arguments: dict[str, Any]) -> list[Any]:
        if arguments["batch_offset"] == 0:
            return queue_answer(arguments)
        second.set()
        return []

    daemon.on("run.queue", answer)
    with subprocess.Popen(
        [sys.executable, "-m", "jobctl", "queue", "j", "--count", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_HOME": str(daemon.home)},
    ) as process:
        assert second.wait(30)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(out.split()) == 1000
    assert b"1000 runs are queued for certain, the last is 1099" in said
    key = said.split(b"--request-key ")[1].split()[0].decode()
    first, lost = (key for _, _, key in daemon.asked[:2])
    daemon.asked.clear()
    daemon.on("run.queue", queue_answer)
    again = daemon.try_("queue", "j", "--count", "3000", "--request-key", key)
    assert (again.status, len(again.out.split())) == (0, 3000)
    assert [key for _, _, key in daemon.asked[:2]] == [first, lost]


def test_progress_is_for_terminals_alone(daemon: Daemon) -> None:
    done = daemon.try_("queue", "j", "--count", "2500")
    assert (done.status, done.err) == (0, "")


def test_the_daemon_takes_what_the_client_sends(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "home")
    daemon.start()
    try:
        daemon.jobctl("register", "--name", "j", "img", "env=BATCH_INDEX", "exit=0")
        daemon.jobctl("pause", "j")
        lines = b"".join(b"%d %s\n" % (n, b"x" * 500) for n in range(5000))
        done = daemon.jobctl("queue", "j", "--each-line", "-", stdin=lines)
        assert [int(word) for word in done.stdout.split()] == list(range(1, 5001)), done.stderr
        assert daemon.jobctl("payload", "4321").stdout == lines.split(b"\n")[4320]
        options = ["--label", "l=" + "y" * 900, "--env", "A=" + "z" * 2000]
        done = daemon.jobctl("queue", "j", "--count", "2000", *options)
        assert len(done.stdout.split()) == 2000, done.stderr
        # the last of the first command knows its place among all five thousand
        daemon.jobctl("cancel", "1-4999")
        daemon.jobctl("resume", "j")
        daemon.jobctl("wait", "5000")
        assert b"4999" in daemon.jobctl("logs", "5000").stdout
        daemon.jobctl("cancel", "--job", "j")
    finally:
        daemon.end(signal.SIGTERM)

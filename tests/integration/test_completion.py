"""Completion: in real shells on a terminal of their own, and within its time."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.cli import VERBS
from jobctl.completing import STATUS_WORDS
from jobd.core.states import Status
from tests.support.scripted import Part, Scripted
from tests.support.served import ENVIRONMENT, ROOT, Daemon

PATIENCE = 30.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    one = Daemon(tmp_path_factory.mktemp("c") / "home")
    one.start()
    for name in ("sendemail", "send-news", "other"):
        one.jobctl("register", "--name", name, "img", "exit=0")
    one.jobctl("pause", "other")
    one.jobctl("queue", "other", "--count", "3")
    yield one
    one.end(signal.SIGTERM)


def complete(home: Path, *words: str) -> list[str]:
    """The candidates, without what they are."""
    done = subprocess.run(
        [sys.executable, "-m", "jobctl", "__complete", *words],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "JOBCTL_HOME": str(home)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("unr", ["unregister"]),
        ("help ca", ["cancel"]),
        ("-o js", ["json", "jsonl"]),
        ("queue s", ["send-news", "sendemail"]),
        ("--json queue s", ["send-news", "sendemail"]),
        ("queue --priority 3 s", ["send-news", "sendemail"]),
        ("queue sendemail s", []),
        ("queue sendemail --prio", ["--priority"]),
        ("queue sendemail -f x", [":files"]),
        ("queue sendemail -- ", []),
        ("show ", ["other", "send-news", "sendemail", "3", "2", "1", "last"]),
        ("wait 1 2,", ["2,3", "2,2", "2,1"]),
        ("logs last:o", ["last:other"]),
        ("ls --job o", ["other"]),
        ("ls --job=o", ["--job=other"]),
        ("ls --status failed,su", ["failed,succeeded"]),
        ("wait --for r", ["running"]),
        ("completion f", ["fish"]),
        ("frobnicate x", []),
    ],
)
def test_candidates(daemon: Daemon, words: str, found: list[str]) -> None:
    assert complete(daemon.home, *words.split(" ")) == found


def test_the_words_are_all_there() -> None:
    assert set(STATUS_WORDS.split()) == {str(word) for word in Status} | {"dead"}


def test_without_a_word_all_verbs_are_there(tmp_path: Path) -> None:
    assert complete(tmp_path) == list(VERBS)
    assert "--home" in complete(tmp_path, "-")


def test_where_no_daemon_answers_nothing_is_said(tmp_path: Path) -> None:
    assert complete(tmp_path, "queue", "") == []


def test_a_daemon_that_hangs_does_not_hang_the_shell(tmp_path: Path) -> None:
    with Scripted(tmp_path, health={"phase": "silent"}) as peer:
        peer.on("job.list", lambda arguments: [])
        assert complete(tmp_path, "queue", "") == []


def test_names_are_escaped_by_leaving_them_out(tmp_path: Path) -> None:
    rows = [{"name": "a\x1b[2J", "revision": 1, "paused": False}]
    with Scripted(tmp_path) as peer:
        peer.on("job.list", [{"count": 1}])
        assert complete(tmp_path, "queue", "") == []
        peer.on("job.list", [Part({"jobs": rows}), {"count": 1}])
        assert complete(tmp_path, "queue", "") == []


class Terminal:
    """An interactive shell on a pseudo terminal."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            os.execvpe(words[0], words, environment)
        self._pid = pid
        self.said = ""

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self._fd, text.encode())

    def until(self, text: str) -> None:
        """Reads until the terminal has shown `text`."""
        end = time.monotonic() + PATIENCE
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} is not in {self.said[-2000:]!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                self.said += os.read(self._fd, 65536).decode("utf-8", "replace")

    def close(self) -> None:
        """Ends the shell."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ["source <(jobctl completion bash)"]),
    "zsh": (
        ["zsh", "-f", "-i"],
        ["autoload -U compinit; compinit -u -D", "source <(jobctl completion zsh)"],
    ),
    "fish": (["fish", "--no-config", "-i"], ["jobctl completion fish | source"]),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_in_a_real_shell(daemon: Daemon, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "jobctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobctl "$@"\n')
    program.chmod(0o755)
    (tmp_path / "payload.json").write_text("{}")
    words, setup = SHELLS[shell]
    terminal = Terminal(
        words,
        {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "JOBCTL_HOME": str(daemon.home),
            "TERM": "xterm",
            "PS1": "> ",
        },
    )
    try:
        for line in [*setup, f"cd {tmp_path}"]:
            terminal.type(line + "\r")
        terminal.type("echo re''ady\r")
        terminal.until("ready")
        for number, (typed, whole) in enumerate(
            [
                ("unreg", "unregister"),
                ("queue sende", "queue sendemail"),
                ("queue sendemail -f payl", "queue sendemail -f payload.json"),
                ("logs last:sende", "logs last:sendemail"),
                ("ls --job=oth", "ls --job=other"),
            ]
        ):
            # the word is completed, then the whole line is echoed instead of run
            terminal.type(f"jobctl {typed}\t")
            time.sleep(0.4)  # a shell may take what is typed during a completion as part of it
            terminal.type(f"\x01echo {number}= \r")
            terminal.until(f"{number}= jobctl {whole}")
    finally:
        terminal.close()

"""`jobctl` as a process, beside a scripted peer that it talks to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.scripted import Scripted

ROOT = Path(__file__).resolve().parent.parent.parent


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

    def say(self, text: str) -> Tried:
        """`jobctl TEXT`, words apart by blanks."""
        return self.try_(*text.split())

    @property
    def last(self) -> dict[str, Any]:
        """The arguments of the last request."""
        return self.asked[-1][1]


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


def queue_answer(arguments: dict[str, Any]) -> list[Any]:
    """What the daemon answers to `run.queue`: ids from 100 on."""
    count = len(arguments["payloads"]) if "payloads" in arguments else arguments.get("count", 1)
    return [{"runs": [[100 + n, False] for n in range(count)], "warnings": []}]

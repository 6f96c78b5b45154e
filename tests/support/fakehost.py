"""A real daemon with the fake engine; `jobctl` runs in this process, in milliseconds."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobctl.cli import main
from jobctl.client import Client

ROOT = Path(__file__).resolve().parent.parent.parent

#: seconds until a test gives up on something that has to come; never what is measured
PATIENCE = 60.0

#: for programs of this tree
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

#: in a job's definition: so little that many of its runs are active at once
SMALL = {"resources": {"cpus": 0.01, "memory": "8M"}}


class Said:
    """How a `jobctl` ended, and what it wrote."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out.decode(), err.decode()

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class FakeHost:
    """`jobd run --engine fake`, started, killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> FakeHost:
        """Returns once it is ready."""
        words = [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", "fake"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT)
        assert self._process.stdout is not None
        assert b"ready" in self._process.stdout.readline()
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it by a signal."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        process.send_signal(number)
        process.wait(PATIENCE)
        process.stdout.close()

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kills it, and starts it again on what it left."""
        self.end(number)
        self.start()

    def client(self, **options: Any) -> Client:
        """A connection to it."""
        return Client(home=str(self.home), **options)

    def ctl(self, *words: str, stdin: bytes = b"") -> Said:
        """`jobctl WORDS`, here; its output is a pipe's, not a terminal's."""
        kept = sys.stdin, sys.stdout, sys.stderr
        out, err = io.BytesIO(), io.BytesIO()
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        sys.stdout, sys.stderr = io.TextIOWrapper(out), io.TextIOWrapper(err)
        try:
            status = main(["--home", str(self.home), "--no-color", *words])
            sys.stdout.flush()
            sys.stderr.flush()
            return Said(status, out.getvalue(), err.getvalue())
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept

    def json(self, *words: str) -> Any:
        """What a `jobctl` that must succeed prints as JSON."""
        said = self.ctl(*words, "--json")
        assert said.status == 0, said.err + said.out
        return said.json


def queue(client: Client, job: str, runs: int = 1, **options: Any) -> list[int]:
    """Queues runs alike; their ids."""
    return [run["id"] for run in client.queue(job, count=runs, **options)["runs"]]


def constraints(told: dict[str, Any]) -> dict[str, bool]:
    """What `why` says of each constraint."""
    return {row["name"]: row["ok"] for row in told["constraints"]}


def started(client: Client, runs: list[int]) -> list[int]:
    """The runs in the order in which their attempts were claimed."""
    client.wait(*runs)
    claims = [e["run"] for e in client.events() if e["event"] == "attempt.claimed"]
    return [run for run in claims if run in runs]

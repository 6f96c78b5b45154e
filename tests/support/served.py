"""A real daemon, with the engine that runs no containers, and its client beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_OUTPUT": "table"}


class Daemon:
    """`jobd run --engine fake`, started, killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it is ready."""
        words = [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", "fake"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT)
        assert self._process.stdout is not None
        assert b"ready" in self._process.stdout.readline()

    def end(self, number: signal.Signals) -> None:
        """Ends it by a signal."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(number)
        self._process.wait(20)
        self._process.stdout.close()

    def jobctl(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`jobctl WORDS` of this daemon."""
        return subprocess.run(
            [sys.executable, "-m", "jobctl", "--home", str(self.home), *words],
            input=stdin,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=60,
            check=False,
        )

    def follow(self, *words: str) -> subprocess.Popen[bytes]:
        """`jobctl WORDS`, left running."""
        return subprocess.Popen(
            [sys.executable, "-m", "jobctl", "--home", str(self.home), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )

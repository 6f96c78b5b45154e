"""`jobd run --engine fake` below a home that other users can reach, with its log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobd.core.events import BY_TYPE, Event, decode
from jobd.journal import Journal

ROOT = Path(__file__).resolve().parent.parent.parent


class Faked:
    """One daemon over as many processes as a test starts; `close` removes all of it.

    Not below pytest's own folders: those are closed to other users.
    """

    def __init__(self, config: str = "") -> None:
        self.base = Path(tempfile.mkdtemp(prefix="jf.", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.home = self.base / "home"
        self.home.mkdir(mode=0o755)
        self.configure(config)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, config: str) -> None:
        """Write jobd.toml, for the next start."""
        (self.home / "jobd.toml").write_text(config)

    def start(self) -> None:
        """Returns once it is ready."""
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", "fake"],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert self._process.stdout is not None
        assert b"ready" in self._process.stdout.readline(), self.log

    def stop(self) -> None:
        """End it by SIGTERM, if it runs."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        self._process.stdout.close()
        self._process = None

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.base / "log").read_text()

    def logged(self, text: str) -> bool:
        """Whether the log has it, soon: a request is answered before stderr is read."""
        until = time.monotonic() + 10
        while text not in self.log and time.monotonic() < until:
            time.sleep(0.02)
        return text in self.log

    def events(self) -> list[Event]:
        """Everything in its queue. It must have been stopped."""
        journal = Journal.open(self.home / "state", known_types=frozenset(BY_TYPE))
        try:
            return [decode(record.type, record.id, record.body) for record in journal.replay()]
        finally:
            journal.close()

    def close(self) -> None:
        """Stop it and remove its folders."""
        self.stop()
        shutil.rmtree(self.base)

"""A jobd of the bench's own: a whole daemon, started as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.rig import ROOT, Missing, Rig


class Jobd:
    """One daemon and its `jobctl`."""

    def __init__(
        self, rig: Rig, name: str, engine: str, config: str = "", count_syncs: bool = True
    ) -> None:
        self.home = rig.folder / name
        self.home.mkdir(mode=0o755)
        (self.home / "jobd.toml").write_text(config)
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_HOME": str(self.home)}
        counting: dict[str, str] = {}
        self.syncs = lambda: None
        if count_syncs:
            counting, self.syncs = rig.counting(name)  # type: ignore[assignment]
        words = [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", engine]
        self.process = rig.start(words, {**self._env, **counting}, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if "socket " not in line:
            raise Missing(f"jobd did not start: see {rig.folder}")
        self.socket = line.partition("socket ")[2].strip()
        self.pid = self.process.pid

    def ctl(self, *words: str, check: bool = True) -> str:
        """What `jobctl` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "jobctl", *words],
            env=self._env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise Missing(f"jobctl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def client(self) -> Any:
        """An open client (jobctl.client.Client)."""
        sys.path.insert(0, str(ROOT))
        from jobctl.client import Client

        return Client(home=str(self.home))

    @staticmethod
    def queued(client: Any, job: str, count: int = 1) -> list[int]:
        """Queue so many runs in one request; their ids."""
        answer = client.queue(job, count=count)
        return [row["id"] if isinstance(row, dict) else int(row[0]) for row in answer["runs"]]

    @staticmethod
    def finished(client: Any, runs: list[int]) -> Any:
        """Wait for runs that follow each other; what `wait` gives."""
        return client.wait(runs[0] if len(runs) == 1 else f"{runs[0]}-{runs[-1]}")

    @property
    def journal(self) -> Path:
        """Where its queue lies."""
        return next(self.home.rglob("seg-*.log")).parent

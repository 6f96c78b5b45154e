"""A whole jobd that runs processes and no containers: quick to start, no engine needed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

from jobctl.client import Client
from tests.support.zygote import ForkedDaemon


class ProcessDaemon(ForkedDaemon):
    """One that runs processes and no containers, as nobody where this is root."""

    kind = "process"

    def __init__(self, home: Path, *settings: str, witness: Path | None = None) -> None:
        """`witness` is the folder for what the commands take down, by default below `home`."""
        super().__init__(home, "unix:///nonexistent")
        home.chmod(0o755)
        (home / "jobd.toml").write_text(
            '[process]\nuser = "nobody"\n\n[capacity]\ncpus = 64\nmemory = "4G"\n'
            'reserve_memory = "16M"\n' + "".join(f"{line}\n" for line in settings)
        )
        self.said = (witness or home) / "said"
        self.said.mkdir()
        self.said.chmod(0o777)

    def words(self) -> Counter[str]:
        """What the commands themselves took down, each in one write with O_APPEND."""
        path = self.said / "words"
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def register(self, name: str, script: str, **settings: object) -> None:
        """A job that runs a shell script; `$SAID` is where it may leave words for the test."""
        spec = {
            "name": name,
            "command": ["sh", "-c", script],
            "resources": {"cpus": 0.1, "memory": "32M"},
            "env": {"SAID": str(self.said)},
            "stop_grace": "2s",
            **settings,
        }
        with Client(home=str(self.home)) as client:
            client.register(spec)

    def status(self, run: int) -> str:
        """The word of one run."""
        with Client(home=str(self.home)) as client:
            return str(client.show(run)["status"])

    def end_attempts(self) -> None:
        """SIGKILL to all that this daemon started and that still lives, and wait for its end."""
        mark = f"TASK_DIR={self.home}/".encode()
        for claim in (self.home / "state" / "process").glob("*/claim.*"):
            _kill(claim.read_text().split()[1:2])
        deadline = time.monotonic() + 10
        while found := [
            pid for pid in filter(str.isdecimal, os.listdir("/proc")) if _has(pid, mark)
        ]:
            assert time.monotonic() < deadline, f"still there: {found}"
            _kill(found)
            time.sleep(0.02)


def _has(pid: str, variable: bytes) -> bool:
    try:
        given = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # it has ended
    return any(entry.startswith(variable) for entry in given.split(b"\0"))


def _kill(pids: list[str]) -> None:
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended, or was never begun

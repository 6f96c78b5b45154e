"""A Docker engine of one's own that tests may stop, freeze, kill and fill.

Every method leaves it as its name says; `up` brings it back from whatever was done to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import docker

from tests.support.engine_support import contrib_engine

#: seconds until something that has to come is given up on; never what is measured
PATIENCE = 60.0


class PrivateEngine:
    """One dockerd below a folder, over as many processes as the tests need."""

    def __init__(self, *options: str, data: str | None = None) -> None:
        """Start it with further `options`; `data` is the size of a tmpfs for all that it keeps."""
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="jf", dir="/var/tmp"))
        if data is not None:
            (self.folder / ".jobd-engine").touch()
            (self.folder / "data").mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={data}", "jobd-test"]
            subprocess.run([*command, str(self.folder / "data")], check=True)
        self.socket = f"unix://{self.folder}/docker.sock"
        contrib_engine("start", self.folder, *options)
        contrib_engine("image", self.folder)
        self.sdk = docker.APIClient(self.socket, version="auto", timeout=30)

    def close(self) -> None:
        """Stop it and remove all that it had."""
        self.sdk.close()
        contrib_engine("stop", self.folder)

    @property
    def pid(self) -> int:
        """dockerd's process."""
        return int((self.folder / "docker.pid").read_text())

    @property
    def containerd(self) -> int:
        """The process of the containerd that dockerd started."""
        return int((self.folder / "exec/containerd/containerd.pid").read_text())

    def terminate(self) -> None:
        """SIGTERM, and wait for its end: as `systemctl stop docker` does."""
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        end_of(pid)

    def kill(self) -> None:
        """SIGKILL: containers go on."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        end_of(pid)

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def up(self) -> None:
        """Running and answering, whatever it was before."""
        try:
            self.thaw()
        except (FileNotFoundError, ProcessLookupError):
            pass
        contrib_engine("start", self.folder, *self._options)

    def containers(self) -> list[str]:
        """The names of all containers that bear jobd's labels, ended ones too."""
        found = self.sdk.containers(all=True, filters={"label": "jobd.run"})
        return sorted(each["Names"][0].lstrip("/") for each in found)

    def clear(self) -> None:
        """Remove every container; of a jobd that was killed some may be on their way out."""
        while found := self.sdk.containers(all=True):
            for each in found:
                try:
                    self.sdk.remove_container(each["Id"], force=True)
                except docker.errors.APIError as error:
                    if error.status_code not in (404, 409):
                        raise
            time.sleep(0.05)


def end_of(pid: int) -> None:
    """Wait until a process is gone (its parent may not have asked for it yet)."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < give_up, f"{pid} does not end"
        time.sleep(0.05)

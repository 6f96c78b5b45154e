"""A Podman of one's own: `podman system service` with all that it keeps below one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import docker

from tests.support.engine_support import contrib_engine

#: seconds until it has to answer; never what is measured
PATIENCE = 30.0


class PodmanEngine:
    """One service, over as many processes as the tests need; its containers outlive each."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jp", dir="/var/tmp"))
        # contrib/engine looks for the socket under this name to build the image
        self.path = self.folder / "docker.sock"
        self.socket = f"unix://{self.path}"
        self._process: subprocess.Popen[bytes] | None = None
        self.up()
        contrib_engine("image", self.folder)
        self.sdk = docker.APIClient(self.socket, version="auto", timeout=30)

    def _command(self, *words: str) -> list[str]:
        folder = self.folder
        places = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        places += ["--tmpdir", f"{folder}/tmp", "--network-config-dir", f"{folder}/net"]
        return ["podman", *places, "--runtime", "runc", "--cgroup-manager", "cgroupfs", *words]

    def podman(self, *words: str) -> str:
        """What `podman` itself prints; fails where it does."""
        done = subprocess.run(
            self._command(*words), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self) -> None:
        """Start the service and wait until it answers."""
        folder = self.folder
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("system", "service", "--time=0", self.socket),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # conmon leaves a file `oom` where the service was started
                cwd=folder,
                start_new_session=True,
                # an image that is loaded passes through a file there, which stays
                env={**os.environ, "TMPDIR": str(folder)},
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "podman does not answer"
            time.sleep(0.1)

    def _answers(self) -> bool:
        if not self.path.exists():
            return False
        words = ["docker", "-H", self.socket, "version"]
        done = subprocess.run(words, capture_output=True, timeout=10, check=False)
        return done.returncode == 0

    def kill(self) -> None:
        """SIGKILL: containers go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop it and remove all that it had."""
        self.sdk.close()
        subprocess.run(
            self._command("rm", "--all", "--force", "--time", "0"), capture_output=True, check=False
        )
        self.kill()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            target = line.split()[1]
            if target.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", target], check=False)
        # of an attempt whose jobd was killed while it was being removed; only what is empty goes
        for each in Path("/sys/fs/cgroup").glob("*/jobd/*/conmon"):
            for folder in (each, each.parent):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=os.geteuid() != 0)

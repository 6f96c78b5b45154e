"""A machine with a systemd of its own: this host's files under an overlay, in a container.

Whatever is installed or changed in it stays in memory and goes with it. Its engine is a private
one of the host's, in whose mounts the machine's /var/lib/jobd is where jobd says it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from tests.support import waiting
from tests.support.engine_support import CONTRIB_ENGINE, contrib_engine

#: seconds until something that has to come is given up on; never what is measured
PATIENCE = 90.0

#: a boot that starts what it needs and nothing that this host happens to have
_TARGET = """\
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
_UNWANTED = ("docker.service", "docker.socket", "containerd.service", "systemd-timesyncd.service")


def why_not() -> str | None:
    """What keeps a machine from being made here, or None."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("systemd-nspawn", "dpkg", "unshare", "nsenter", "dockerd"):
        if shutil.which(program) is None:
            return f"no {program}"
    return None


until = partial(waiting.until, patience_s=PATIENCE, look_s=0.1)


class Machine:
    """Booted when made; `close` leaves nothing of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jm", dir="/var/tmp"))
        self.root = self.folder / "t" / "m"
        self._engine = self.folder / "e"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        try:
            self._lay_out()
            self._start_engine()
            self.boot()
        except BaseException:
            self.close()
            raise

    def _lay_out(self) -> None:
        layers = self.folder / "t"
        layers.mkdir()
        _do("mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "jobd-test", str(layers))
        for name in ("up", "work", "m", "engine-up", "engine-work"):
            (layers / name).mkdir()
        options = f"lowerdir=/,upperdir={layers}/up,workdir={layers}/work"
        _do("mount", "-t", "overlay", "-o", options, "jobd-test", str(self.root))
        etc = self.root / "etc"
        # nspawn refuses a machine with the host's own id
        (etc / "machine-id").write_text(f"{os.urandom(16).hex()}\n")
        for wants in (etc / "systemd/system").glob("*.wants"):
            for link in wants.iterdir():
                link.unlink()
        for unit in _UNWANTED:
            mask = etc / "systemd/system" / unit
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")
        (etc / "systemd/system/mini.target").write_text(_TARGET)
        # it keeps services from being started where packages are built
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        (self.root / "var/lib/jobd").mkdir(exist_ok=True)

    def _start_engine(self) -> None:
        """In mounts of its own, where the machine's queue is in the place that it has there."""
        layers = self.folder / "t"
        overlay = f"lowerdir=/var/lib,upperdir={layers}/engine-up,workdir={layers}/engine-work"
        script = (
            f"mount -t overlay -o {overlay} jobd-test /var/lib && mkdir -p /var/lib/jobd"
            f" && mount --bind {self.root}/var/lib/jobd /var/lib/jobd"
            f" && exec {CONTRIB_ENGINE} start {self._engine}"
        )
        _do("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
        contrib_engine("image", self._engine)

    @property
    def socket(self) -> str:
        """The engine's, as the host sees it."""
        return f"unix://{self._engine}/docker.sock"

    def boot(self) -> None:
        """Start it and wait until its systemd says that it is up."""
        command = ["systemd-nspawn", "-D", str(self.root), "--register=no", "--keep-unit"]
        command += ["--private-network", f"--bind={self._engine}/docker.sock:/run/docker.sock"]
        command += ["--console=pipe", "--machine=jobdtest"]
        with (self.folder / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*command, "/lib/systemd/systemd", "--unit=mini.target"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        until(lambda: self._find_init() and self._is_up(), said=self._said)

    def _find_init(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._said()
        path = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        children = path.read_text().split()
        self._init = int(children[0]) if children else 0
        return self._init != 0

    def _is_up(self) -> bool:
        done = self.run("systemctl", "is-system-running", check=False)
        return done.stdout.strip() in ("running", "degraded")

    def _said(self) -> str:
        return (self.folder / "console").read_text(errors="replace")[-4000:]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in it, as root; with `check` it has to succeed."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        done = subprocess.run(
            [*enter, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str) -> str:
        """What a script of the shell prints there; it has to succeed."""
        return self.run("sh", "-ec", script).stdout.strip()

    def asked(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.run("systemctl", "show", unit, *(f"-p{name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def power_off(self) -> None:
        """As its user would; waits for the end."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff", check=False)
        self._nspawn.wait(PATIENCE)
        self._nspawn = None

    def close(self) -> None:
        """Everything of it is gone afterwards, whatever state it was in."""
        if self._nspawn is not None:
            with contextlib.suppress(Exception):
                self.power_off()
        if self._nspawn is not None:
            self._nspawn.kill()
            self._nspawn.wait()
        if (self._engine / ".jobd-engine").exists():
            contrib_engine("stop", self._engine)
        for mount in (self.root, self.folder / "t"):
            subprocess.run(["umount", "--lazy", str(mount)], capture_output=True, check=False)
        for kind in ("payload", "supervisor"):
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/cgroup/systemd/{kind}").rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

"""A block device that fails when it is told to: nbdkit behind FUSE, a loop device, ext4 on it.

What the kernel does with a failed write-back is the kernel's own: pages are marked clean, the next
sync succeeds, and the page cache shows what the disk does not hold (DURABILITY, fsync facts).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.small_disk import SmallDisk, mounted, why_not
from tests.support.waiting import until

PATIENCE = 30.0


class FailingDisk:
    """`disk` is mounted; between `fail` and `heal` no write reaches the device (EIO)."""

    def __init__(self, disk: SmallDisk, switch: Path) -> None:
        self.disk = disk
        self.path = disk.path
        self._switch = switch

    def fail(self) -> None:
        """Every write to the device fails from now on."""
        self._switch.touch()

    def heal(self) -> None:
        """No write fails any more."""
        self._switch.unlink(missing_ok=True)

    def again(self) -> None:
        """Unmount and mount: what the page cache showed is forgotten."""
        self.disk.again()


def why_no_failing_disk() -> str | None:
    """Why there is none here, or None."""
    for program in ("nbdkit", "nbdfuse", "fusermount3"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    return why_not("ext4")


@contextmanager
def failing(folder: Path, size: int) -> Iterator[FailingDisk]:
    """One for as long as the `with` lasts; `folder` is empty, `size` in bytes."""
    door, device, switch = folder / "nbd", folder / "fuse", folder / "switch"
    device.mkdir()
    errors = ["error=EIO", f"error-file={switch}", "error-pread-rate=0", "error-rate=100%"]
    server = subprocess.Popen(
        ["nbdkit", "-f", "-U", str(door), "--filter=error", "memory", str(size), *errors]
    )
    fuse: subprocess.Popen[bytes] | None = None
    try:
        until(door.exists, PATIENCE, said=lambda: "nbdkit has no socket")
        fuse = subprocess.Popen(["nbdfuse", str(device / "disk"), "--unix", str(door)])
        until((device / "disk").exists, PATIENCE, said=lambda: "nbdfuse has no file")
        with mounted(folder, "ext4", size, image=device / "disk") as disk:
            made = FailingDisk(disk, switch)
            try:
                yield made
            finally:
                made.heal()  # else unmounting takes its time
    finally:
        subprocess.run(["umount", str(device)], capture_output=True, check=False)
        for process in (fuse, server):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)

"""File systems of a few megabytes, really mounted, to be filled, to run out of inodes, to fail.

Needs root and, for ext4, a loop device; whoever cannot have them skips loudly (:func:`why_not`).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: files that take up the space; what a test wrote is elsewhere
_FILLER = "filler"


class SmallDisk:
    """One mounted file system, at `path`. Unmounted and its loop device detached by `close`."""

    def __init__(
        self, folder: Path, kind: str, size: int, inodes: int | None = None, options: str = ""
    ) -> None:
        """`kind` is `ext4` or `tmpfs`, `size` in bytes; `options` are further ones of the mount."""
        self.kind = kind
        self.path = folder / f"disk-{kind}"
        self.path.mkdir(parents=True)
        self._image = folder / f"image-{kind}"
        self._fillers = 0
        if kind == "tmpfs":
            given = f"size={size},mode=755" + (f",nr_inodes={inodes}" if inodes else "")
            _do("mount", "-t", "tmpfs", "-o", given + options, "jobd-test", str(self.path))
        else:
            with self._image.open("wb") as file:
                file.truncate(size)
            counted = ["-N", str(inodes)] if inodes else []
            # -m0: root may use all of it, as a test's daemon runs as root
            _do("mkfs.ext4", "-q", "-F", "-m0", *counted, str(self._image))
            _do("mount", "-o", "loop" + options, str(self._image), str(self.path))
        self.path.chmod(0o755)

    def free(self) -> int:
        """Bytes that are left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize

    def fill(self, leave: int = 0) -> None:
        """Take all the space but `leave` bytes, to the last block."""
        self._fillers += 1
        fd = os.open(self.path / f"{_FILLER}.{self._fillers}", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            size = 0
            for step in (1 << 20, 64 << 10, 4096, 1024):
                try:
                    while self.free() - step >= leave:
                        os.posix_fallocate(fd, size, step)
                        size += step
                except OSError:
                    continue
            if not leave:
                # what the file system keeps back from its own figures
                try:
                    while True:
                        size += os.pwrite(fd, bytes(1024), size)
                except OSError:
                    pass
            os.fsync(fd)
        finally:
            os.close(fd)

    def use_up_inodes(self) -> None:
        """Make files until no more can be made."""
        (self.path / "many").mkdir(exist_ok=True)
        number = 0
        while True:
            try:
                (self.path / "many" / str(number)).touch()
            except OSError:
                return
            number += 1

    def empty(self) -> None:
        """Give the space and the inodes back."""
        for path in [*self.path.glob(f"{_FILLER}.*"), *self.path.glob("many/*")]:
            path.unlink()

    def close(self) -> None:
        """Unmount, whoever still has files open, and detach the loop device."""
        for _ in range(50):
            if _tried("umount", str(self.path)):
                break
            time.sleep(0.1)
        else:
            _tried("umount", "-l", str(self.path))
        if self.kind != "tmpfs":
            found = subprocess.run(
                ["losetup", "-j", str(self._image)], capture_output=True, text=True, check=False
            )
            for line in found.stdout.splitlines():
                _tried("losetup", "-d", line.partition(":")[0])


def why_not(kind: str) -> str | None:
    """Why such a file system cannot be had here, or None."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if kind == "tmpfs":
        return None
    found = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"no loop device: {found.stderr.strip()}"


@contextmanager
def mounted(
    folder: Path, kind: str, size: int, inodes: int | None = None, options: str = ""
) -> Iterator[SmallDisk]:
    """A small disk for as long as the `with` lasts."""
    disk = SmallDisk(folder, kind, size, inodes, options)
    try:
        yield disk
    finally:
        disk.close()


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _tried(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0

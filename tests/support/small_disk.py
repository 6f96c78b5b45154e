"""File systems of a few megabytes, really mounted, to be filled, to run out of inodes, to fail.

Needs root and, for ext4, a loop device; whoever cannot have them skips loudly (:func:`why_not`).
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: files that take up the space; what a test wrote is elsewhere
_FILLER = "filler"
#: ext4's ioctl of that name, and its flag that not even the file system's own log is flushed
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2


class SmallDisk:
    """One mounted file system, at `path`. Unmounted and its loop device detached by `close`."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        size: int,
        inodes: int | None = None,
        options: str = "",
        features: str = "",
        image: Path | None = None,
    ) -> None:
        """`kind` is `ext4` or `tmpfs`, `size` in bytes; `options` are further ones of the mount.

        `features` are ext4's (`^extents`: no fallocate); `image` is a file to make it in.
        """
        self.kind = kind
        self.path = folder / f"disk-{kind}"
        self.path.mkdir(parents=True)
        self._image = image or folder / f"image-{kind}"
        self._options = options
        self._fillers = 0
        if kind == "tmpfs":
            given = f"size={size},mode=755" + (f",nr_inodes={inodes}" if inodes else "")
            _do("mount", "-t", "tmpfs", "-o", given + options, "jobd-test", str(self.path))
        else:
            if image is None:
                with self._image.open("wb") as file:
                    file.truncate(size)
            counted = ["-N", str(inodes)] if inodes else []
            wanted = ["-O", features] if features else []
            # -m0: root may use all of it, as a test's daemon runs as root
            _do("mkfs.ext4", "-q", "-F", "-m0", *counted, *wanted, str(self._image))
            self._mount()
        self.path.chmod(0o755)

    def _mount(self) -> None:
        _do("mount", "-o", "loop" + self._options, str(self._image), str(self.path))

    def cut_power(self) -> None:
        """ext4: what was not synced is gone, as after a power cut; nothing works until `again`."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def turn_read_only(self) -> None:
        """ext4 with `errors=remount-ro`: as when it finds itself damaged."""
        words = ["findmnt", "-no", "SOURCE", str(self.path)]
        device = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")

    def again(self) -> None:
        """Unmount and mount: what the page cache showed is forgotten."""
        self._unmount()
        self._mount()

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
        self._unmount()
        if self.kind != "tmpfs":
            found = subprocess.run(
                ["losetup", "-j", str(self._image)], capture_output=True, text=True, check=False
            )
            for line in found.stdout.splitlines():
                _tried("losetup", "-d", line.partition(":")[0])

    def _unmount(self) -> None:
        for _ in range(50):
            if _tried("umount", str(self.path)):
                break
            time.sleep(0.1)
        else:
            _tried("umount", "-l", str(self.path))


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
    folder: Path, kind: str, size: int, inodes: int | None = None, options: str = "", **more: Any
) -> Iterator[SmallDisk]:
    """A small disk for as long as the `with` lasts."""
    disk = SmallDisk(folder, kind, size, inodes, options, **more)
    try:
        yield disk
    finally:
        disk.close()


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _tried(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0

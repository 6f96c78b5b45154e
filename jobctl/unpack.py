"""A tar from the daemon becomes files in a folder of their own, and nothing outside of it.

The daemon makes tars of plain files and folders alone; that is checked here again, as what is in
them was named by a job. Nothing is executed, no link is made or followed, nothing is overwritten.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from typing import IO, Any

from jobd.errors import ConflictError, QueueDamagedError, UsageError


class Unpacker:
    """Takes the tar piece by piece; the files are in `folder` once :meth:`finish` has returned."""

    def __init__(self, folder: str) -> None:
        """Raises UsageError where `folder` is no folder or not empty."""
        self._folder = os.path.abspath(folder)
        self._made = not os.path.lexists(self._folder)
        if not self._made:
            if not os.path.isdir(self._folder):
                raise UsageError(f"--out {folder}: is there and is no folder")
            if os.listdir(self._folder):
                raise UsageError(f"--out {folder}: is not empty: name a folder that is to be made")
        self._parent = os.path.dirname(self._folder)
        try:
            os.makedirs(self._parent, exist_ok=True)
            # there and not in /tmp, which may be memory
            self._tar: IO[bytes] = tempfile.TemporaryFile(dir=self._parent)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--out {folder}: {error.strerror}") from None

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *problem: object) -> None:
        self._tar.close()

    def write(self, data: bytes) -> None:
        """Take a piece. Raises OSError where there is no room for it."""
        self._tar.write(data)

    def finish(self) -> None:
        """All pieces were taken: make the files. Raises ConflictError, OSError, UsageError."""
        self._tar.seek(0)
        # beside the folder, so that what is cut short leaves no half of it under its name
        building = tempfile.mkdtemp(prefix=".jobctl-", dir=self._parent)
        try:
            self._extract(building)
            if self._made:
                os.chmod(building, 0o777 & ~_umask())
                os.rename(building, self._folder)
                return
            # it may be somebody's working folder: it stays the one that it is
            for name in os.listdir(building):
                os.rename(os.path.join(building, name), os.path.join(self._folder, name))
        except tarfile.TarError as error:
            raise QueueDamagedError(f"output files: not a tar: {error}") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _extract(self, top: str) -> None:
        with tarfile.open(fileobj=self._tar, mode="r:") as archive:
            for member in archive:
                path = os.path.join(top, *safe_parts(member.name))
                if member.isdir():
                    os.makedirs(path, exist_ok=True)
                elif member.isreg():
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    self._write_file(path, archive.extractfile(member), member)
                else:
                    raise ConflictError(
                        f"output files: {member.name!r:.100} is neither a file nor a folder: "
                        "nothing was written"
                    )

    @staticmethod
    def _write_file(path: str, source: Any, member: tarfile.TarInfo) -> None:
        with open(path, "xb") as file:
            shutil.copyfileobj(source, file)
        os.chmod(path, (0o777 if member.mode & 0o100 else 0o666) & ~_umask())
        os.utime(path, (member.mtime, member.mtime))


def safe_parts(name: str) -> list[str]:
    """The folders and the file that a name in a tar stands for. Raises ConflictError."""
    parts = name.rstrip("/").split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ConflictError(
            f"output files: {name!r:.100} leads out of the folder: nothing was written"
        )
    return parts


def _umask() -> int:
    """Read, not set and set back: that would hold for files that other threads make meanwhile."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o077

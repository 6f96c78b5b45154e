"""The lock of a queue's directory, taken before anything else is touched (DURABILITY R1)."""

from __future__ import annotations

import os
import time

from jobd.errors import AlreadyRunningError, ConfigError
from jobd.journal.fsutil import Fs

LOCK_NAME = "LOCK"
#: how long a dead holder's lock is waited for, in seconds
_FORKED = 5.0


def prepare_directory(fs: Fs, directory: str) -> None:
    """Makes the directory (0700) where it is missing and refuses one that is not safely ours.

    Raises ConfigError when it belongs to another user or can be written by group or others:
    whoever can put a file there can make the daemon run anything (DURABILITY R1).
    """
    try:
        fs.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    found = fs.stat(directory)
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"queue {directory}: belongs to uid {found.st_uid}, and this is uid {os.geteuid()};"
            " start the daemon as its owner, or change the owner"
        )
    if found.st_mode & 0o022:
        raise ConfigError(
            f"queue {directory}: can be written by others (mode {found.st_mode & 0o7777:04o});"
            f" run `chmod go-w {directory}`"
        )
    if not any(name.startswith("seg-") for name in fs.listdir(directory)):
        # also where it was there: a kill may have come between its making and this sync
        fs.fsync_dir(os.path.dirname(directory) or ".")


class DirectoryLock:
    """Held from before recovery until close; the kernel drops it when the process dies."""

    __slots__ = ("_fd", "_fs")

    def __init__(self, fs: Fs, directory: str) -> None:
        """Takes the lock or raises AlreadyRunningError with the pid of the holder."""
        self._fs = fs
        path = os.path.join(directory, LOCK_NAME)
        self._fd = fs.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not self._taken():
                holder = fs.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
                raise AlreadyRunningError(
                    f"queue {directory}: in use by another daemon"
                    f"{f' (pid {holder})' if holder else ''}; stop that one first",
                    pid=int(holder) if holder.isdecimal() else None,
                )
            # for the sentence above alone: never synced, never read by recovery
            try:
                fs.pwrite(self._fd, f"{os.getpid():<19}\n".encode("ascii"), 0)
            except OSError:
                pass  # a full disk must not keep the daemon from starting (fault 19)
        except BaseException:
            fs.close(self._fd)
            raise

    def _taken(self) -> bool:
        """Whether the lock was had; waited for where its holder is dead, and a child that it had
        just forked holds it on until it has become another program (seen with `kill -9`)."""
        until = time.monotonic() + _FORKED
        while not self._fs.try_lock(self._fd):
            holder = self._fs.pread(self._fd, 20, 0).strip()
            if not holder.isdigit() or _lives(int(holder)) or time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def release(self) -> None:
        """Gives the lock back. The file stays: removing it would let two openers both hold one."""
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True

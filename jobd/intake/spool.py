"""The folders that files are dropped into: `<spool>/<job>`, and what jobd does in them.

A job's folder is 3730: its group may put files there, cannot list it, and cannot touch others'
files. What jobd makes in it is 0700 (DURABILITY, rulings). All is done by descriptors of folders
that were looked at, and no link is ever followed. Raises OSError where nothing else is said.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jobd.intake import names
from jobd.intake.names import Claimed
from jobd.intake.writers import is_written

CLAIMED, DONE, FAILED, REJECTED = ".claimed", "done", "failed", "rejected"
#: what a job's folder holds of jobd's own
FOLDERS = (CLAIMED, DONE, FAILED, REJECTED)
_MODE = 0o3730

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Look(NamedTuple):
    """A file as it is before it is claimed. `wrong` says why it is refused, whatever is in it."""

    size: int
    changed_ns: int
    #: whether somebody has it open for writing; None: nobody can tell
    written: bool | None
    wrong: str = ""


class Spool:
    """All jobs' folders below `root`. Safe in any thread."""

    def __init__(self, root: Path, gid: int = -1) -> None:
        """Nothing is touched yet. `gid`: whose members may drop files, -1 for jobd's own group."""
        self.root = root
        self._gid = gid

    def open_root(self) -> None:
        """Make the spool itself, which everybody may pass and nobody list."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.root.stat().st_uid == os.geteuid():
            self.root.chmod(0o711)

    @contextmanager
    def _rooted(self) -> Iterator[int]:
        """The spool, opened: all below it is reached from there."""
        try:
            fd = os.open(self.root, _ROOT)
        except FileNotFoundError:
            self.open_root()
            fd = os.open(self.root, _ROOT)
        try:
            yield fd
        finally:
            os.close(fd)

    def make(self, job: str) -> None:
        """See to it that the job has its folder; jobd's own are there before others may enter."""
        path = self.root / job
        with self._rooted() as root:
            _make(root, job)
            fd = os.open(job, _DIRECTORY, dir_fd=root)
        try:
            found = os.fstat(fd)
            _check_own(found, str(path))
            for name in FOLDERS:
                _make(fd, name)
                inner = os.stat(name, dir_fd=fd, follow_symlinks=False)
                _check_own(inner, f"{path}/{name}")
            if self._gid >= 0 and found.st_gid != self._gid:
                os.fchown(fd, -1, self._gid)
            if stat.S_IMODE(found.st_mode) != _MODE:
                os.fchmod(fd, _MODE)
        finally:
            os.close(fd)

    def leave(self, job: str) -> bool:
        """Remove the folder of a job that is gone, where nothing is left in it."""
        try:
            with self._rooted() as root:
                fd = os.open(job, _DIRECTORY, dir_fd=root)
                try:
                    for name in FOLDERS:
                        os.rmdir(name, dir_fd=fd)
                finally:
                    os.close(fd)
                os.rmdir(job, dir_fd=root)
        except OSError:
            return False
        return True

    def claimed_path(self, job: str, file: str) -> Path:
        """Where a claimed file lies."""
        return self.root / job / CLAIMED / file

    @contextmanager
    def folder(self, job: str) -> Iterator[JobFolder]:
        """A job's folder, opened."""
        with self._rooted() as root:
            fd = os.open(job, _DIRECTORY, dir_fd=root)
        try:
            _check_own(os.fstat(fd), str(self.root / job))
            claimed = os.open(CLAIMED, _DIRECTORY, dir_fd=fd)
            try:
                yield JobFolder(job, fd, claimed)
            finally:
                os.close(claimed)
        finally:
            os.close(fd)


class JobFolder:
    """One job's folder. `fd` and `claimed` are open descriptors of it and of what is claimed."""

    def __init__(self, job: str, fd: int, claimed: int) -> None:
        self.job = job
        self.fd = fd
        self.claimed = claimed

    # -- dropped files ---------------------------------------------------------------------

    def drops(self) -> list[bytes]:
        """The names that may be drops, the oldest first."""
        found: list[tuple[int, bytes]] = []
        with os.scandir(self.fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if names.is_left_alone(name) or entry.name in FOLDERS:
                    continue
                try:
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, name))
                except FileNotFoundError:
                    continue
        return [name for _, name in sorted(found)]

    def look(self, name: bytes) -> Look | None:
        """What is there under that name; None where nothing is any more."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            wrong = _wrong(found)
            if wrong:
                return Look(0, found.st_ctime_ns, False, wrong)
            fd = os.open(name, _READ, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except PermissionError:
            return Look(found.st_size, found.st_mtime_ns, None)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
                return Look(0, 0, False, "was exchanged for something that is no file")
            raise
        try:
            now = os.fstat(fd)
            return Look(now.st_size, now.st_mtime_ns, is_written(fd), _wrong(now))
        finally:
            os.close(fd)

    def claim(self, name: bytes) -> Claimed | None:
        """Take a file, whatever it is, out of everybody's reach; None where it has vanished.

        What is beside it first: found alone, it goes back (:meth:`unfinished`).
        """
        one = names.claim(name)
        beside = len(name) + len(names.META) < 256 and self._take(name + names.META, one.beside)
        if self._take(name, one.file):
            return one
        if beside:
            self._give_back(one.beside, name + names.META)
        return None

    def _take(self, name: bytes, file: str) -> bool:
        try:
            os.rename(name, file, src_dir_fd=self.fd, dst_dir_fd=self.claimed)
        except FileNotFoundError:
            return False
        return True

    def _give_back(self, file: str, name: bytes) -> None:
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(file, name, src_dir_fd=self.claimed, dst_dir_fd=self.fd)

    def unfinished(self) -> list[Claimed]:
        """The claimed files; what an earlier jobd left of a claim that it did not get to is undone.

        For the start, before anything else is claimed here.
        """
        found = [one for each in os.listdir(self.claimed) if (one := names.claimed(each))]
        whole = {one.key for one in found if one.mark != names.BESIDE}
        for one in found:
            if one.mark == names.BESIDE and one.key not in whole:
                self._give_back(one.file, os.fsencode(one.name) + names.META)
        return [one for one in found if one.mark != names.BESIDE]

    def sync(self) -> None:
        """What was claimed, given back or removed is so for good."""
        os.fsync(self.claimed)
        os.fsync(self.fd)

    # -- claimed files ---------------------------------------------------------------------

    def open(self, file: str) -> tuple[int, os.stat_result]:
        """A claimed file, opened for reading: a plain one with one name.

        Raises ValueError saying why it is refused, FileNotFoundError.
        """
        found = os.stat(file, dir_fd=self.claimed, follow_symlinks=False)
        wrong = _wrong(found)
        if wrong:
            raise ValueError(wrong)
        try:
            fd = os.open(file, _READ, dir_fd=self.claimed)
        except PermissionError:
            raise ValueError(
                "cannot be read by jobd: let its group read it (`chmod g+r`) before it is dropped"
            ) from None
        return fd, os.fstat(fd)

    def remove(self, one: Claimed, *, beside: bool = True) -> None:
        """Remove a claimed file and what was beside it; gone is as good.

        What is beside it first: left alone it would go back (:meth:`unfinished`) and be of the next
        file of that name.
        """
        for file in (one.beside, one.file) if beside else (one.file,):
            try:
                os.unlink(file, dir_fd=self.claimed)
            except FileNotFoundError:
                pass

    def reject(self, one: Claimed, reason: str) -> None:
        """Put a claimed file into `rejected/`, with the reason beside it."""
        self._move(one, REJECTED, one.given, ".reason", reason)

    def keep_failed(self, one: Claimed, run: int) -> None:
        """Put a claimed file beside the word on how its run failed; gone is as good."""
        try:
            self._move(one, FAILED, names.ended(one.given, run, ""))
        except FileNotFoundError:
            pass

    def _move(self, one: Claimed, into: str, name: bytes, ending: str = "", text: str = "") -> None:
        target = os.open(into, _DIRECTORY, dir_fd=self.fd)
        try:
            if _is_there(target, name) or (ending and _is_there(target, name + ending.encode())):
                name = name[:200] + b"." + one.key[:12].encode()
            if ending:
                # the reason first: who sees the file finds it
                _write(target, name + ending.encode(), [text.encode("utf-8", "replace")])
            beside = name[: 255 - len(names.META)] + names.META
            if self._is_claimed(one.beside):
                os.rename(one.beside, beside, src_dir_fd=self.claimed, dst_dir_fd=target)
            os.rename(one.file, name, src_dir_fd=self.claimed, dst_dir_fd=target)
        finally:
            os.close(target)

    def _is_claimed(self, file: str) -> bool:
        return _is_there(self.claimed, os.fsencode(file))

    # -- ends ------------------------------------------------------------------------------

    def tell(self, into: str, name: bytes, pieces: Iterable[bytes]) -> None:
        """Write a file whole into `done` or `failed`: it is there with all its bytes, or not."""
        target = os.open(into, _DIRECTORY, dir_fd=self.fd)
        try:
            _write(target, name, pieces)
        finally:
            os.close(target)

    def sync_ends(self) -> None:
        """What was told, moved and removed is so for good."""
        for name in (DONE, FAILED, CLAIMED):
            fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _make(folder: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        pass


def _check_own(found: os.stat_result, path: str) -> None:
    """Refuse a folder that another user has made in the place of jobd's."""
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"{path} is not jobd's own folder: remove it")


def _wrong(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'no plain file')}: only files are taken"
    if found.st_nlink != 1:
        return f"has {found.st_nlink} names (hard links): only a file with one name is taken"
    return ""


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _is_there(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write(folder: int, name: bytes, pieces: Iterable[bytes]) -> None:
    building = b"." + name[:240] + b".tmp"
    try:
        fd = os.open(building, _NEW, 0o600, dir_fd=folder)
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(building, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        # a full disk needs the room
        if _is_there(folder, building):
            os.unlink(building, dir_fd=folder)
        raise

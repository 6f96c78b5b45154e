"""Every touch of the file system that the journal makes, in one small class.

A simulated disk takes the place of :class:`Fs` in the tests; so nothing else in this package may
call `os` for a file. All methods raise OSError as the kernel gave it: what an error means is
decided by the caller.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable

_KEEP_SIZE = 1
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


def _bind_fallocate() -> Callable[[int, int, int, int], int] | None:
    # os.posix_fallocate cannot keep the size, and where a file system has no fallocate it writes
    # the zeroes itself: 64 MiB at each start
    libc = ctypes.CDLL(None, use_errno=True)
    # the 64-bit name first: on a 32-bit libc the plain one takes a 32-bit offset
    function = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    bound: Callable[[int, int, int, int], int] = function
    return bound


_fallocate = _bind_fallocate()


class Fs:
    """The real file system. Files never follow a link and are never inherited by a child."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def hold_dir(self, path: str) -> None:
        """Keeps directory `path` open, so that :meth:`fsync_dir` needs no descriptor (fault 30)."""
        if path not in self._held:
            self._held[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def let_go(self, path: str) -> None:
        """Ends what `hold_dir` began; nothing where it did not."""
        fd = self._held.pop(path, None)
        if fd is not None:
            os.close(fd)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor of `path`; O_NOFOLLOW and O_CLOEXEC are always added."""
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """How many bytes of `data` were written at `offset`; may be fewer than all."""
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """Up to `count` bytes at `offset`; fewer at the end of the file."""
        return os.pread(fd, count, offset)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fsync_dir(self, path: str) -> None:
        """Makes the entries of directory `path` durable: creations, renames, removals."""
        held = self._held.get(path)
        if held is not None:
            os.fsync(held)
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fallocate(self, fd: int, size: int) -> bool:
        """Reserves blocks for the first `size` bytes and leaves the file's length alone.

        False where the file system cannot do that (DURABILITY W3; some FUSE and NFS mounts).
        """
        if _fallocate is None:
            return False
        while _fallocate(fd, _KEEP_SIZE, 0, size) != 0:
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number in _UNSUPPORTED:
                return False
            raise OSError(number, os.strerror(number))
        return True

    def truncate(self, fd: int, size: int) -> None:
        """Cuts to `size` bytes; space reserved behind it is given back too."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """A second name for a file; OSError where the file system has none."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def drop_cache(self, fd: int) -> None:
        """Asks the kernel to forget clean cached pages of the file (DURABILITY R10)."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def try_lock(self, fd: int) -> bool:
        """Takes the exclusive flock of `fd`; False where somebody else holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def read_exactly(fs: Fs, fd: int, count: int, offset: int) -> bytes:
    """`count` bytes at `offset`, or fewer where the file ends; a short pread is continued."""
    data = fs.pread(fd, count, offset)
    if len(data) == count or not data:
        return data
    parts = [data]
    got = len(data)
    while got < count:
        data = fs.pread(fd, count - got, offset + got)
        if not data:
            break
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def write_all(fs: Fs, fd: int, data: bytes | memoryview, offset: int) -> None:
    """Writes `data` whole at `offset`, or raises OSError.

    A short write is continued only to learn its errno. Not for batches: see `Journal.write`.
    """
    view = memoryview(data)
    done = 0
    while done < len(view):
        wrote = fs.pwrite(fd, view[done:], offset + done)
        if wrote <= 0:
            raise OSError(errno.EIO, "write made no progress")
        done += wrote

"""inotify(7) by its three system calls, as a file object for a poll loop.

Of the libraries on PyPI only two show CLOSE_WRITE and the overflow of the kernel's queue, and each
is not much more than this.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from typing import NamedTuple

MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO = 0x2, 0x8, 0x40, 0x80
CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x100, 0x200, 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED, IS_FOLDER = 0x2000, 0x4000, 0x8000, 0x40000000
#: for `add`: only a folder, and not by a link
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x01000000, 0x02000000, 0x04000000

_HEAD = struct.Struct("iIII")
#: bytes that are read at once: a thousand events and more
_BUFFER = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)
_log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """One event: of which watch, what, a number that both sides of a move share, which entry."""

    watch: int
    mask: int
    cookie: int
    name: bytes


class Inotify:
    """Watches of folders. For one thread. Raises OSError as the kernel gives it."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """For poll: readable while there are events."""
        return self._fd

    def add(self, folder: bytes, mask: int) -> int:
        """Watch a folder; the number that its events have. ENOSPC: the user has too many."""
        flags = mask | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
        return _checked(_libc.inotify_add_watch(self._fd, folder, ctypes.c_uint32(flags)))

    def remove(self, watch: int) -> None:
        """Watch it no more; one that is gone already is as good."""
        _libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Seen]:
        """The events that are there, in their order; OVERFLOW among them: some were lost."""
        found: list[Seen] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, mask, cookie, size = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                name = data[at : at + size].rstrip(b"\0")
                at += size
                found.append(Seen(watch, mask, cookie, name))
            if len(data) < _BUFFER // 2 or len(found) > 10_000:
                return found

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


class Deaf(Inotify):
    """Hears nothing, and has no watch to give: where the kernel gives no instance."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def add(self, folder: bytes, mask: int) -> int:
        """Raises OSError, ENOSPC: as where all watches are taken."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def remove(self, watch: int) -> None:
        """There is none."""

    def read(self) -> list[Seen]:
        """Nothing."""
        return []


def listen() -> Inotify:
    """An instance; a deaf one, with a line in the log, where the user has too many (128)."""
    try:
        return Inotify()
    except OSError as error:
        _log.warning("inotify: %s (fs.inotify.max_user_instances): folders are looked at "
                     "again and again instead", error.strerror)  # fmt: skip
        return Deaf()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number))
    return result

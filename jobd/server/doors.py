"""The modes of the daemon's sockets, and of the folder that leads to them.

Who reaches a socket is asked for the uid by each request all the same: a mode only keeps out who
has no business here at all.
"""

from __future__ import annotations

import grp
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobd.errors import ConfigError

_log = logging.getLogger(__name__)


class Doors:
    """`access.socket_mode` and `access.socket_group` of jobd.toml. Raises ConfigError."""

    def __init__(self, mode: int = 0o660, group: str | None = None) -> None:
        self._mode = mode
        self._gid = -1 if group is None else _gid(group)

    @property
    def gid(self) -> int:
        """The group that may use the socket, -1 where that is the daemon's own."""
        return self._gid

    @contextmanager
    def opening(self, path: Path) -> Iterator[None]:
        """What binds a socket inside of this gets the mode from the start.

        Without a group of its own the umask gives the mode: a chmod later would leave a window in
        which too many could connect. With one it is closed to all but the owner until it has it.
        """
        first = self._mode if self._gid < 0 else 0o600
        before = os.umask(0o777 & ~first)
        try:
            yield
        finally:
            os.umask(before)
        if self._gid < 0:
            return
        try:
            os.chown(path, -1, self._gid)
        except OSError as error:
            raise ConfigError(
                f"access.socket_group: {path} cannot be given to group {self._gid}: "
                f"{error.strerror}; only root, or a member, can"
            ) from None
        os.chmod(path, self._mode)

    def open_way(self, folder: Path) -> None:
        """See to it that whom the mode lets in can reach the socket's folder, if it is ours.

        The folder is not made readable, only passable; those above it belong to somebody else, so
        where they are closed the log says so.
        """
        found = folder.stat()
        bits = (0o010 if self._mode & 0o060 else 0) | (0o001 if self._mode & 0o006 else 0)
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid == os.geteuid():
            if self._gid >= 0 and found.st_gid != self._gid:
                os.chown(folder, -1, self._gid)
            if mode | bits != mode:
                os.chmod(folder, mode | bits)
        if not self._mode & 0o006:
            return
        closed = [up for up in (folder, *folder.parents) if not up.stat().st_mode & 0o001]
        for up in closed:
            _log.warning("access.socket_mode: others cannot pass %s: `chmod o+x` it", up)


def _gid(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"access.socket_group: {group!r:.60}: no such group") from None

"""The socket that connections come in by: where it lies, and when none are taken for a while."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jobd.errors import ConfigError
from jobd.server.doors import Doors

#: `sun_path` in sockaddr_un, less its NUL
_LONGEST_PATH = 107
#: connections taken in one pass
_ACCEPTED = 256
_PAUSE_S = 1.0
#: there are no descriptors, or no memory, or no more may be watched
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)


class Listener:
    """Listens at `path`, which is taken over; watched by `epoll`. Raises ConfigError."""

    def __init__(self, path: Path, doors: Doors, epoll: select.epoll) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH - len(".health"):
            raise ConfigError(
                f"socket {path}: a socket's path has at most {_LONGEST_PATH - len('.health')} bytes"
            )
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"socket {path}: is there already and is not a socket; move it away")
        self._path = path
        self._epoll = epoll
        #: until when no connection is taken, in monotonic seconds; 0 while they are
        self.paused_until = 0.0
        path.unlink(missing_ok=True)
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        with doors.opening(path):
            self._socket.bind(os.fspath(path))
        self._socket.listen(1024)
        epoll.register(self._socket, select.EPOLLIN)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def accepted(self) -> Iterator[socket.socket]:
        """Connections that have come. Raises OSError where there is no room for another."""
        for _ in range(_ACCEPTED):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    raise
                continue  # it went away again
            connection.setblocking(False)
            yield connection

    def pause(self, now: float) -> None:
        """Leave connections in the backlog for a second, as epoll would tell of them on and on."""
        self._epoll.modify(self._socket, 0)
        self.paused_until = now + _PAUSE_S

    def go_on(self, now: float) -> None:
        """Take connections again, where the second is over."""
        if self.paused_until and now >= self.paused_until:
            self.paused_until = 0.0
            self._epoll.modify(self._socket, select.EPOLLIN)

    def close(self) -> None:
        """Stop listening; the socket's file goes too."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

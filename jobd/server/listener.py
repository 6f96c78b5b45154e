"""The sockets that connections come in by: where they lie, and when none are taken for a while.

The daemon's own, whose callers are who the kernel says, and one of each attempt that has one: who
comes by that is the attempt's run, whoever it says it is (core/inside.py).
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jobd.core.commands import Caller
from jobd.errors import ConfigError
from jobd.server.access import Users
from jobd.server.doors import Doors

_log = logging.getLogger(__name__)

#: `sun_path` in sockaddr_un, less its NUL
_LONGEST_PATH = 107
#: connections taken in one pass
_ACCEPTED = 256
_PAUSE_S = 1.0
#: connections of one attempt that are open at once
MOST_WITHIN = 32
#: there are no descriptors, or no memory, or no more may be watched
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)


def listening_at(path: Path, doors: Doors) -> socket.socket:
    """A socket that listens at `path`, which is taken over. Raises ConfigError."""
    if len(os.fsencode(path)) > _LONGEST_PATH - len(".health"):
        raise ConfigError(
            f"socket {path}: a socket's path has at most {_LONGEST_PATH - len('.health')} bytes"
        )
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"socket {path}: is there already and is not a socket; move it away")
    path.unlink(missing_ok=True)
    made = unix_socket()
    with doors.opening(path):
        made.bind(os.fspath(path))
    made.listen(1024)
    return made


def unix_socket() -> socket.socket:
    """A stream socket that does not block."""
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_UNIX, kind)


class Listener:
    """Takes connections of a socket that listens; watched by `epoll`. Raises OSError.

    `user` is whom all of them are counted to, where that is not for the kernel to say; then no more
    than `MOST_WITHIN` are taken at once, and others are left in the backlog.
    """

    def __init__(
        self, listening: socket.socket, epoll: select.epoll, user: int | None = None
    ) -> None:
        self._epoll = epoll
        self.user = user
        #: until when no connection is taken, in monotonic seconds; 0 while they are
        self.paused_until = 0.0
        self._socket = listening
        epoll.register(self._socket, select.EPOLLIN)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def accepted(self, open_: int = 0) -> Iterator[socket.socket]:
        """Connections that have come, of whom `open_` are there already. Raises OSError where there
        is no room for another."""
        for number in range(_ACCEPTED):
            if self.user is not None and open_ + number >= MOST_WITHIN:
                raise OSError(errno.EUSERS, f"{MOST_WITHIN} of one attempt are open")
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
        """Stop listening."""
        self._socket.close()


class Listeners:
    """The daemon's own socket at `path`, and those of attempts. `users` learns who comes by them.

    Raises ConfigError.
    """

    def __init__(self, path: Path, doors: Doors, users: Users, epoll: select.epoll) -> None:
        self._path = path
        self._users = users
        self._epoll = epoll
        main = Listener(listening_at(path, doors), epoll)
        self.by_fd = {main.fileno(): main}
        self._within: dict[tuple[int, int], Listener] = {}
        self._last = 0

    @property
    def paused(self) -> bool:
        """Whether one of them takes no connections for now."""
        return any(each.paused_until for each in self.by_fd.values())

    def go_on(self, now: float) -> None:
        """Take connections again, where that was stopped and the second is over."""
        for listener in self.by_fd.values():
            listener.go_on(now)

    def open(self, caller: Caller, listening: socket.socket) -> None:
        """Take connections of an attempt's socket: all who come by it are `caller`."""
        assert caller.within is not None
        # a number of its own that is nobody's uid, so that it takes of nobody's share
        self._last -= 1
        try:
            listener = Listener(listening, self._epoll, self._last)
        except OSError as error:
            _log.warning("run %d: nobody can ask from inside: %s", caller.within[0], error)
            listening.close()
            return
        self._users.insiders[self._last] = caller
        self._within[caller.within] = self.by_fd[listener.fileno()] = listener

    def shut(self, within: tuple[int, int]) -> int | None:
        """Take no more connections of an attempt's socket; whom the open ones are counted to."""
        listener = self._within.pop(within, None)
        if listener is None or listener.user is None:
            return None
        self._users.insiders.pop(listener.user)
        del self.by_fd[listener.fileno()]
        listener.close()
        return listener.user

    def close(self) -> None:
        """Stop listening; the daemon's own socket's file goes too."""
        for listener in self.by_fd.values():
            listener.close()
        self._path.unlink(missing_ok=True)

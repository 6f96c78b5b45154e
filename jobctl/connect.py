"""Finds the daemon's socket, and finds out what is behind it before anything is asked.

A ZeroMQ connect to a missing or a dead socket succeeds and is then silent for ever, so a plain
AF_UNIX connect looks first: it answers within 0.1 ms. The health socket (PROTOCOL.md) tells a hung
daemon from a dead one.
"""

from __future__ import annotations

# the C module under `socket`, which alone costs the hot path 2 ms (selectors, enum conversions)
import _socket
import errno
import json
import os
import struct
import time
from collections.abc import Mapping
from typing import Any

from jobd.errors import ForbiddenError, UnreachableError

#: sun_path holds 108 bytes with its end mark; what is longer goes by the folder's descriptor
_PATH_ROOM = 107

#: seconds that the health socket may take; its thread touches neither disk nor engine
HEALTH_PATIENCE = 0.4

SYSTEM_SOCKET = "/run/jobd/jobd.sock"


class Place:
    """Where the daemon's socket is expected, and how a daemon there is started."""

    __slots__ = ("path", "start")

    def __init__(self, path: str, start: str) -> None:
        self.path = path
        self.start = start

    @property
    def health(self) -> str:
        """The path of the health socket."""
        return self.path + ".health"


def locate(socket: str | None, home: str | None, environ: Mapping[str, str]) -> Place:
    """The place by INTERFACE's order: flag, environment, a personal socket that is there, system's.

    `socket` and `home` are the flags; the caller has made sure that not both are given.
    """
    if not socket and not home:
        socket = environ.get("JOBCTL_SOCKET")
        home = None if socket else environ.get("JOBCTL_HOME")
        # inside of an attempt there is but that one (INTERFACE, "What an attempt finds")
        inside = environ.get("JOBD_SOCKET")
        if inside and not socket and not home:
            return Place(inside, "`jobd run`; an attempt's own socket is gone once that has ended")
    if socket:
        return Place(os.path.abspath(socket), "`jobd run` (with the home or config of that socket)")
    if home:
        folder = os.path.abspath(home)
        return Place(os.path.join(folder, "run", "jobd.sock"), f"`jobd run --home {home}`")
    # cron jobs and `su` have no XDG_RUNTIME_DIR; the folder is there all the same
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    personal = os.path.join(runtime, "jobd", "jobd.sock")
    if os.path.exists(personal) or os.path.exists(personal + ".health"):
        return Place(personal, "`jobd run`")
    return Place(SYSTEM_SOCKET, "`systemctl start jobd` (or `jobd run` for one of your own)")


class Reachable:
    """An address for connect(2) and ZeroMQ; holds the folder open where the path is too long."""

    __slots__ = ("_folder", "path")

    def __init__(self, path: str) -> None:
        self._folder = -1
        self.path = path
        if len(os.fsencode(path)) > _PATH_ROOM:
            folder, name = os.path.split(path)
            self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.path = f"/proc/self/fd/{self._folder}/{name}"

    def close(self) -> None:
        """Lets go of the folder; the path is void then."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def plain_connect(path: str, timeout: float) -> _socket.socket:
    """A connected stream socket to `path`. Raises OSError, whose errno tells why not."""
    address = Reachable(path)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout)
        connection.connect(address.path)
    except OSError:
        connection.close()
        raise
    finally:
        address.close()
    return connection


def listening(place: Place) -> int | None:
    """The pid of who listens on the daemon's socket, 0 where it cannot be told, None if nobody.

    Raises ForbiddenError where we may not ask. A full backlog (a daemon that was
    stopped with many clients waiting) counts as listening.
    """
    try:
        connection = plain_connect(place.path, 0.2)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ForbiddenError(
                f"socket {place.path}: permission denied: its group may use it, "
                "an administrator puts people there"
            ) from None
        if error.errno in (errno.EAGAIN, errno.EINPROGRESS) or isinstance(error, TimeoutError):
            return 0
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return None
        raise UnreachableError(f"socket {place.path}: {error.strerror or error}") from None
    try:
        return peer_pid(connection)
    finally:
        connection.close()


class Health:
    """What the health socket told, or that it told nothing; `pid` is 0 where unknown."""

    __slots__ = ("facts", "pid")

    def __init__(self, pid: int, facts: dict[str, Any] | None) -> None:
        self.pid = pid
        #: None: it is there, and did not answer
        self.facts = facts

    @property
    def phase(self) -> str:
        """`starting`, `running`, `stopping`, `failed`, or `silent`."""
        return str(self.facts.get("phase", "running")) if self.facts else "silent"


def ask_health(place: Place) -> Health | None:
    """What the daemon's health thread says now; None where there is no such socket to ask."""
    try:
        connection = plain_connect(place.health, HEALTH_PATIENCE)
    except (TimeoutError, BlockingIOError):
        # its backlog is full: it has not accepted anybody for a while
        return Health(0, None)
    except OSError:
        return None
    try:
        pid = peer_pid(connection)
        facts = _ask_line(connection)
    finally:
        connection.close()
    if facts is not None and isinstance(facts.get("pid"), int):
        pid = facts["pid"]
    return Health(pid, facts)


def peer_pid(connection: _socket.socket) -> int:
    """The pid of the process that listens, by the kernel's word; so even a stopped one has one."""
    try:
        packed = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    except OSError:
        return 0
    pid: int = struct.unpack("3i", packed)[0]
    # socket activation: the listener was made by systemd
    return 0 if pid == 1 else pid


def _ask_line(connection: _socket.socket) -> dict[str, Any] | None:
    line = b""
    deadline = time.monotonic() + HEALTH_PATIENCE
    try:
        connection.sendall(b"ping\n")
        while not line.endswith(b"\n") and len(line) < 65536:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = connection.recv(65536)
            if not piece:
                break
            line += piece
        facts = json.loads(line)
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def describe(health: Health | None, silent: float) -> str:
    """One clause on a daemon that has not answered for `silent` seconds: what is known of it."""
    span = f"{silent:.0f} s"
    if health is None:
        return f"jobd has not answered for {span}, and has no health socket to ask"
    who = f"jobd (pid {health.pid})" if health.pid else "jobd"
    if health.facts is None:
        return (
            f"{who} is there and has not answered for {span}, "
            f"its health thread neither{_process_state(health.pid)}"
        )
    phase, age = health.phase, health.facts.get("loop_age_ms", 0)
    if phase == "starting":
        return f"{who} is starting: it reads the queue"
    if phase == "stopping":
        return f"{who} is stopping"
    if phase == "failed":
        return f"{who} has failed and is about to end"
    return f"{who} is running and has not answered for {span}: {_loop(health.facts, age)}"


def _loop(facts: dict[str, Any], age: object) -> str:
    doing = {"syncing": "syncing the queue", "idle": "idle"}.get(
        str(facts.get("doing")), str(facts.get("doing"))
    )
    if not isinstance(age, int | float) or age < 1000:
        return f"its loop goes round ({doing})"
    return f"its loop has been {doing} for {age / 1000:.1f} s"


def _process_state(pid: int) -> str:
    """What the kernel says of a process that is silent as a whole."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read(512).rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return {
        b"T": f": it was stopped by a signal; `kill -CONT {pid}` lets it go on",
        b"D": ": it hangs in the kernel, mostly on a disk",
        b"R": ": it is busy",
    }.get(state, "")


def not_running(place: Place, health: Health | None = None) -> UnreachableError:
    """The error for a daemon that is not there, or about to end; with how it is started."""
    if health is not None:
        return UnreachableError(f"{describe(health, 0)}; start it with {place.start}")
    what = "nobody listens on" if os.path.exists(place.path) else "no socket at"
    return UnreachableError(
        f"jobd is not running: {what} {place.path}; start it with {place.start}"
    )


def not_listening(place: Place, health: Health) -> UnreachableError:
    """The error for a daemon that lives and does not open its socket."""
    who = f"jobd (pid {health.pid})" if health.pid else "jobd"
    why = "it still reads the queue" if health.phase == "starting" else "look at its own messages"
    return UnreachableError(f"{who} is there, and does not listen on {place.path}: {why}")

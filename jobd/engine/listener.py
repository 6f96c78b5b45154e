"""Who listens at a unix socket: since when, with what limits, and whether a pid of it is ours.

Each takes the engine's url, and says that it does not know of one that is elsewhere or away.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

from jobd.engine.transport import socket_path

_CREDENTIALS = struct.Struct("3i")
#: who listens where systemd holds the socket for Docker; the pid file's time stands for it then
_PID_FILE = Path("/run/docker.pid")
_USUAL = ("/var/run/docker.sock", "/run/docker.sock")
#: to connect takes microseconds, also to one that hangs; but not where its queue is full
_PATIENCE_S = 1.0


def is_there(url: str) -> bool:
    """Whether anybody listens there; it may hang all the same."""
    return _listener(url) is not None


def started_at(url: str) -> int | None:
    """When the process that listens there was started, in milliseconds UTC by today's clock.

    None where that cannot be told: it is in another pid namespace, or is systemd and Docker's own
    pid file is not in its usual place.
    """
    pid = _pid(url)
    try:
        if pid > 1:
            return _process_start(pid)
        usual = pid == 1 and socket_path(url) in _USUAL
        return int(_PID_FILE.stat().st_mtime * 1000) if usual else None
    except (OSError, ValueError, IndexError):
        return None


def limits(url: str) -> tuple[int | None, int | None]:
    """How many open files and processes the listener may have; None where unknown.

    Unknown too where systemd listens for it.
    """
    pid = _pid(url)
    found: dict[str, int] = {}
    try:
        text = Path(f"/proc/{pid}/limits").read_text(encoding="ascii") if pid > 1 else ""
    except OSError:
        text = ""
    for line in text.splitlines():
        # "Max open files            1024                 4096                 files"
        name, hard = line[:26].strip(), line[26:].split()[1:2]
        if hard and hard[0].isdecimal():
            found[name] = int(hard[0])
    return found.get("Max open files"), found.get("Max processes")


def shares_pids(url: str) -> bool:
    """Whether a pid that the listener names is the same process here, and visible.

    False where that is not certain: it may be in a pid namespace of its own, or /proc hide
    others' processes.
    """
    pid = _pid(url)
    if pid == 1:
        return Path("/proc/1").exists()
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # one number for each namespace that the process is in below that of this /proc
    return any(line.split()[1:] == [str(pid)] for line in lines.splitlines() if _is_pids(line))


def _is_pids(line: str) -> bool:
    return line.startswith("NSpid:")


def _pid(url: str) -> int:
    """The pid of whoever listens there; 0 where that is not known."""
    return _listener(url) or 0


def _listener(url: str) -> int | None:
    """The same; None where nobody listens at all."""
    path = socket_path(url)
    if path is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PATIENCE_S)
            probe.connect(path)
            found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    return int(_CREDENTIALS.unpack(found)[0])


def _process_start(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    # the name in parentheses may hold anything, so count from behind it
    ticks = int(text.rpartition(")")[2].split()[19])
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot) * 1000)

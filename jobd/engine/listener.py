"""Who listens at a unix socket: since when, with what limits, and whether a pid of it is ours."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")
#: who listens where systemd holds the socket for Docker; the pid file's time stands for it then
_PID_FILE = Path("/run/docker.pid")
_USUAL = ("/var/run/docker.sock", "/run/docker.sock")


def started_at(path: str, timeout_s: float) -> int | None:
    """When the process that listens at `path` was started, in milliseconds UTC by today's clock.

    None where that cannot be told: it is in another pid namespace, or is systemd and Docker's own
    pid file is not in its usual place. Raises OSError where nobody listens.
    """
    pid = _listener(path, timeout_s)
    try:
        if pid > 1:
            return _process_start(pid)
        return int(_PID_FILE.stat().st_mtime * 1000) if path in _USUAL else None
    except (OSError, ValueError, IndexError):
        return None


def limits(path: str, timeout_s: float) -> tuple[int | None, int | None]:
    """How many open files and processes the listener at `path` may have; None where unknown.

    Unknown too where systemd listens for it. Raises OSError where nobody listens.
    """
    pid = _listener(path, timeout_s)
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


def shares_pids(path: str, timeout_s: float) -> bool:
    """Whether a pid that the listener at `path` names is the same process here, and visible.

    False where that is not certain: it may be in a pid namespace of its own, or /proc hide
    others' processes. Raises OSError where nobody listens.
    """
    pid = _listener(path, timeout_s)
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


def _listener(path: str, timeout_s: float) -> int:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout_s)
        probe.connect(path)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def _process_start(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    # the name in parentheses may hold anything, so count from behind it
    ticks = int(text.rpartition(")")[2].split()[19])
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot) * 1000)

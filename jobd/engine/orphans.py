"""Ends the processes of an attempt whose shim is gone: nobody reads their output any more.

They are known by the attempt's cgroup, and by its folder in their environment (TASK_DIR), which no
other process of the host has. A pid alone is never believed: it may be another's by now.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

#: how long they are waited for after SIGKILL, in seconds
_PATIENCE = 2.0


def find(task_dir: Path, caged: set[int]) -> list[int]:
    """The living processes of the attempt whose TASK_DIR that is; `caged` are in its cgroup."""
    mark = b"\0TASK_DIR=" + os.fsencode(task_dir) + b"\0"
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and _lives(name) and (int(name) in caged or _bears(name, mark)):
            found.append(int(name))
    return found


def end(task_dir: Path, caged: set[int]) -> int:
    """SIGKILL to all of them, until none is left or the patience is over; how many there were."""
    mark = b"\0TASK_DIR=" + os.fsencode(task_dir) + b"\0"
    seen: set[int] = set()
    until = time.monotonic() + _PATIENCE
    while left := find(task_dir, caged):
        for pid in left:
            seen.add(pid)
            _kill(pid, mark, pid in caged)
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return len(seen)


def _kill(pid: int, mark: bytes, is_caged: bool) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # it ended by itself
    try:
        # asked again: the handle stands for one process, the number might have been another's
        if is_caged or _bears(str(pid), mark):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass  # ended meanwhile, or another user's, which cannot be
    finally:
        os.close(handle)


def _bears(pid: str, mark: bytes) -> bool:
    try:
        return mark in b"\0" + Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False


def _lives(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")

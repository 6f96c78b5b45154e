"""What the host has and has free, by psutil. The only place that asks it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import psutil

from jobd.capacity.gates import Disk

_GPU = re.compile(r"nvidia\d+")
#: where a kernel with pressure stall information tells of it
_PRESSURE = "/proc/pressure/{}"


def host_cpus() -> float:
    """Cores that this process may use."""
    return float(len(os.sched_getaffinity(0)))


def host_memory() -> int:
    """Bytes of memory that the host has."""
    return int(psutil.virtual_memory().total)


def host_gpus(folder: str = "/dev") -> int:
    """GPUs that the host has, by the nodes that NVIDIA's driver makes (`/dev/nvidia0`, ...)."""
    try:
        return sum(1 for name in os.listdir(folder) if _GPU.fullmatch(name))
    except OSError:
        return 0


def available_memory() -> int:
    """Bytes that could be taken without swapping, by the kernel's own estimate."""
    return int(psutil.virtual_memory().available)


def used_cpu() -> float:
    """Cores in use since the last call, by everything on the host (0.0 at the first one)."""
    return float(psutil.cpu_percent(interval=None)) / 100 * host_cpus()


def load() -> float:
    """The host's load of the last minute, for each core that this process may use."""
    return os.getloadavg()[0] / host_cpus()


def disks(paths: Iterable[tuple[str, bool]]) -> tuple[Disk, ...]:
    """Room of the file systems that hold the paths, for who is not root; each only once.

    A path comes with whether it is for images; one that is not there is left out.
    """
    found: dict[int, Disk] = {}
    for path, images in paths:
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        # one that is for both is for both
        if device not in found or not images:
            found[device] = Disk(path, free, total, images)
    return tuple(found.values())


def step_back() -> None:
    """Lets this process run only when nobody else wants to, with processor and disk alike."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def step_forward(pid: int) -> None:
    """Gives a process that stepped back a small share of its own; one that has ended is no matter.

    Errors do not matter: it goes on as it is.
    """
    try:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, pid, 10)
    except OSError:
        pass


def pressure() -> dict[str, float]:
    """Share of the last 10 s in which something waited for cpu, memory or io; {} where unknown."""
    found: dict[str, float] = {}
    for what in ("cpu", "memory", "io"):
        try:
            with open(_PRESSURE.format(what), encoding="ascii") as lines:
                first = lines.readline().split()
        except OSError:
            continue  # no such kernel option, or forbidden in this container
        found[what] = float(first[1].partition("=")[2]) / 100 if len(first) > 1 else 0.0
    return found

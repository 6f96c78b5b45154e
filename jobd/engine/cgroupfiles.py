"""The kernel's cgroup files, version 1 and 2, read into figures. Knows no attempts.

A figure that a kernel does not give is None, never 0: version 1 counts block bytes only where a
limit is set on some kernels, version 2 has a memory peak since Linux 5.19.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from jobd.engine.shim.records import read

#: controllers whose files are read; in version 1 each has a tree of its own
CONTROLLERS = ("memory", "cpuacct", "cpu", "blkio")
_MILLI, _MICRO, _NANO = 1_000, 1_000_000, 1_000_000_000


@dataclass(frozen=True, slots=True)
class Throttled:
    """How often the CPU limit was met: `periods` in all, `count` of them cut short, for `ms`."""

    ms: int
    count: int
    periods: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a cgroup: CPU time in seconds, sizes in bytes, kills for memory below it."""

    cpu_seconds: float | None = None
    memory_peak: int | None = None
    #: None where the kernel does not count them for a parent (cgroup v1)
    oom_kills: int | None = None
    #: in use now, less what the kernel gives back when somebody needs it (files it has read)
    memory_now: int | None = None
    block_read: int | None = None
    block_written: int | None = None
    throttled: Throttled | None = None

    def since(self, before: Reading | None) -> Reading:
        """This look, with the greatest of what earlier ones saw; `memory_now` is this one's."""
        if before is None:
            return self
        found = {}
        for field in fields(self):
            old, new = getattr(before, field.name), getattr(self, field.name)
            if field.name == "memory_now":
                found[field.name] = new
            elif field.name == "throttled":
                found[field.name] = new or old
            else:
                found[field.name] = old if new is None else new if old is None else max(old, new)
        return Reading(**found)


class Tree:
    """A host's cgroup tree below `root`: one for all controllers (version 2), or one for each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unified = (root / "cgroup.controllers").exists()
        #: as text: an attempt's end asks for a dozen files, and paths as objects were half of that
        self._tops = {controller: str(self.top(controller)) for controller in CONTROLLERS}

    def places(self, name: str) -> dict[str, str]:
        """The folder of the cgroup `name` (absolute) for each of CONTROLLERS."""
        return {controller: f"{self._tops[controller]}{name}" for controller in CONTROLLERS}

    def top(self, controller: str) -> Path:
        """Where the tree of that controller begins."""
        return self.root if self.unified else self.root / controller

    def folders(self, name: str) -> list[Path]:
        """The cgroup `name` in every tree that has it, those of other controllers too."""
        if self.unified:
            return [self.root / name[1:]]
        try:
            tops = [top for top in self.root.iterdir() if top.is_dir() and not top.is_symlink()]
        except OSError:
            return []
        return [top / name[1:] for top in tops if (top / name[1:]).is_dir()]

    def of_process(self, text: str, part: str) -> dict[str, str] | None:
        """The places of a process by its `/proc/PID/cgroup`; None where they do not name `part`."""
        names: dict[str, str] = {}
        for line in text.splitlines():
            _, controllers, name = line.split(":", 2)
            if part in name:
                names.update(dict.fromkeys(controllers.split(","), name))
        if self.unified:
            return self.places(names[""]) if "" in names else None
        if "memory" not in names or "cpuacct" not in names:
            return None
        # a controller that leaves the process in another cgroup tells nothing of it
        return {
            controller: f"{self._tops[controller]}{names[controller]}"
            for controller in CONTROLLERS
            if controller in names
        }

    def read(self, places: dict[str, str], *, alive: bool) -> Reading | None:
        """One look; None where nothing is there. `alive`: what is in use now means something."""
        reading = self._unified(places, alive) if self.unified else self._split(places, alive)
        return None if reading == Reading() else reading

    def _unified(self, places: dict[str, str], alive: bool) -> Reading:
        folder = places["memory"]
        now = _working(folder, "memory.current", "file", "shmem") if alive else None
        peak = _number(f"{folder}/memory.peak")
        if peak is None and alive:
            # kernels before 5.19 have no peak: the greatest of the samples stands for it
            peak = _number(f"{folder}/memory.current")
        stat = _fields(f"{folder}/cpu.stat")
        read, written = _io_stat(f"{folder}/io.stat")
        usage = stat.get("usage_usec")
        return Reading(
            cpu_seconds=None if usage is None else usage / _MICRO,
            memory_peak=peak,
            oom_kills=_fields(f"{folder}/memory.events").get("oom_kill"),
            memory_now=now,
            block_read=read,
            block_written=written,
            throttled=_throttled(stat, "throttled_usec", _MILLI),
        )

    def _split(self, places: dict[str, str], alive: bool) -> Reading:
        nowhere = "/nonexistent"
        memory = places.get("memory", nowhere)
        usage = _number(f"{places.get('cpuacct', nowhere)}/cpuacct.usage")
        now = (
            _working(memory, "memory.usage_in_bytes", "total_cache", "total_shmem")
            if alive
            else None
        )
        blkio = places.get("blkio", nowhere)
        read, written = _io_service(f"{blkio}/blkio.throttle.io_service_bytes_recursive")
        stat = _fields(f"{places.get('cpu', nowhere)}/cpu.stat")
        return Reading(
            cpu_seconds=None if usage is None else usage / _NANO,
            memory_peak=_number(f"{memory}/memory.max_usage_in_bytes"),
            oom_kills=_fields(f"{memory}/memory.oom_control").get("oom_kill") or None,
            memory_now=now,
            block_read=read,
            block_written=written,
            throttled=_throttled(stat, "throttled_time", _MICRO),
        )


def _working(folder: str, current: str, cache: str, shared: str) -> int | None:
    """What is in use, less the cache of files: the host counts that as available as well."""
    used = _number(f"{folder}/{current}")
    if used is None:
        return None
    stat = _fields(f"{folder}/memory.stat")
    # memory of tmpfs is counted among the files, and cannot be given back
    return max(0, used - max(0, stat.get(cache, 0) - stat.get(shared, 0)))


def _throttled(stat: dict[str, int], key: str, per_ms: int) -> Throttled | None:
    """None where no CPU limit was at work: a parent counts its own limit's periods alone."""
    periods = stat.get("nr_periods")
    if not periods:
        return None
    return Throttled(stat.get(key, 0) // per_ms, stat.get("nr_throttled", 0), periods)


def _io_stat(path: str) -> tuple[int | None, int | None]:
    """Bytes read and written by version 2: `8:0 rbytes=1 wbytes=2 rios=...` for each device."""
    lines = _lines(path)
    if lines is None:
        return None, None
    read = written = 0
    for line in lines:
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in ("rbytes", "wbytes") and value.isdecimal():
                read += int(value) if key == "rbytes" else 0
                written += int(value) if key == "wbytes" else 0
    return read, written


def _io_service(path: str) -> tuple[int | None, int | None]:
    """Bytes read and written by version 1: `8:0 Read 1`, `8:0 Write 2` for each device.

    Without a device's line nothing was counted, which is not the same as nothing done: Linux 6.18
    counts where a limit is set alone.
    """
    found: dict[str, int] = {}
    for line in _lines(path) or ():
        words = line.split()
        if len(words) == 3 and words[2].isdecimal():
            found[words[1]] = found.get(words[1], 0) + int(words[2])
    return (found.get("Read", 0), found.get("Write", 0)) if found else (None, None)


def _lines(path: str) -> list[str] | None:
    try:
        return read(path).decode("ascii", "replace").splitlines()
    except OSError:
        return None


def _number(path: str) -> int | None:
    try:
        return int(read(path))
    except (OSError, ValueError):
        return None


def _fields(path: str) -> dict[str, int]:
    """The numbers in a file of `name number` lines; nothing where there is no such file."""
    found = {}
    for line in _lines(path) or ():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found

"""Cgroups of process attempts: made with their limits, read, removed. Versions 1 and 2; for root.

The kernel then bounds all processes of an attempt together, which limits of a single process
cannot. Where no cgroup can be had the shim sets those instead (PROCESS.md, "Limits").
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobd.engine.cgroupfiles import Reading
from jobd.engine.shim.records import read
from jobd.engine.usage import Cgroups, CgroupSettings

#: the cgroup that holds those of the attempts; not the containers' one, which their engine sweeps
NAME = "jobd-process"
#: the kernel's own default
_PERIOD_US = 100_000
_V1 = ("memory", "cpu", "cpuacct", "pids")
_V2 = ("memory", "cpu", "pids")
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Cage:
    """A cgroup that is ready: files to write `0` to, and what it limits."""

    joins: tuple[str, ...] = ()
    memory: bool = False
    cpu: bool = False
    pids: bool = False


class Cages:
    """One cgroup for each attempt, by its reference. No method raises OSError."""

    def __init__(self, settings: CgroupSettings | None = None) -> None:
        self._settings = settings or CgroupSettings(name=NAME)
        self._root = self._settings.root
        self._unified = (self._root / "cgroup.controllers").exists()
        self._cgroups = Cgroups(self._settings)
        #: the cgroups that hold the attempts', one in each tree that there is
        tops = [self._root] if self._unified else [self._root / name for name in _V1]
        self._tops = [str(top / self._settings.name) for top in tops if top.is_dir()]

    def usable(self) -> bool:
        """Whether attempts can get cgroups here."""
        memory = self._root if self._unified else self._root / "memory"
        return self._settings.parents and os.geteuid() == 0 and os.access(memory, os.W_OK)

    def make(self, ref: str, cpus: float, memory: int, pids: int) -> Cage:
        """The attempt's cgroup with its limits (cores, bytes, processes); as good as can be had."""
        if not self.usable():
            return Cage()
        quota = f"{max(1000, round(cpus * _PERIOD_US))}"
        if self._unified:
            return self._make_v2(ref, quota, memory, pids)
        # the first is what counts; memsw is only there where the kernel accounts for swap
        limits: dict[str, dict[str, object]] = {
            "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},
            "cpu": {"cpu.cfs_quota_us": quota},
            "pids": {"pids.max": pids},
        }
        joins, held = [], set()
        for top in self._tops:
            controller = top.split("/")[-2]
            if _make(f"{top}/{ref}"):
                joins.append(f"{top}/{ref}/cgroup.procs")
                if _limit(f"{top}/{ref}", limits.get(controller, {})):
                    held.add(controller)
        return Cage(tuple(joins), "memory" in held, "cpu" in held, "pids" in held)

    def _make_v2(self, ref: str, quota: str, memory: int, pids: int) -> Cage:
        (top,) = self._tops
        folder = f"{top}/{ref}"
        _make(top)
        for above in (self._root, top):
            for controller in _V2:
                _write(f"{above}/cgroup.subtree_control", f"+{controller}")
        if not _make(folder):
            return Cage()
        return Cage(
            (f"{folder}/cgroup.procs",),
            _limit(folder, {"memory.max": memory, "memory.swap.max": 0}),
            _limit(folder, {"cpu.max": f"{quota} {_PERIOD_US}"}),
            _limit(folder, {"pids.max": pids}),
        )

    def read(self, ref: str, *, alive: bool = False) -> Reading | None:
        """What the attempt's processes used together, or None where it has no cgroup."""
        return self._cgroups.read_parent(ref, alive=alive)

    def pids(self, ref: str) -> set[int]:
        """The processes that are in the attempt's cgroup."""
        found: set[int] = set()
        for top in self._tops:
            try:
                found.update(map(int, read(f"{top}/{ref}/cgroup.procs").split()))
            except OSError:
                continue  # it has none in this hierarchy
        return found

    def remove(self, ref: str) -> None:
        """Remove the attempt's cgroup, if there is one and nothing runs in it."""
        try:
            for top in self._tops:
                os.rmdir(f"{top}/{ref}")
        except OSError:
            # one that is still being emptied gets its time, and those of other trees are looked for
            self._cgroups.forget(ref)

    def sweep(self, prefix: str, keep: set[str]) -> None:
        """Remove empty cgroups of attempts named `prefix`... that are no more."""
        self._cgroups.sweep(prefix, keep)


def _make(folder: str) -> bool:
    try:
        os.mkdir(folder)
    except FileExistsError:
        return True
    except FileNotFoundError:
        above = os.path.dirname(folder)
        # never more than our own above it: what is no tree of cgroups is left alone
        return os.path.isdir(os.path.dirname(above)) and _make(above) and _make(folder)
    except OSError:
        return False
    return True


def _limit(folder: str, limits: dict[str, object]) -> bool:
    """Set limits; whether the first of them holds (others are not known to every kernel)."""
    held = [_write(f"{folder}/{name}", f"{value}") for name, value in limits.items()]
    return bool(held and held[0])


def _write(path: str, text: str) -> bool:
    try:
        fd = os.open(path, _WRITE, 0o644)
    except OSError:
        return False
    try:
        os.write(fd, text.encode("ascii"))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True

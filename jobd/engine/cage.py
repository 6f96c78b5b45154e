"""Cgroups of process attempts: made with their limits, read, removed. Versions 1 and 2; for root.

The kernel then bounds all processes of an attempt together, which limits of a single process
cannot. Where no cgroup can be had the shim sets those instead (PROCESS.md, "Limits").
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jobd.engine.cgroupfiles import Reading
from jobd.engine.usage import Cgroups, CgroupSettings

#: the cgroup that holds those of the attempts; not the containers' one, which their engine sweeps
NAME = "jobd-process"
#: the kernel's own default
_PERIOD_US = 100_000
_V1 = ("memory", "cpu", "cpuacct", "pids")
_V2 = ("memory", "cpu", "pids")


@dataclass(frozen=True, slots=True)
class Cage:
    """A cgroup that is ready: files to write `0` to, and what it limits."""

    joins: tuple[Path, ...] = ()
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
        for controller in _V1:
            folder = self._root / controller / self._settings.name / ref
            if (self._root / controller).is_dir() and _make(folder):
                joins.append(folder / "cgroup.procs")
                if _limit(folder, limits.get(controller, {})):
                    held.add(controller)
        return Cage(tuple(joins), "memory" in held, "cpu" in held, "pids" in held)

    def _make_v2(self, ref: str, quota: str, memory: int, pids: int) -> Cage:
        top = self._root / self._settings.name
        folder = top / ref
        _make(top)
        for above in (self._root, top):
            for controller in _V2:
                _write(above / "cgroup.subtree_control", f"+{controller}")
        if not _make(folder):
            return Cage()
        return Cage(
            (folder / "cgroup.procs",),
            _limit(folder, {"memory.max": memory, "memory.swap.max": 0}),
            _limit(folder, {"cpu.max": f"{quota} {_PERIOD_US}"}),
            _limit(folder, {"pids.max": pids}),
        )

    def read(self, ref: str, *, alive: bool = False) -> Reading | None:
        """What the attempt's processes used together, or None where it has no cgroup."""
        return self._cgroups.read_parent(ref, alive=alive)

    def pids(self, ref: str) -> set[int]:
        """The processes that are in the attempt's cgroup."""
        tops = [self._root] if self._unified else [self._root / name for name in _V1]
        found: set[int] = set()
        for top in tops:
            try:
                text = (top / self._settings.name / ref / "cgroup.procs").read_text("ascii")
            except OSError:
                continue  # it has none in this hierarchy
            found.update(map(int, text.split()))
        return found

    def remove(self, ref: str) -> None:
        """Remove the attempt's cgroup, if there is one and nothing runs in it."""
        self._cgroups.forget(ref)

    def sweep(self, prefix: str, keep: set[str]) -> None:
        """Remove empty cgroups of attempts named `prefix`... that are no more."""
        self._cgroups.sweep(prefix, keep)


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _limit(folder: Path, limits: dict[str, object]) -> bool:
    """Set limits; whether the first of them holds (others are not known to every kernel)."""
    held = [_write(folder / name, f"{value}") for name, value in limits.items()]
    return bool(held and held[0])


def _write(path: Path, text: str) -> bool:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(text.encode("ascii"))
    except OSError:
        return False
    return True

"""What an attempt used, read from the kernel's cgroup files: cheap, and right after its end.

A container's own cgroup is gone the moment it ends, and its peak of memory with it. A parent of
its own that the attempt is started under stays and holds peak and CPU time; it takes root and the
engine's `cgroupfs` driver. Elsewhere the container's cgroup is read once a second while it runs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobd.engine.base import Usage

_T = TypeVar("_T", int, float)


@dataclass(frozen=True, slots=True)
class CgroupSettings:
    """Where the kernel's cgroup tree is, and whether attempts get a parent of their own in it."""

    #: False keeps jobd from writing to the tree; usage is then sampled
    parents: bool = True
    root: Path = Path("/sys/fs/cgroup")
    #: the cgroup that holds the attempts' parents
    name: str = "jobd"


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a cgroup: CPU time in seconds, memory in bytes, kills for memory below it."""

    cpu_seconds: float | None = None
    memory_peak: int | None = None
    #: None where the kernel does not count them for a parent (cgroup v1)
    oom_kills: int | None = None


class Cgroups:
    """Reads usage by attempt, and removes the parents that attempts leave behind."""

    def __init__(self, settings: CgroupSettings) -> None:
        self._settings = settings
        self._unified = (settings.root / "cgroup.controllers").exists()
        self._lock = threading.Lock()
        #: by attempt: where its container's own cgroup is, and the best reading of it so far
        self._places: dict[str, tuple[Path, Path]] = {}
        self._samples: dict[str, Reading] = {}

    def can_parent(self, driver: str) -> bool:
        """Whether attempts of an engine with this cgroup driver can get parents of their own."""
        settings = self._settings
        memory = settings.root if self._unified else settings.root / "memory"
        return (
            settings.parents
            and driver == "cgroupfs"
            and os.geteuid() == 0
            and os.access(memory, os.W_OK)
        )

    def parent(self, ref: str) -> str:
        """The absolute name of the attempt's parent cgroup."""
        return f"/{self._settings.name}/{ref}"

    def read_parent(self, ref: str) -> Reading | None:
        """What all that ever ran under the attempt's parent used, or None where there is none."""
        return self._read(*self._where(self.parent(ref)), alive=False)

    def sample(self, ref: str) -> Reading | None:
        """Look at the cgroup that :meth:`found_at` told of; peaks of earlier looks are kept."""
        with self._lock:
            place, before = self._places.get(ref), self._samples.get(ref)
        now = None if place is None else self._read(*place, alive=True)
        if now is None:
            return before
        if before is not None:
            now = Reading(
                _greater(before.cpu_seconds, now.cpu_seconds),
                _greater(before.memory_peak, now.memory_peak),
                _greater(before.oom_kills, now.oom_kills),
            )
        with self._lock:
            if ref in self._places:
                self._samples[ref] = now
        return now

    def is_placed(self, ref: str) -> bool:
        """Whether it is known where the attempt's own cgroup is."""
        with self._lock:
            return ref in self._places

    def found_at(self, ref: str, pid: int, engine_id: str) -> None:
        """The attempt's first process is `pid`: its cgroup is looked up, never guessed.

        Left alone when that process is not in a cgroup named after the container: pids are used
        again, and one of an engine on another host means nothing here.
        """
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        names = {}
        for line in text.splitlines():
            _, controllers, name = line.split(":", 2)
            if engine_id in name:
                names.update(dict.fromkeys(controllers.split(","), name))
        root = self._settings.root
        if self._unified and "" in names:
            place = (root / names[""][1:],) * 2
        elif "memory" in names and "cpuacct" in names:
            place = (root / "memory" / names["memory"][1:], root / "cpuacct" / names["cpuacct"][1:])
        else:
            return
        with self._lock:
            self._places[ref] = place

    def forget(self, ref: str) -> None:
        """Remove the attempt's parent cgroup and what is remembered of it. Its end is durable."""
        with self._lock:
            self._places.pop(ref, None)
            self._samples.pop(ref, None)
        if self._settings.parents:
            for folder in self._folders(self.parent(ref)):
                _remove(folder)

    def sweep(self, prefix: str, keep: Iterable[str]) -> None:
        """Remove empty parents of attempts named `prefix`... that the engine knows no more.

        For those whose container was removed by a jobd that was killed before it came to the
        cgroup. `keep` are attempts that are still to be collected: their parents hold the peak.
        """
        if not self._settings.parents:
            return
        kept = set(keep)
        for folder in self._folders(f"/{self._settings.name}"):
            with contextlib.suppress(OSError):
                for child in folder.iterdir():
                    if child.name.startswith(prefix) and child.name not in kept:
                        _remove(child, patience_s=0)

    def _where(self, name: str) -> tuple[Path, Path]:
        """The folders that hold memory's and CPU's files of the cgroup `name`."""
        root = self._settings.root
        if self._unified:
            return root / name[1:], root / name[1:]
        return root / "memory" / name[1:], root / "cpuacct" / name[1:]

    def _folders(self, name: str) -> list[Path]:
        """The cgroup `name` in every hierarchy that has it."""
        root = self._settings.root
        if self._unified:
            return [root / name[1:]]
        try:
            tops = [top for top in root.iterdir() if top.is_dir() and not top.is_symlink()]
        except OSError:
            return []
        return [top / name[1:] for top in tops if (top / name[1:]).is_dir()]

    def _read(self, memory: Path, cpu: Path, *, alive: bool) -> Reading | None:
        if self._unified:
            usage = _field(cpu / "cpu.stat", "usage_usec")
            peak = _number(memory / "memory.peak")
            if peak is None and alive:
                # kernels before 5.19 have no peak: the greatest of the samples stands for it
                peak = _number(memory / "memory.current")
            kills = _field(memory / "memory.events", "oom_kill")
            seconds = None if usage is None else usage / 1_000_000
        else:
            usage = _number(cpu / "cpuacct.usage")
            peak = _number(memory / "memory.max_usage_in_bytes")
            kills = _field(memory / "memory.oom_control", "oom_kill") or None
            seconds = None if usage is None else usage / 1_000_000_000
        if usage is None and peak is None:
            return None
        return Reading(seconds, peak, kills)


def usage_of(reading: Reading | None, source: str) -> Usage:
    """A reading as the daemon records it; `source` is `parent` or `sampled`."""
    if reading is None:
        return Usage()
    if reading.memory_peak is None:
        return Usage(cpu_seconds=reading.cpu_seconds)
    return Usage(reading.cpu_seconds, reading.memory_peak, source)


def _greater(one: _T | None, other: _T | None) -> _T | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    """The number behind `name` in a file of `name number` lines."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def _remove(folder: Path, patience_s: float = 0.5) -> None:
    """Remove an empty cgroup; one that is still being emptied gets `patience_s`, then stays."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() >= give_up:
                return
            time.sleep(0.01)
        else:
            return

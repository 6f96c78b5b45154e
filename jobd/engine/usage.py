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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from jobd.engine.base import Usage
from jobd.engine.cgroupfiles import Reading, Tree

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CgroupSettings:
    """Where the kernel's cgroup tree is, and whether attempts get a parent of their own in it."""

    #: False keeps jobd from writing to the tree; usage is then sampled
    parents: bool = True
    root: Path = Path("/sys/fs/cgroup")
    proc: Path = Path("/proc")
    #: the cgroup that holds the attempts' parents
    name: str = "jobd"


class Cgroups:
    """Reads usage by attempt, and removes the parents that attempts leave behind."""

    def __init__(self, settings: CgroupSettings) -> None:
        self._settings = settings
        self._tree = Tree(settings.root)
        self._lock = threading.Lock()
        #: by attempt: where its container's own cgroup is, and the best reading of it so far
        self._places: dict[str, dict[str, str]] = {}
        self._samples: dict[str, Reading] = {}

    def can_parent(self, driver: str) -> bool:
        """Whether attempts of an engine with this cgroup driver can get parents of their own."""
        settings = self._settings
        return (
            settings.parents
            and driver == "cgroupfs"
            and os.geteuid() == 0
            and os.access(self._tree.top("memory"), os.W_OK)
        )

    def parent(self, ref: str) -> str:
        """The absolute name of the attempt's parent cgroup."""
        return f"/{self._settings.name}/{ref}"

    def read_parent(self, ref: str, *, alive: bool = False) -> Reading | None:
        """What all that ever ran under the attempt's parent used, or None where there is none."""
        return self._tree.read(self._tree.places(self.parent(ref)), alive=alive)

    def sample(self, ref: str) -> Reading | None:
        """Look at the attempt's own cgroup; peaks of earlier looks are kept."""
        with self._lock:
            places, before = self._places.get(ref), self._samples.get(ref)
        now = None if places is None else self._tree.read(places, alive=True)
        if now is None:
            # it has ended: what it once used is known, what it uses now is nothing
            return None if before is None else replace(before, memory_now=None)
        now = now.since(before)
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
            text = (self._settings.proc / str(pid) / "cgroup").read_text("ascii", "replace")
        except OSError:
            return
        places = self._tree.of_process(text, engine_id)
        if places is not None:
            with self._lock:
                self._places[ref] = places

    def found_below_parent(self, ref: str) -> None:
        """The attempt's own cgroup is the one below its parent: no question to the engine."""
        name = self.parent(ref)
        try:
            with os.scandir(self._tree.places(name)["cpu"]) as entries:
                below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        if len(below) == 1:
            with self._lock:
                self._places[ref] = self._tree.places(f"{name}/{below[0]}")

    def forget(self, ref: str) -> None:
        """Remove the attempt's parent cgroup and what is remembered of it. Its end is durable."""
        with self._lock:
            self._places.pop(ref, None)
            self._samples.pop(ref, None)
        if self._settings.parents:
            for folder in self._tree.folders(self.parent(ref)):
                _remove(folder)

    def sweep(self, prefix: str, keep: Iterable[str]) -> None:
        """Remove empty parents of attempts named `prefix`... that the engine knows no more.

        For those whose container was removed by a jobd that was killed before it came to the
        cgroup. `keep` are attempts that are still to be collected: their parents hold the peak.
        """
        if not self._settings.parents:
            return
        kept = set(keep)
        for folder in self._tree.folders(f"/{self._settings.name}"):
            with contextlib.suppress(OSError):
                for child in folder.iterdir():
                    if child.name.startswith(prefix) and child.name not in kept:
                        _remove(child, patience_s=0)


def usage_of(parent: Reading | None, sampled: Reading | None) -> Usage:
    """What the daemon records: each figure from the parent where it has it, else as sampled.

    A parent holds all from the first to the last moment. It counts the periods of a CPU limit only
    where that is its own (a process's), not its container's; and on cgroup v1 its block bytes are
    those of what still runs: hence the greater ones.
    """
    whole, seen = parent or Reading(), sampled or Reading()
    cpu = _first(whole.cpu_seconds, seen.cpu_seconds)
    peak = _first(whole.memory_peak, seen.memory_peak)
    now = _first(whole.memory_now, seen.memory_now)
    inherited = (whole.block_read or -1) + (whole.block_written or -1)
    block = whole if inherited >= (seen.block_read or -1) + (seen.block_written or -1) else seen
    throttled, throttle_source = _first(whole.throttled, seen.throttled)
    return Usage(
        cpu_seconds=cpu[0],
        memory_peak=peak[0],
        memory_peak_source=peak[1],
        memory_now=now[0],
        cpu_source=cpu[1],
        block_read=block.block_read,
        block_written=block.block_written,
        block_source=_source(block.block_read, "parent" if block is whole else "sampled"),
        throttled_ms=throttled.ms if throttled else None,
        throttled_periods=throttled.count if throttled else None,
        periods=throttled.periods if throttled else None,
        throttle_source=throttle_source,
    )


def _first(whole: _T | None, seen: _T | None) -> tuple[_T | None, str]:
    """The figure, and where it comes from."""
    if whole is not None:
        return whole, "parent"
    return seen, _source(seen, "sampled")


def _source(figure: object, source: str) -> str:
    return "none" if figure is None else source


def _remove(folder: Path, patience_s: float = 0.5) -> None:
    """Remove an empty cgroup; one that is still being emptied gets `patience_s`, then stays."""
    give_up = time.monotonic() + patience_s
    while True:
        # Podman's watcher of a container has one beside it, and leaves it there
        with contextlib.suppress(OSError):
            (folder / "conmon").rmdir()
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

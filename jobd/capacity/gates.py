"""Whether the live host lets anything start: kernel pressure, load, free disk. Pure.

A gate that has closed opens again only when its reading has come back by a fifth, so that it does
not flap. What jobd's own attempts cause counts as well: a host that is busy is busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jobd.core.model import Reason
from jobd.core.states import Kind
from jobd.units import size_text

#: of a limit, how far a reading has to come back before its gate opens again
_BACK = 0.2
#: of a disk, what is the most that is kept free of it, whatever the limit says
_OF_DISK = 0.1


@dataclass(frozen=True, slots=True)
class Thresholds:
    """jobd.toml's `[admission]`. None: not looked at.

    Pressures are shares (0 to 1) of the last 10 s in which something waited; `load` is that of the
    last minute for each core; `disk_free` bytes.
    """

    pressure_cpu: float | None = None
    pressure_memory: float | None = 0.5
    pressure_io: float | None = None
    load: float | None = None
    disk_free: int | None = 128 << 20


class Disk(NamedTuple):
    """Bytes of a file system that holds `path`; `images`: only containers need it."""

    path: str
    free: int
    total: int
    images: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """What the host says at one moment; what it cannot say is left out."""

    pressure: Mapping[str, float]
    load: float | None = None
    disks: tuple[Disk, ...] = ()


class Gate(NamedTuple):
    """One reading against its limit; `kinds` are the runs that it holds up while not `ok`."""

    name: str
    ok: bool
    code: str
    text: str
    value: float
    limit: float
    kinds: tuple[Kind, ...] = tuple(Kind)


class Gates:
    """All gates, as of the last look. Changed by the core loop's thread alone."""

    def __init__(self, thresholds: Thresholds = Thresholds()) -> None:
        self.thresholds = thresholds
        self.gates: list[Gate] = []

    def look(self, readings: Readings) -> bool:
        """Take new readings; True where another set of gates is closed now."""
        before = {gate.name for gate in self.gates if not gate.ok}
        self.gates = list(self._gates(readings, before))
        return before != {gate.name for gate in self.gates if not gate.ok}

    def closed(self, kind: Kind) -> Reason | None:
        """Why nothing of a kind starts now, or None."""
        for gate in self.gates:
            if not gate.ok and kind in gate.kinds:
                return Reason(gate.code, gate.text)
        return None

    def _gates(self, readings: Readings, closed: set[str]) -> list[Gate]:
        limits, found = self.thresholds, []
        for what in ("cpu", "memory", "io"):
            limit, value = getattr(limits, f"pressure_{what}"), readings.pressure.get(what)
            if limit is not None and value is not None:
                found.append(_pressure(what, value, limit, closed))
        if limits.load is not None and readings.load is not None:
            found.append(_load(readings.load, limits.load, closed))
        if limits.disk_free is not None:
            found += [_disk(disk, limits.disk_free, closed) for disk in readings.disks]
        return found


def _high(name: str, value: float, limit: float, closed: set[str]) -> tuple[bool, float]:
    """Whether a reading that must not be high is fine, and below what it is fine again."""
    back = limit * (1 - _BACK)
    return value < (back if name in closed else limit), back


def _pressure(what: str, value: float, limit: float, closed: set[str]) -> Gate:
    name = f"pressure-{what}"
    ok, back = _high(name, value, limit, closed)
    text = (
        f"the host waits for {what} {value:.0%} of its time (admission.pressure_{what} {limit:.0%}"
        f"{'' if ok else f'; runs start again below {back:.0%}'})"
    )
    return Gate(name, ok, "capacity", text, value, limit)


def _load(value: float, limit: float, closed: set[str]) -> Gate:
    ok, back = _high("load", value, limit, closed)
    text = (
        f"the host's load is {value:.2f} a core (admission.load {limit:g}"
        f"{'' if ok else f'; runs start again below {back:.2f}'})"
    )
    return Gate("load", ok, "capacity", text, value, limit)


def _disk(disk: Disk, wanted: int, closed: set[str]) -> Gate:
    name = f"disk-free {disk.path}"
    limit = min(wanted, int(disk.total * _OF_DISK))
    back = int(limit * (1 + _BACK))
    ok = disk.free >= (back if name in closed else limit)
    text = (
        f"{disk.path} has {_mib(disk.free)} free (admission.disk_free {_mib(limit)}"
        f"{'' if ok else f'; runs start again from {_mib(back)} on'})"
    )
    kinds = (Kind.CONTAINER,) if disk.images else tuple(Kind)
    return Gate(name, ok, "disk", text, disk.free, limit, kinds)


def _mib(size: int) -> str:
    return f"{size >> 20}M" if size >= 1 << 20 else size_text(size)

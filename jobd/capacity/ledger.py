"""Whether a run fits the host now: by what is reserved, and by what is free. Pure.

`cpus` are cores, memory is bytes. The reserve is kept from runs while others run; a run that fits
only without it starts when nothing else runs (INTERFACE, "A job file").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from jobd.capacity.gates import Gates
from jobd.core.entities import Run
from jobd.core.limits import PLAIN, Pace
from jobd.core.model import Needs, Reason
from jobd.core.states import Kind
from jobd.units import size_text


@dataclass(frozen=True, slots=True)
class Host:
    """What runs may use of the host in all, and what is kept from them."""

    cpus: float
    memory: int
    reserve_cpus: float = 0.25
    reserve_memory: int = 512 << 20
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the host had free at one moment; `unused` is what running attempts have reserved and
    not yet taken, of the `reserved` that they had in all then, in bytes."""

    available_memory: int
    used_cpu: float
    unused: int
    reserved: int


class Free(NamedTuple):
    """What is free of the host: cores, bytes by what is declared, and bytes by what is measured
    less what is `promised` to running attempts (None: not measured yet). May be less than 0."""

    cpus: float
    memory: int
    live: int | None
    promised: int | None


class Ledger:
    """The admission that core/dispatch.py asks. Changed by the core loop's thread alone."""

    def __init__(self, host: Host, pace: Pace = PLAIN) -> None:
        self.host = host
        #: how runs are taken on, beside what fits
        self.pace = pace
        self.sample: Sample | None = None
        #: what the live host lets start, beside memory
        self.gates = Gates()
        #: why nothing at all starts: a drain
        self.hold: Reason | None = None
        #: why nothing of a kind starts: its engine, or the reconciliation with it
        self.engines: dict[Kind, Reason | None] = dict.fromkeys(
            Kind, Reason("reconciling", "the engine has not been looked at yet")
        )
        #: why nothing starts for want of room in the queue
        self.disk: Reason | None = None

    def closed(self, kind: Kind) -> Reason | None:
        """What keeps every run of that kind from starting, or None."""
        return self.hold or self.engines[kind] or self.disk or self.gates.closed(kind)

    def free(self, reserved: Needs, running: int) -> Free:
        """What a further run may take beside what `running` attempts hold."""
        host, alone, sample = self.host, running == 0, self.sample
        kept = 0 if alone else host.reserve_memory
        promised = live = None
        if sample is not None:
            # what was claimed since has taken nothing yet, what ended has given back: without it,
            # all runs of one pass were let in for the memory of one
            promised = sample.unused + reserved.memory - sample.reserved
            live = sample.available_memory - promised - kept
        return Free(
            host.cpus - reserved.cpus - (0 if alone else host.reserve_cpus),
            host.memory - reserved.memory - kept,
            live,
            promised,
        )

    def shortfall(self, needs: Needs, reserved: Needs, running: int) -> Reason | None:
        """Why `needs` do not fit beside what `running` attempts hold, or None."""
        host, alone = self.host, running == 0
        free = self.free(reserved, running)
        if needs.cpus > free.cpus + 1e-9:
            kept = "" if alone else f", {host.reserve_cpus:g} kept in reserve"
            return Reason(
                "capacity",
                f"needs {needs.cpus:g} cpus: {max(0.0, free.cpus):.2f} of {host.cpus:g} free "
                f"({reserved.cpus:g} reserved by {running} running{kept})",
            )
        if needs.memory > free.memory:
            kept = "" if alone else f", {mib(host.reserve_memory)} kept in reserve"
            return Reason(
                "capacity",
                f"needs {mib(needs.memory)} of memory: {mib(max(0, free.memory))} of "
                f"{mib(host.memory)} free ({mib(reserved.memory)} reserved by "
                f"{running} running{kept})",
            )
        if needs.gpus and needs.gpus > host.gpus - reserved.gpus:
            return Reason(
                "capacity",
                f"needs {needs.gpus} gpus: {max(0, host.gpus - reserved.gpus)} of {host.gpus} free",
            )
        sample = self.sample
        if sample is None or free.live is None or needs.memory <= free.live:
            return None
        return Reason(
            "capacity",
            f"needs {mib(needs.memory)} of memory: the host has {mib(sample.available_memory)} "
            f"available, of which {mib(max(0, free.promised or 0))} are promised to running "
            f"attempts and {mib(0 if alone else host.reserve_memory)} kept in reserve",
        )

    def never(self, needs: Needs) -> Reason | None:
        """Why `needs` can never fit this host, or None."""
        if needs.cpus > self.host.cpus:
            return Reason(
                "capacity", f"needs {needs.cpus:g} cpus, this host has {self.host.cpus:g}"
            )
        if needs.memory > self.host.memory:
            return Reason(
                "capacity",
                f"needs {mib(needs.memory)} of memory, this host has {mib(self.host.memory)}",
            )
        if needs.gpus > self.host.gpus:
            return Reason("capacity", f"needs {needs.gpus} gpus, this host has {self.host.gpus}")
        return None

    def unused(self, active: Iterable[Run], used: dict[int, int]) -> int:
        """What the active runs have reserved and not yet taken, in bytes; unknown: all of it."""
        return sum(max(0, run.memory - used.get(run.id, 0)) for run in active)


def mib(size: int) -> str:
    """A size as people read it: whole MiB above one, as `512M` is written in a job file."""
    return f"{size >> 20}M" if size >= 1 << 20 else size_text(size)

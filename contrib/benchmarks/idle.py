"""What the daemon takes of the host when nothing is to be done, and with 10,000 schedules."""

from __future__ import annotations

import time

from benchmarks.jobd import Jobd
from benchmarks.lateness import scheduled
from benchmarks.report import Report
from benchmarks.rig import Rig, cpu_seconds, memory

SCHEDULES = 10_000


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("idle daemon")
    jobd = Jobd(rig, "idle", "fake", count_syncs=False)
    time.sleep(3)
    seconds = 5 if quick else 20
    cpu, resident = _idle(jobd, seconds)
    with jobd.client() as client:
        scheduled(client, SCHEDULES)
    _settled(jobd)
    with_schedules, more = _idle(jobd, seconds)
    report.table(
        ("", "nothing", f"{SCHEDULES} schedules"),
        [
            ("CPU, % of one core", cpu, with_schedules),
            ("memory, MiB", resident, more),
        ],
    )
    report.keep("idle", {"cpu_percent": cpu, "memory_mib": resident})
    report.keep("idle_schedules", {"cpu_percent": with_schedules, "memory_mib": more})


def _idle(jobd: Jobd, seconds: int) -> tuple[float, float]:
    before = cpu_seconds(jobd.pid)
    time.sleep(seconds)
    cpu = (cpu_seconds(jobd.pid) - before) / seconds * 100
    return cpu, memory(jobd.pid) / (1 << 20)


def _settled(jobd: Jobd) -> None:
    """Wait until it has looked at all of its schedules, ten a millisecond or so."""
    for _ in range(60):
        before = cpu_seconds(jobd.pid)
        time.sleep(1)
        if cpu_seconds(jobd.pid) - before < 0.1:
            return

"""What the daemon takes of the host when nothing is to be done."""

from __future__ import annotations

import time

from benchmarks.jobd import Jobd
from benchmarks.report import Report
from benchmarks.rig import Rig, cpu_seconds, memory


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("idle daemon")
    jobd = Jobd(rig, "idle", "fake", count_syncs=False)
    time.sleep(3)
    seconds = 5 if quick else 20
    before = cpu_seconds(jobd.pid)
    time.sleep(seconds)
    cpu = (cpu_seconds(jobd.pid) - before) / seconds * 100
    resident = memory(jobd.pid) / (1 << 20)
    report.table(("", ""), [("CPU, % of one core", cpu), ("memory, MiB", resident)])
    report.keep("idle", {"cpu_percent": cpu, "memory_mib": resident})

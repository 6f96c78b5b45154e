"""Dropped files: moved in at once, until each is a durable run; drops a second, and syncs for each.

There is no peer to measure beside: the ratio is to `run.queue` requests of one client in a closed
loop, in the same minute. What others wait meanwhile is the longest answer to `status`.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.enqueue import JOBD, PAYLOAD, one, waiting_jobd
from benchmarks.peers import Peer
from benchmarks.report import Report, ratio
from benchmarks.rig import Missing, Rig, cpu_seconds, median, rounds

#: seconds until a round is given up
_PATIENCE = 120.0


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("dropped files, 300 bytes each, moved in at once")
    jobd = waiting_jobd(rig, "drops")
    arguments = {"path": jobd.socket, "payload": PAYLOAD}
    peer = Peer(
        JOBD, "run.queue, a request each",
        lambda n: {"wire": "Jobd", "arguments": arguments, "clients": n}, jobd.syncs, jobd.pid,
    )  # fmt: skip
    counts = (1_000,) if quick else (1_000, 10_000)
    for count in counts:
        found: list[dict[str, Any]] = []
        asked: list[float] = []
        for _ in rounds(2 if quick else 5, 120):
            found.append(dropped(jobd, count))
            asked.append(one(peer, 1, 0.6)["rate"])
        ratios = [ratio(row["rate"], rate) for row, rate in zip(found, asked, strict=True)]
        report.say(f"-- {count} files")
        report.table(
            ("drops/s", "x one client's requests", "syncs/drop", "its CPU us", "status, worst ms"),
            [
                [
                    *(median(row["rate"] for row in found), median(ratios)),
                    *(median(row[key] for row in found) for key in ("syncs", "cpu_us", "wait_ms")),
                ]
            ],
        )
        report.keep(f"drops-{count}", found)


def dropped(jobd: Any, count: int) -> dict[str, Any]:
    """One measurement: so many files."""
    folder, outside = jobd.home / "spool" / "bench", jobd.home / "outside"
    outside.mkdir(exist_ok=True)
    for number in range(count):
        (outside / f"f{number}").write_bytes(b"x" * PAYLOAD)
    syncs, cpu = jobd.syncs(), cpu_seconds(jobd.pid)
    worst = 0.0
    with jobd.client() as client:
        before = client.status()["counts"].get("queued", 0)
        start = time.perf_counter()
        for number in range(count):
            (outside / f"f{number}").rename(folder / f"f{number}")
        while True:
            asked = time.perf_counter()
            queued = client.status()["counts"].get("queued", 0) - before
            now = time.perf_counter()
            worst = max(worst, now - asked)
            if queued >= count:
                break
            if now - start > _PATIENCE:
                raise Missing(f"drops: {queued} of {count} were queued in {_PATIENCE:.0f} s")
            time.sleep(0.01)
    after = jobd.syncs()
    return {
        "rate": count / (now - start),
        "syncs": (after - syncs) / count if after is not None and syncs is not None else None,
        "cpu_us": (cpu_seconds(jobd.pid) - cpu) / count * 1e6,
        "wait_ms": worst * 1000,
    }

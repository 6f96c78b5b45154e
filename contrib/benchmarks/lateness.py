"""How late runs are on disk whose schedules all fire at the same moment.

A thousand cron schedules in a zone fire every ten seconds. Late is a run by the time from its
nominal moment to the end of the sync of its batch, which the kernel's clock says for both.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.jobd import Jobd
from benchmarks.report import Report
from benchmarks.rig import Missing, Rig

SCHEDULES, OF_A_JOB = 1000, 100
_PERIOD = 10


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin(f"lateness: {SCHEDULES} schedules fire together")
    jobd = Jobd(rig, "lateness", "fake")
    if jobd.syncs() is None:
        raise Missing("there is no C compiler, to tell when a sync ends")
    with jobd.client() as client:
        scheduled(client, SCHEDULES, f"*/{_PERIOD} * * * * *")
        time.sleep(2)
        late: list[float] = []
        rounds = 2 if quick else 12
        for _ in range(rounds):
            late += _round(rig, client)
    late.sort()
    figures = [(f"p{part}", late[len(late) * part // 100] * 1000) for part in (50, 90, 99)]
    rows = [*figures, ("latest", late[-1] * 1000), ("runs", len(late))]
    report.table(("", "ms"), rows)
    report.keep("lateness", dict(rows))


def scheduled(client: Any, count: int, cron: str | None = None) -> None:
    """Register paused jobs with so many schedules; without a `cron` they fire in half a day."""
    hour = (time.gmtime().tm_hour + 12) % 24
    for first in range(0, count, OF_A_JOB):
        name = f"late-{first}"
        schedules = [
            {"name": f"s{n}", "cron": cron or f"{n % 60} {hour} * * *", "timezone": "UTC"}
            for n in range(first, first + OF_A_JOB)
        ]
        client.register(
            {"name": name, "image": "img", "command": ["exit=0"], "schedule": schedules}
        )
        client.pause(name)


def _round(rig: Rig, client: Any) -> list[float]:
    """The lateness of each run of the next firing, in seconds."""
    nominal = (time.time() // _PERIOD + 1) * _PERIOD
    time.sleep(nominal + 5 - time.time())
    batches: dict[int, int] = {}
    for event in client.events(since=_moment(nominal)):
        if event["event"] == "run.queued":
            batch = event["seq"] >> 16
            batches[batch] = batches.get(batch, 0) + 1
    # nothing else is asked for or started: all syncs in that time are of these batches, and of
    # what is done at rest behind them
    ends = [end for end in rig.sync_ends("lateness") if nominal <= end < nominal + 1]
    if sum(batches.values()) != SCHEDULES or len(ends) < len(batches):
        raise Missing(f"{sum(batches.values())} runs in {len(batches)} batches, {len(ends)} syncs")
    late: list[float] = []
    for (_, runs), end in zip(sorted(batches.items()), ends, strict=False):
        late += [end - nominal] * runs
    return late


def _moment(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)

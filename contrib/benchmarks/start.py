"""From the acknowledgement of a run to the start of its container on an idle host."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import engine as engines
from benchmarks.containers import daemon
from benchmarks.report import Report
from benchmarks.rig import Rig, median


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line: both by the engine's own time of the start, in turns."""
    import docker

    report.begin("acknowledgement to container start, idle host")
    engine = engines.Engine(rig)
    jobd = daemon(rig, engine, "start", False)
    task = rig.folder / "task"
    task.mkdir(mode=0o777)
    made = engines.settings(["true"], "none", task)
    client, bare = jobd.client(), docker.APIClient(base_url=engine.url)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(4 if quick else 16):
        runs = jobd.queued(client, "none1")
        told = time.time()
        jobd.finished(client, runs)
        row: Any = client.show(*runs)
        started = row["attempts"][-1]["started_at"]
        began = time.time()
        found = bare.create_container_from_config(made, None)["Id"]
        bare.start(found)
        bare.wait(found)
        stamp = bare.inspect_container(found)["State"]["StartedAt"]
        bare.remove_container(found)
        if turn:  # the first ones warm up
            ours.append(milliseconds(started) - told * 1000)
            theirs.append(milliseconds(stamp) - began * 1000)
    bare.close()
    client.close()
    mine, least = median(ours), median(theirs)
    assert mine is not None
    assert least is not None
    report.table(
        ("", "ms"),
        [("jobd", mine), ("bare create and start", least), ("jobd takes more", mine - least)],
    )
    report.keep("start", {"jobd_ms": ours, "bare_ms": theirs})


def milliseconds(stamp: Any) -> float:
    """An RFC 3339 time, or milliseconds, as milliseconds."""
    if not isinstance(stamp, str):
        return float(stamp)
    whole, _, rest = stamp.rstrip("Z").partition(".")
    seconds = time.strptime(whole + " UTC", "%Y-%m-%dT%H:%M:%S %Z")
    import calendar

    return calendar.timegm(seconds) * 1000 + float(f"0.{rest or 0}") * 1000

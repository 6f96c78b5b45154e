"""Runs that do nothing, end to end, as containers: jobd beside a bare loop and xargs docker run."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import engine as engines
from benchmarks.jobd import Jobd
from benchmarks.report import Report, ratio
from benchmarks.rig import Missing, Rig, cpu_seconds, median, rounds

CONCURRENCY = (1, 2, 4, 8)
SHARED = "none+share_none"


def daemon(rig: Rig, engine: engines.Engine, name: str, share: bool) -> Jobd:
    """A jobd with room for eight runs at once, and a job for each network and concurrency."""
    config = engine.config
    if share:
        config = config.replace("[engine]\n", "[engine]\nshare_none = true\n")
    config += '[capacity]\ncpus = 64\nreserve_cpus = 0\nreserve_memory = "64M"\n'
    made = Jobd(rig, name, "docker", config, count_syncs=False)
    for network in ("none",) if share else ("none", "host"):
        for limit in CONCURRENCY:
            made.ctl(
                "register", "--name", f"{network}{limit}", "--network", network, "--memory", "64M",
                "--cpus", "1", "--concurrency", str(limit), engines.IMAGE, "true",
            )  # fmt: skip
    return made


def jobd_runs(client: Any, job: str, count: int) -> float:
    """Seconds from the request to the end of the last of `count` runs."""
    began = time.perf_counter()
    Jobd.finished(client, Jobd.queued(client, job, count))
    return time.perf_counter() - began


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("no-op runs end to end, containers")
    engine = engines.Engine(rig)
    plain = daemon(rig, engine, "plain", False)
    shares: Jobd | None = None
    try:
        shares = daemon(rig, engine, "shares", True)
    except Missing as missing:
        report.say(f"left out: {SHARED}: {missing}")
    keeper = engines.holder(engine)
    task = rig.folder / "task"
    task.mkdir(mode=0o777)
    most = 1 if quick else 3
    got: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in rounds(most, 120):
        for network in ("host", "none", SHARED):
            jobd = shares if network == SHARED else plain
            if jobd is None:
                continue
            for limit in CONCURRENCY if not quick else (2, 8):
                count = 4 if quick else max(8, 2 * limit)
                shared = network == SHARED
                net = f"container:{keeper}" if shared else network
                job = f"{'none' if shared else network}{limit}"
                found = together(engine, jobd, job, net, count, limit, task)
                got.setdefault((network, limit), []).append(found)
    rows = []
    for (network, limit), all_ in got.items():
        rows.append([
            network, str(limit), median(each["jobd"] for each in all_),
            median(each["bare"] for each in all_), median(each["xargs"] for each in all_),
            median(ratio(each["jobd"], each["bare"]) for each in all_),
            median(ratio(each["jobd"], each["xargs"]) for each in all_),
            median(each["cpu_ms"] for each in all_),
        ])  # fmt: skip
    report.table(
        ("network", "at once", "jobd runs/s", "bare loop", "xargs", "jobd/bare", "jobd/xargs",
         "jobd CPU ms/run"), rows,
    )  # fmt: skip
    report.say(f"   xargs of {SHARED} is that of none: it has no such thing")
    report.keep(
        "containers", {f"{network} {limit}": all_ for (network, limit), all_ in got.items()}
    )


def together(
    engine: engines.Engine, jobd: Jobd, job: str, network: str, count: int, limit: int, task: Any
) -> dict[str, Any]:
    """The three ways, one after another."""
    client = jobd.client()
    made = engines.settings(["true"], network, task)
    xargs_network = "none" if network.startswith("container:") else network
    before = cpu_seconds(jobd.pid)
    jobd_s = jobd_runs(client, job, count)
    cpu = (cpu_seconds(jobd.pid) - before) / count * 1000
    client.close()
    bare_s = engines.bare_loop(engine, made, count, limit)
    xargs_s = engines.xargs(engine, xargs_network, count, limit)
    return {
        "jobd": count / jobd_s, "bare": count / bare_s, "xargs": count / xargs_s, "cpu_ms": cpu,
    }  # fmt: skip

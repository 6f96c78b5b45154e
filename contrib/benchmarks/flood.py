"""A container that writes without end to stdout: jobd beside `docker logs -f > file`."""

from __future__ import annotations

import subprocess
import threading
import time

from benchmarks import engine as engines
from benchmarks.jobd import Jobd
from benchmarks.report import Report
from benchmarks.rig import Rig, memory

_MIB = 1 << 20


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line: the same lines, 100 bytes each, the same log driver."""
    size = (64 if quick else 1024) * _MIB
    report.begin(f"a container that writes {size // _MIB} MiB to stdout")
    engine = engines.Engine(rig)
    line = "x" * 99
    command = ["sh", "-c", f"yes {line} | head -c {size}"]
    jobd = Jobd(rig, "flood", "docker", engine.config, count_syncs=False)
    jobd.ctl("register", "--name", "flood", "--network", "none", "--memory", "64M", engines.IMAGE,
             *command)  # fmt: skip
    client = jobd.client()
    before, most = memory(jobd.pid), 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, memory(jobd.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    jobd.finished(client, jobd.queued(client, "flood"))
    ours = time.perf_counter() - began
    over.set()
    watcher.join()
    client.close()
    theirs = followed(rig, engine, command)
    report.table(
        ("", "seconds", "MiB/s"),
        [
            ("jobd", ours, size / _MIB / ours),
            ("docker logs -f > file", theirs, size / _MIB / theirs),
        ],
    )
    report.say(f"   jobd's memory: {before / _MIB:.0f} MiB before, {most / _MIB:.0f} MiB at most; "
               "it keeps the first and last of 64 MiB (logs.per_attempt)")  # fmt: skip
    report.keep("flood", {"jobd_s": ours, "docker_s": theirs, "memory": [before, most]})


def followed(rig: Rig, engine: engines.Engine, command: list[str]) -> float:
    """Seconds until `docker logs -f` has all of it in a file."""
    docker = ["docker", "-H", engine.url]
    options = ["--network", "none", "--log-driver", "local", "--log-opt", "max-size=2g",
               "--log-opt", "compress=false"]  # fmt: skip
    began = time.perf_counter()
    found = subprocess.check_output(
        [*docker, "run", "-d", *options, engines.IMAGE, *command], text=True
    ).strip()
    with (rig.folder / "followed.log").open("wb") as file:
        subprocess.run([*docker, "logs", "-f", found], stdout=file, timeout=600, check=True)
    took = time.perf_counter() - began
    subprocess.run([*docker, "rm", "-f", found], capture_output=True)
    return took

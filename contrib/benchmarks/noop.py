"""Runs that do nothing, end to end, as processes of the host in two slots.

Each is timed from the first word of the client to the end of the last run, as its user would queue
so many: jobd, RQ and huey in one program, task-spooler and nq by a command each, as there is no
other way. huey's and RQ's tasks start the same /bin/true that the others run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.jobd import Jobd
from benchmarks.peers import redis
from benchmarks.report import Report, ratio
from benchmarks.rig import Missing, Rig, cpu_seconds, median, rounds

_TASKS = """
import subprocess
from huey import SqliteHuey
huey = SqliteHuey(filename={path!r}, fsync=True)
@huey.task()
def noop():
    subprocess.run(["/bin/true"])
    return 1  # of nothing there would be no result to wait for
def plain():
    subprocess.run(["/bin/true"])
"""
_HUEY = """
import sys, time
from bench_tasks import noop
results = [noop() for _ in range(int(sys.argv[1]))]
[result.get(blocking=True, max_delay=0.02) for result in results]
"""
_RQ = """
import sys, time, redis, rq
from rq import Queue
queue = Queue("noop", connection=redis.Redis(unix_socket_path=sys.argv[2]))
jobs = [queue.enqueue("bench_tasks.plain") for _ in range(int(sys.argv[1]))]
done = queue.finished_job_registry
while done.count < int(sys.argv[3]):
    time.sleep(0.01)
"""


class Way:
    """One way to run `count` times nothing."""

    def __init__(self, name: str, run: Callable[[int], None], pid: int = 0) -> None:
        self.name, self.run, self.pid = name, run, pid


def ways(rig: Rig, report: Report) -> list[Way]:
    """All ways that there are here."""
    found = []
    makers: list[Callable[[Rig], Way]] = [jobd, spooler, nq, huey, rq]
    for make in makers:
        try:
            found.append(make(rig))
        except Missing as missing:
            report.say(f"left out: {missing}")
    return found


def jobd(rig: Rig) -> Way:
    """One `jobctl queue --count`, one `jobctl wait`."""
    # more cores than there are, so that the job's own limit of two counts
    config = "[process]\nenabled = true\n[capacity]\ncpus = 2\nreserve_cpus = 0\n"
    if os.geteuid() == 0:
        config = config.replace("enabled = true\n", 'enabled = true\nuser = "nobody"\n')
    made = Jobd(rig, "noop", "process", config, count_syncs=False)
    made.ctl("register", "--process", "--name", "noop", "--memory", "16M", "/bin/true")
    client = made.client()
    rig.later(client.close)

    def run(count: int) -> None:
        made.finished(client, made.queued(client, "noop", count))

    return Way("jobd", run, made.pid)


def spooler(rig: Rig) -> Way:
    """task-spooler with two slots."""
    program = rig.program("tsp")
    env = {**os.environ, "TS_SOCKET": str(rig.folder / "tsp.sock"), "TMPDIR": str(rig.folder)}
    call(env, program, "-S", "2")
    rig.later(lambda: call(env, program, "-K"))

    def run(count: int) -> None:
        for _ in range(count):
            call(env, program, "-n", "/bin/true")
        for line in subprocess.check_output([program], env=env, text=True).splitlines()[1:]:
            if "finished" not in line:
                call(env, program, "-w", line.split()[0])
        call(env, program, "-C")

    return Way("task-spooler", run)


def nq(rig: Rig) -> Way:
    """nq in two folders: it has no slots."""
    program = rig.program("nq")
    folders = [rig.folder / f"nq{number}" for number in range(2)]

    def run(count: int) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        envs = [{**os.environ, "NQDIR": str(folder)} for folder in folders]
        for number in range(count):
            call(envs[number % 2], program, "-q", "/bin/true")
        for env in envs:
            call(env, program, "-w")

    return Way("nq", run)


def huey(rig: Rig) -> Way:
    """huey's consumer with two processes."""
    consumer = rig.program("huey_consumer")
    env = tasks(rig)
    words = [consumer, "bench_tasks.huey", "-w", "2", "-k", "process", "-d", "0.01", "-m", "0.02",
             "-C", "-n"]  # fmt: skip
    rig.start(words, env, cwd=rig.folder)
    python = rig.program(str(rig.peers / "bin/python"))
    return Way("huey", lambda count: call({**os.environ, **env}, python, "-c", _HUEY, str(count)))


def rq(rig: Rig) -> Way:
    """Two of RQ's workers, each of which forks for every job."""
    worker = rig.program("rq")
    server = redis.start(rig)
    env = tasks(rig)
    for _ in range(2):
        rig.start([worker, "worker", "-q", "--url", f"unix://{server.path}", "noop"], env,
                  cwd=rig.folder)  # fmt: skip
    finished = 0

    def run(count: int) -> None:
        nonlocal finished
        finished += count
        python = str(rig.peers / "bin/python")
        call({**os.environ, **env}, python, "-c", _RQ, str(count), server.path, str(finished))

    return Way("rq", run)


def tasks(rig: Rig) -> dict[str, str]:
    """What a Python needs to find the tasks."""
    path = str(rig.folder / "noop.db")
    (rig.folder / "bench_tasks.py").write_text(_TASKS.format(path=path))
    return {"PYTHONPATH": str(rig.folder)}


def call(env: dict[str, str], *words: str) -> None:
    """Run a command. Raises Missing where it fails."""
    try:
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Missing(f"{words[0]}: has not ended within a minute") from None
    if done.returncode != 0:
        raise Missing(f"{words[0]}: {(done.stderr or done.stdout).strip()[-200:]}")


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("no-op runs end to end, processes in two slots")
    most, count = (2, 20) if quick else (5, 60)
    got: dict[str, list[dict[str, Any]]] = {}
    there = []
    for way in ways(rig, report):
        try:
            way.run(4)  # its files are warm then
            there.append(way)
        except Missing as missing:
            report.say(f"left out: {way.name}: {missing}")
    for _ in rounds(most, 60):
        for way in there:
            before = cpu_seconds(way.pid) if way.pid else None
            began = time.perf_counter()
            way.run(count)
            rate = count / (time.perf_counter() - began)
            cpu = (cpu_seconds(way.pid) - before) / count * 1000 if before is not None else None
            got.setdefault(way.name, []).append({"rate": rate, "cpu_ms": cpu})
    report.table(("way", "runs/s", "jobd is x", "its CPU ms/run"), [row(n, got) for n in got])
    report.keep("noop", got)


def row(name: str, got: dict[str, list[dict[str, Any]]]) -> Sequence[Any]:
    """A way's line."""
    mine = got[name]
    pairs = zip(got.get("jobd", ()), mine, strict=False)
    return (
        name, median(each["rate"] for each in mine),
        median(ratio(j["rate"], m["rate"]) for j, m in pairs),
        median(each["cpu_ms"] for each in mine),
    )  # fmt: skip

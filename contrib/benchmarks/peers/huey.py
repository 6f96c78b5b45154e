"""huey on SQLite with fsync: no server, so each client is a process with its library."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from benchmarks.rig import Missing, Rig

_LOAD = """
import json, multiprocessing, sys, time
from huey import SqliteHuey
path, clients, seconds, size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
def client(start, results):
    huey = SqliteHuey(filename=path, fsync=True, timeout=60)
    task = huey.task(name="bench")(lambda payload: None)
    payload, took = "x" * size, []
    task(payload)
    start.wait()
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    while began < until:
        task(payload)
        now = time.perf_counter()
        took.append(now - began)
        began = now
    results.put(took)
start, results = multiprocessing.Barrier(clients), multiprocessing.Queue()
SqliteHuey(filename=path, fsync=True)
workers = [multiprocessing.Process(target=client, args=(start, results)) for _ in range(clients)]
[worker.start() for worker in workers]
took = sorted(each for _ in workers for each in results.get())
[worker.join() for worker in workers]
print(json.dumps({"acks": len(took), "seconds": seconds, "p50_us": took[len(took) // 2] * 1e6,
                  "p99_us": took[len(took) * 99 // 100] * 1e6, "client_cpu_us": None}))
"""


class Huey:
    """A database in the rig's folder."""

    name = "huey"
    how = "its library, a process a client, SQLite with fsync"

    def __init__(self, rig: Rig, payload: int) -> None:
        self._rig = rig
        self._payload = payload
        self._env, self.syncs = rig.counting("huey")
        self._path = rig.folder / "huey.db"

    def load(self, clients: int, seconds: float) -> dict[str, Any]:
        """As rig.load."""
        words = [self._rig.peers / "bin/python", "-c", _LOAD, self._path, clients, seconds]
        done = subprocess.run(
            [*map(str, words), str(self._payload)],
            env={**os.environ, **self._env}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise Missing(f"huey: {done.stderr.strip().splitlines()[-1:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

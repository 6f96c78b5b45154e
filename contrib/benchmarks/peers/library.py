"""Peers whose clients are their libraries, a process a client: huey on SQLite, RQ as it is used.

huey has no server: what it does is done in its clients. Of RQ there is a line of the same commands
from clients as cheap as all others too (redis.py); this is what its users get.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

from benchmarks.rig import Missing, Rig

_LOAD = """
import json, multiprocessing, os, sys, time
{imports}
path, clients, seconds, size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
def client(start, results):
    enqueue = made(path)
    payload, took = os.urandom(size // 2).hex(), []
    enqueue(payload)
    start.wait()
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    while began < until:
        enqueue(payload)
        now = time.perf_counter()
        took.append(now - began)
        began = now
    results.put(took)
made(path)
start, results = multiprocessing.Barrier(clients), multiprocessing.Queue()
workers = [multiprocessing.Process(target=client, args=(start, results)) for _ in range(clients)]
[worker.start() for worker in workers]
took = sorted(each for _ in workers for each in results.get())
[worker.join() for worker in workers]
print(json.dumps({{"acks": len(took), "seconds": seconds, "p50_us": took[len(took) // 2] * 1e6,
                   "p99_us": took[len(took) * 99 // 100] * 1e6, "client_cpu_us": None}}))
"""
_HUEY = """
from huey import SqliteHuey
def made(path):
    huey = SqliteHuey(filename=path, fsync=True, timeout=60)
    return huey.task(name="bench")(lambda payload: None)
"""
_RQ = """
import redis, rq
def made(path):
    queue = rq.Queue("bench", connection=redis.Redis(unix_socket_path=path))
    return lambda payload: queue.enqueue("os.path.basename", payload)
"""


class Library:
    """One peer by its library."""

    def __init__(
        self, rig: Rig, name: str, how: str, imports: str, path: str, payload: int
    ) -> None:
        self.name, self.how = name, how
        self._rig, self._path, self._payload = rig, path, payload
        self._script = _LOAD.format(imports=imports)
        self.env: dict[str, str] = {}
        self.syncs: Callable[[], int | None] = lambda: None

    def load(self, clients: int, seconds: float) -> dict[str, Any]:
        """As rig.load."""
        words = [self._rig.peers / "bin/python", "-c", self._script, self._path, clients, seconds]
        before = self.syncs()
        done = subprocess.run(
            [*map(str, words), str(self._payload)],
            env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise Missing(f"{self.name}: {done.stderr.strip().splitlines()[-1:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        after = self.syncs()
        found["rate"] = found["acks"] / found["seconds"]
        if before is not None and after is not None:
            found["syncs"] = (after - before) / found["acks"]
        return found


def huey(rig: Rig, payload: int) -> Library:
    """huey with SQLite and fsync."""
    how = "its library, a process a client, SQLite with fsync"
    made = Library(rig, "huey", how, _HUEY, str(rig.folder / "huey.db"), payload)
    made.env, made.syncs = rig.counting("huey")
    return made


def rq(rig: Rig, path: str, payload: int) -> Library:
    """RQ on the Redis at `path`."""
    how = "its library, a process a client, AOF always"
    return Library(rig, "rq (library)", how, _RQ, path, payload)

"""Redis with AOF synced always: the bare LPUSH that no job queue is, and RQ on top of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.peers import Peer
from benchmarks.rig import Missing, Rig, wait_for
from benchmarks.wires import MARK, Redis, unix

#: run in the peers' environment: what RQ sends to enqueue one job, and how many replies come
_RECORD = """
import os, sys, redis, rq
from redis.connection import AbstractConnection
sent, mark = [], "00000000-0000-4000-8000-000000000000"
queue = rq.Queue("bench", connection=redis.Redis(unix_socket_path=sys.argv[1]))
queue.enqueue("os.getpid")
plain = AbstractConnection.send_packed_command
def keep(self, command, *args, **kwargs):
    sent.append(b"".join([command] if isinstance(command, (bytes, str)) else list(command)))
    return plain(self, command, *args, **kwargs)
AbstractConnection.send_packed_command = keep
queue.enqueue("os.path.basename", os.urandom(int(sys.argv[2]) // 2).hex(), job_id=mark)
sys.stdout.buffer.write(b"".join(sent).replace(mark.encode(), b"~" * 36))
"""


class Server(NamedTuple):
    """A Redis that is running."""

    path: str
    pid: int
    syncs: Callable[[], int | None]


def start(rig: Rig) -> Server:
    """Start one; nothing is rewritten or saved in between, so that no fork disturbs it."""
    folder = rig.folder / "redis"
    folder.mkdir()
    env, syncs = rig.counting("redis")
    path = str(folder / "s")
    words = f"--port 0 --unixsocket {path} --dir {folder} --appendonly yes --appendfsync always"
    process = rig.start(
        [rig.program("redis-server"), *words.split(), "--save", "", "--auto-aof-rewrite-percentage",
         "0"], env,
    )  # fmt: skip
    wait_for(lambda: unix(path), "redis-server")
    return Server(path, process.pid, syncs)


def lpush(server: Server, payload: int) -> Peer:
    """The bare list."""
    arguments = {"path": server.path, "payload": payload}
    return Peer(
        "redis LPUSH", "one LPUSH a request, AOF always",
        lambda n: {"wire": "Redis", "arguments": arguments, "clients": n},
        server.syncs, server.pid,
    )  # fmt: skip


def rq(rig: Rig, server: Server, payload: int) -> Peer:
    """RQ, by the very commands that its `enqueue` sends; its library takes 20 times the CPU."""
    done = subprocess.run(
        [rig.peers / "bin/python", "-c", _RECORD, server.path, str(payload)], capture_output=True
    )
    if done.returncode != 0:
        raise Missing(f"rq: {done.stderr.decode().strip().splitlines()[-1:]}")
    commands = done.stdout
    one = Redis(server.path, b"", commands)
    sock = one.connect()
    sock.sendall(commands.replace(MARK, b"1" * 36))
    replies = commands.count(b"\r\n*") + 1
    arguments = {
        "path": server.path, "payload": 0, "commands": commands.decode("latin-1"),
        "replies": replies,
    }  # fmt: skip
    sock.close()
    return Peer(
        "rq", f"the {replies} commands of its enqueue, recorded, AOF always",
        lambda n: {"wire": "Redis", "arguments": arguments, "clients": n},
        server.syncs, server.pid,
    )  # fmt: skip

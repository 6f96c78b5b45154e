"""What one durable enqueue takes over an open client, beside the least that it could take.

That is: one fdatasync of as many bytes into space that is there, and one echo of request and reply
over the same kind of socket. Measured in turns, in one minute, by one process.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import wires
from benchmarks.enqueue import PAYLOAD, waiting_jobd
from benchmarks.report import Report, ratio
from benchmarks.rig import Rig, median, wait_for

_ECHO = """
import select, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
sock, _ = listener.accept()
poll = select.epoll()
poll.register(sock, select.EPOLLIN)
while poll.poll():
    if not sock.recv(4096):
        break
    sock.send(b"r" * 40)
"""
_TURNS = 200


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("latency of one enqueue, one open client, median")
    jobd = waiting_jobd(rig, "latency")
    client = wires.Jobd(jobd.socket, b"x" * PAYLOAD)
    queue = client.connect()
    echo = rig.folder / "echo.sock"
    rig.start([sys.executable, "-c", _ECHO, str(echo)], stdout=subprocess.DEVNULL)
    wait_for(echo.exists, "the echo")
    other = wires.unix(str(echo))
    fd = _filled(rig.folder / "syncs.bin")
    size = len(client.request())
    rows: list[tuple[float, float, float]] = []
    for _ in range(3 if quick else 9):
        asked = median(_ask(queue, client) for _ in range(_TURNS))
        echoed = median(_exchange(other, bytes(size)) for _ in range(_TURNS))
        synced = median(_sync(fd, size + 120, at) for at in range(_TURNS))
        rows.append((asked or 0, echoed or 0, synced or 0))
    os.close(fd)
    asked, echoed, synced = (statistics.median(column) for column in zip(*rows, strict=True))
    over = median(ratio(a, e + s) for a, e, s in rows)
    report.table(
        ("", "us"),
        [("enqueue", asked), ("fdatasync of as much", synced), ("echo", echoed),
         ("enqueue / (fdatasync + echo)", over)],
    )  # fmt: skip
    report.keep("latency", {"rounds": rows, "ratio": over})


def _filled(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, bytes(4 << 20), 0)
    os.fsync(fd)
    return fd


def _ask(sock: socket.socket, client: wires.Jobd) -> float:
    began = time.perf_counter()
    sock.sendall(client.request())
    data = b""
    while not client.reply(data):
        data += sock.recv(4096)
    return (time.perf_counter() - began) * 1e6


def _exchange(sock: socket.socket, data: bytes) -> float:
    began = time.perf_counter()
    sock.sendall(data)
    sock.recv(4096)
    return (time.perf_counter() - began) * 1e6


def _sync(fd: int, size: int, at: int) -> float:
    began = time.perf_counter()
    os.pwrite(fd, b"x" * size, at * size)
    os.fdatasync(fd)
    return (time.perf_counter() - began) * 1e6

"""The load: N clients in a closed loop, in one process, on plain sockets.

    python -m benchmarks.load '{"wire": "Jobd", "arguments": {...}, "clients": 16, "seconds": 1}'

Prints one JSON object: how many were acknowledged, in how long, and how long each took. A client
asks again as soon as it has its answer. `payload` is a length.
"""

from __future__ import annotations

import json
import resource
import select
import sys
import time
from typing import Any

from benchmarks import wires

#: replies that come before the measuring begins: connections, caches and branches are warm then
WARM = 0.15


def clients(order: dict[str, Any]) -> list[wires.Wire]:
    """The clients that the order asks for."""
    arguments = dict(order["arguments"])
    if "payload" in arguments:
        arguments["payload"] = b"x" * arguments["payload"]
    if "commands" in arguments:
        arguments["commands"] = arguments["commands"].encode("latin-1")
    made = getattr(wires, order["wire"])
    return [made(**arguments) for _ in range(order["clients"])]


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Let them go."""
    seconds: float = order["seconds"]
    poll = select.epoll()
    by_fd: dict[int, list[Any]] = {}
    for client in clients(order):
        sock = client.connect()
        sock.settimeout(20)
        by_fd[sock.fileno()] = [sock.recv, sock.sendall, client.request, client.reply, b"", 0.0]
        poll.register(sock.fileno(), select.EPOLLIN)
        by_fd[sock.fileno()].append(sock)
    clock = time.perf_counter
    for each in by_fd.values():
        each[5] = clock()
        each[1](each[2]())
    _turn(poll, by_fd, clock() + WARM)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = clock()
    took = _turn(poll, by_fd, began + seconds)
    lasted = clock() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took.sort()
    return {
        "acks": len(took),
        "seconds": lasted,
        "p50_us": took[len(took) // 2] * 1e6 if took else None,
        "p99_us": took[len(took) * 99 // 100] * 1e6 if took else None,
        "client_cpu_us": cpu / max(1, len(took)) * 1e6,
    }


def _turn(poll: select.epoll, by_fd: dict[int, list[Any]], until: float) -> list[float]:
    """Answer each reply with the next request until the time is over; how long each took."""
    clock, took = time.perf_counter, []
    while clock() < until:
        for fd, _ in poll.poll(0.1):
            each = by_fd[fd]
            recv, send, request, reply, data, asked, _ = each
            data += recv(65536)
            if not reply(data):
                each[4] = data
                continue
            now = clock()
            took.append(now - asked)
            each[4], each[5] = b"", now
            send(request())
    return took


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))

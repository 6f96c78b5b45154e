"""Durable enqueue: acknowledged jobs a second of clients in a closed loop, and syncs for each.

All servers stand ready; each round measures every one of them for a second at each number of
clients, so a ratio is one of the same minute. Ratios are medians over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.jobd import Jobd
from benchmarks.peers import Peer, beanstalkd, library, nats, procrastinate, redis
from benchmarks.report import Report, ratio
from benchmarks.rig import Missing, Rig, cpu_seconds, load, median, rounds

PAYLOAD = 300
CLIENTS = (1, 16, 64)
JOBD = "jobd"


def waiting_jobd(rig: Rig, name: str = "enqueue", config: str = "") -> Jobd:
    """A jobd with the job `bench`, whose runs wait."""
    made = Jobd(rig, name, "fake", config)
    made.ctl("register", "--name", "bench", "img", "exit=0")
    made.ctl("pause", "bench")
    return made


def servers(rig: Rig, report: Report) -> tuple[list[Peer], list[library.Library]]:
    """All that can be started here; what cannot is said."""
    jobd = waiting_jobd(rig)
    arguments = {"path": jobd.socket, "payload": PAYLOAD}
    found = [
        Peer(
            JOBD, "run.queue, a request each",
            lambda n: {"wire": "Jobd", "arguments": arguments, "clients": n},
            jobd.syncs, jobd.pid,
        )
    ]  # fmt: skip
    server: list[redis.Server] = []

    def lpush() -> Peer:
        server.append(redis.start(rig))
        return redis.lpush(server[0], PAYLOAD)

    def rq() -> Peer:
        if not server:
            raise Missing("rq: there is no Redis")
        return redis.rq(rig, server[0], PAYLOAD)

    makers: list[Callable[[], Peer]] = [
        lpush, rq, lambda: beanstalkd.start(rig, PAYLOAD), lambda: nats.start(rig, PAYLOAD),
        lambda: procrastinate.start(rig, PAYLOAD),
    ]  # fmt: skip
    for make in makers:
        try:
            found.append(make())
        except Missing as missing:
            report.say(f"left out: {missing}")
    if not (rig.peers / "bin/python").exists():
        report.say("left out: huey and RQ's library: the peers' environment is not there")
        return found, []
    libraries = [library.rq(rig, server[0].path, PAYLOAD)] if server else []
    return found, [*libraries, library.huey(rig, PAYLOAD)]


def one(peer: Peer, clients: int, seconds: float) -> dict[str, Any]:
    """One measurement of one server."""
    syncs, cpu = peer.syncs(), cpu_seconds(peer.pid) if peer.pid else None
    found = load({**peer.order(clients), "seconds": seconds})
    after = peer.syncs()
    # the load warms up for a moment, in which there were acknowledgements too
    acks = found["acks"] * (seconds + 0.15) / seconds
    found["rate"] = found["acks"] / found["seconds"]
    found["syncs"] = (after - syncs) / acks if after is not None and syncs is not None else None
    found["cpu_us"] = (cpu_seconds(peer.pid) - cpu) / acks * 1e6 if cpu is not None else None
    return found


def run(rig: Rig, report: Report, quick: bool) -> None:
    """The line."""
    report.begin("durable enqueue, closed loop, 300-byte payloads")
    peers, libraries = servers(rig, report)
    most, seconds = (2, 0.6) if quick else (5, 1.0)
    got: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for _ in rounds(most, 180):
        for clients in CLIENTS:
            for peer in peers:
                measured = one(peer, clients, seconds)
                got.setdefault(peer.name, {}).setdefault(clients, []).append(measured)
            for slow in libraries:
                measured = slow.load(clients, seconds)
                got.setdefault(slow.name, {}).setdefault(clients, []).append(measured)
    names = {peer.name: peer.how for peer in peers}
    names |= {slow.name: slow.how for slow in libraries}
    for clients in CLIENTS:
        report.say(f"-- {clients} clients")
        rows = [row(name, got[name][clients], got[JOBD][clients]) for name in got]
        report.table(
            ("server", "acks/s", "jobd is x", "p50 us", "p99 us", "syncs/ack", "its CPU us",
             "client CPU us"),
            rows,
        )  # fmt: skip
    for name, how in names.items():
        report.say(f"   {name}: {how}")
    report.keep("enqueue", got)
    bulk(rig, report, quick, peers)


def row(name: str, mine: list[dict[str, Any]], jobds: list[dict[str, Any]]) -> list[Any]:
    """A server's line: medians over the rounds."""
    ratios = [ratio(j["rate"], m["rate"]) for j, m in zip(jobds, mine, strict=True)]
    keys = ("p50_us", "p99_us", "syncs", "cpu_us", "client_cpu_us")
    return [
        name, median(m["rate"] for m in mine), median(ratios),
        *(median(m.get(key) for m in mine) for key in keys),
    ]  # fmt: skip


def bulk(rig: Rig, report: Report, quick: bool, peers: list[Peer]) -> None:
    """1,000 runs a request, one client."""
    report.begin("bulk: 1,000 runs a request, one client")
    jobd = next(peer for peer in peers if peer.name == JOBD)
    arguments = {**jobd.order(1)["arguments"], "count": 1000}
    order = {"wire": "Jobd", "arguments": arguments, "clients": 1, "seconds": 0.6 if quick else 1.5}
    rates = [1000 * found["acks"] / found["seconds"] for found in (load(order) for _ in range(3))]
    report.table(("server", "runs/s"), [("jobd", median(rates))])
    report.keep("bulk", rates)

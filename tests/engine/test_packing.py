"""Forty runs that ask for 1 to 6 GiB each of a host of 12 GiB, all queued at once.

Scaled down by twenty, as other things run on the machine: they ask for 51 to 307 MiB of 614 MiB,
those are their containers' limits, and each really fills four fifths of what it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jobctl.client import Client
from tests.support.harness import IMAGE, Daemon
from tests.support.packing import decreasing

#: MiB that stand for one GiB; what the host has of those; runs
GIB, HOST, RUNS = 51.2, 12, 40


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[Client]:
    """A daemon on a pretended host, with processors for all."""
    size = f'capacity.memory = "{round(HOST * GIB)}M"'
    host = Daemon(tmp_path / "h", url, "capacity.cpus = 64", size, "capacity.reserve_memory = 0")
    host.start()
    host.ready()
    with Client(home=str(host.home)) as made:
        yield made
        made.cancel(*[run["id"] for run in made.runs(everything=True)])
        made.drain(wait=True, timeout=60)
    host.close()


def register(client: Client, size: int) -> None:
    """A job that fills memory, keeps it for as long as its payload says, and ends well."""
    memory = round(size * GIB)
    fill = f"dd if=/dev/zero of=/dev/shm/x bs=1M count={memory * 4 // 5} 2>/dev/null"
    client.register(
        {
            "name": f"asks{size}",
            "image": IMAGE,
            "command": ["sh", "-c", f'{fill} && sleep "$(cat "$PAYLOAD_FILE")"'],
            "network": "none",
            "resources": {"memory": f"{memory}M", "shm": f"{memory}M", "cpus": 1.0},
        }
    )


def held(client: Client, sizes: dict[int, int]) -> list[tuple[int, int, int]]:
    """When each run began and ceased to hold its share, and how much: `(from, to, GiB)`."""
    began: dict[int, Any] = {}
    found = []
    for event in client.events():
        if event["event"] == "attempt.claimed":
            assert event["run"] not in began, "nothing is tried twice"
            began[event["run"]] = event["at"]
        elif event["event"] == "attempt.ended":
            run = event["run"]
            found.append((_ms(began[run]), _ms(event["at"]), sizes[run]))
    return found


def _ms(at: str) -> int:

    return round(datetime.fromisoformat(at).timestamp() * 1000)


def test_a_full_host_is_packed_well_and_nothing_is_killed(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(7)
    wanted = [(rng.randint(1, 6), rng.uniform(0.3, 1.2)) for _ in range(RUNS)]
    for size in {size for size, _ in wanted}:
        register(client, size)
    client.drain()
    sizes = {
        client.queue(f"asks{size}", f"{seconds:.2f}".encode())["runs"][0]["id"]: size
        for size, seconds in wanted
    }
    client.undrain()
    for run in client.wait(*sizes, timeout=300):
        assert run["status"] == "succeeded", run["reason"]
    spans = held(client, sizes)
    assert len(spans) == RUNS
    for at, _, _ in spans:
        assert sum(size for began, over, size in spans if began <= at < over) <= HOST
    makespan = max(over for _, over, _ in spans) - min(began for began, _, _ in spans)
    # the same runs, as long as each really took: a container's start and end are in it
    best = decreasing([(size, over - began) for began, over, size in spans], HOST)
    with capsys.disabled():
        print(f"\n  makespan {makespan} ms, first-fit-decreasing {best:.0f}: {makespan / best:.3f}")
    assert makespan <= 1.15 * best

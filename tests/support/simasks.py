"""What the people of the simulation ask for."""

from __future__ import annotations

from random import Random
from typing import Any

from jobd.core.commands import (
    CancelRuns,
    Command,
    DrainHost,
    EditRun,
    MoveRunFirst,
    QueueRun,
    RetryRuns,
    SetGroups,
    SetJob,
)
from tests.support.core import ANN

JOBS = ("a", "b", "c")
HOW = ("ok", "ok", "any", "fail")


def definition(rng: Random, name: str) -> dict[str, Any]:
    """A definition of a job, as somebody may write it."""
    return {
        "name": name,
        "image": "busybox",
        "overlap": rng.choice(["allow", "allow", "allow", "queue", "skip", "replace"]),
        "timeout": rng.choice(["20s", "5m"]),
        "stop_grace": rng.choice([0, 5, 30]),
        "expires": rng.choice([None, None, None, "2m"]),
        "resources": {
            "cpus": rng.choice([0.3, 1, 2, 4]),
            "memory": f"{rng.choice([64, 512, 2048, 4096])}M",
        },
        "limits": {
            "concurrency": rng.choice([None, 1, 2]),
            "queue": rng.choice([None, None, 4]),
            "rate": rng.choice([None, None, "2/10s", "1/m"]),
            "burst": rng.choice([None, 1, 3]),
            "group": rng.choice([None, None, "g"]),
            "mutex": rng.choice([None, None, None, "{job}"]),
        },
        "breaker": {"failures": rng.choice([None, None, 2]), "probe_after": "20s"},
        "total_timeout": rng.choice([None, None, None, "90s"]),
        "retry": {
            "attempts": rng.choice([1, 1, 2, 4]),
            "delay": rng.choice([0, 1, 10]),
            **rng.choice([{}, {"memory_step": "512M", "memory_max": "4G"}]),
            "interrupted": rng.choice(["retry", "hold", "dead"]),
            "on": rng.choice([["failed", "timed-out", "oom-killed"], ["lost"], ["3-5"]]),
        },
    }


def submission(rng: Random, wall: int, last: int) -> QueueRun:
    """Somebody queues something, perhaps behind runs up to `last`."""
    behind = rng.choice([0, 0, 0, 1, 2]) if last else 0
    after = {rng.randint(max(1, last - 6), last): rng.choice(HOW) for _ in range(behind)}
    key = rng.choice([None, None, None, "k1", "k2"])
    count = 1 if key else rng.choice([1, 1, 1, 3])
    debounce = rng.choice([None, None, 5_000]) if key else None
    return QueueRun(
        rng.choice(JOBS),
        [rng.choice([b"", b"x"]) for _ in range(count)],
        "cli",
        ANN,
        request=rng.randbytes(16),
        priority=rng.choice([None, None, 0, 5]),
        not_before=rng.choice([None, None, wall + rng.randrange(120_000)]),
        expires=rng.choice([None, None, None, rng.randrange(60_000)]),
        timeout=rng.choice([None, None, 10_000]),
        key=key,
        after=tuple(after.items()),
        unmet=rng.choice(["skip", "skip", "fail", "hold"]),
        latest=key is not None and rng.random() < 0.4,
        debounce=debounce,
        mutex=rng.choice([None, None, None, "m1", "m2"]),
    )


def change(rng: Random, some: list[int], wall: int) -> Command:
    """Somebody changes something about runs that are there, a job, or the host."""
    match rng.randrange(8):
        case 0:
            # sometimes so many that they are one record
            return CancelRuns(some if rng.random() < 0.5 else some[:2])
        case 1 | 2:
            return EditRun(
                some[0],
                priority=rng.choice([None, 0, 5, 9]),
                not_before=rng.choice([None, 0, wall - 1, wall + rng.randrange(90_000)]),
                timeout=rng.choice([None, None, 10_000]),
                labels=rng.choice([{}, {"a": "1"}]),
            )
        case 3:
            return MoveRunFirst(some[0])
        case 4:
            return RetryRuns([(run, b"again") for run in some[: rng.choice([1, 2])]])
        case 5:
            return DrainHost(rng.random() < 0.3)
        case 6:
            few = {"concurrency": rng.choice([1, 2])}
            return SetGroups(rng.choice([{"g": few}, {"g": {"rate": "1/5s", "burst": 2}}, {}]))
        case _:
            return SetJob(rng.choice(JOBS), {"limits.concurrency": rng.choice(["1", "3", None])})

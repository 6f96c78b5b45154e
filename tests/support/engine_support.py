"""What the tests of this folder share: an image, orders, and attempts run to their end."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any

from jobd.engine.base import Ending, Engine, Line, Order, Stream
from jobd.engine.docker import DockerEngine

CONTRIB_ENGINE = Path(__file__).parents[2] / "contrib" / "engine"
IMAGE = "jobd-test:busybox"
_runs = itertools.count(1)


def contrib_engine(verb: str, folder: Path | str) -> None:
    """Run contrib/engine; what it says is in the failure."""
    done = subprocess.run(
        [str(CONTRIB_ENGINE), verb, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def make_order(
    engine: DockerEngine, task_dir: Path, command: tuple[str, ...], **changes: Any
) -> Order:
    run = next(_runs)
    store = engine.store
    fields: dict[str, Any] = {
        "ref": f"jobd-{store[:8]}-{run}-1",
        "labels": {
            "jobd.store": store,
            "jobd.job": "test",
            "jobd.run": str(run),
            "jobd.attempt": "1",
        },
        "run": run,
        "attempt": 1,
        "job": "test",
        "image": IMAGE,
        "image_id": None,
        "pull": "missing",
        "command": command or None,
        "env": {},
        "user": None,
        "network": "none",
        "mounts": (),
        "cpus": 1.0,
        "memory": 64 << 20,
        "pids": 64,
        "stop_signal": "SIGTERM",
        "task_dir": task_dir,
        "log_bytes": 8 << 20,
    }
    return Order(**(fields | changes))


def silent(text: str) -> None:
    """Progress that nobody looks at."""


def run(engine: Engine, order: Order) -> tuple[Ending, list[Line]]:
    """Start an attempt, read all its output, and say how it ended."""
    engine.start(order, silent)
    lines = [line for batch in engine.output(order.ref, 0) for line in batch]
    return ended(engine, order.ref), lines


def ended(engine: Engine, ref: str) -> Ending:
    """How the attempt ended; waits, as the engine notes an end some ms after that of the output."""
    give_up = time.monotonic() + 60
    while (ending := engine.ending(ref)) is None:
        assert time.monotonic() < give_up, f"{ref} does not end"
        time.sleep(0.02)
    return ending


def text(lines: list[Line], stream: Stream = Stream.STDOUT) -> str:
    """What one stream said, as text."""
    parts = [
        line.data + (b"" if line.partial else b"\n") for line in lines if line.stream == stream
    ]
    return b"".join(parts).decode()

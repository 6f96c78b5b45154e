"""What every crash test starts from: a home, a real engine, witnesses, a seed that is printed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Daemon, Events, Recorder
from tests.support.process_daemon import ProcessDaemon
from tests.support.processes import open_folder


@pytest.fixture
def engine() -> str:
    """The socket of a real engine. Missing it is a failure, not a reason to skip."""
    socket = os.environ.get("JOBD_TEST_DOCKER")
    if not socket:
        pytest.fail("JOBD_TEST_DOCKER names no engine's socket; contrib/test starts one")
    return socket


@pytest.fixture
def daemon(tmp_path: Path, engine: str) -> Iterator[Daemon]:
    """A daemon that was not started yet."""
    daemon = Daemon(tmp_path / "h", engine)
    yield daemon
    daemon.close()


@pytest.fixture
def processes() -> Iterator[ProcessDaemon]:
    """One with process attempts alone, that was not started yet; at the end nothing of it runs."""
    with open_folder() as folder:
        daemon = ProcessDaemon(folder / "h")
        yield daemon
        daemon.close()
        daemon.end_attempts()


@pytest.fixture
def events(engine: str) -> Iterator[Events]:
    """What the engine started since; at the end no container of a jobd is left."""
    events = Events(engine)
    yield events
    events.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """What the programs said."""
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def chance() -> random.Random:
    """Random numbers whose seed is printed when the test fails; JOBD_TEST_SEED repeats them."""
    seed = int(os.environ.get("JOBD_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"JOBD_TEST_SEED={seed}")
    return random.Random(seed)

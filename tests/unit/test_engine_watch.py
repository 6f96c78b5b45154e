"""The watch: claims stop when anybody has no answer, and those who wait are told of the return."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from jobd.core.model import Reason
from jobd.daemon.engine_watch import EngineWatch
from jobd.daemon.judge import signal_number
from jobd.daemon.noticing import NoticingEngine
from jobd.engine.base import EngineTroubleError, EngineUnreachableError
from jobd.engine.fake import FakeEngine

PATIENCE = 20.0


class Watched:
    """A watch on a fake engine, and what it told."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.told: queue.Queue[Reason | None] = queue.Queue()
        self.returned = threading.Semaphore(0)
        self.fatal: list[BaseException] = []
        self.watch = EngineWatch(
            self.engine,
            "fake",
            self.told.put,
            lambda found: None,
            self.fatal.append,
            returned=self.returned.release,
        )
        self.watch.start()

    def until(self, wanted: str | None) -> Reason | None:
        """Wait for a reason with that code, or for none."""
        while True:
            reason = self.told.get(timeout=PATIENCE)
            if (reason.code if reason else None) == wanted:
                return reason


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    made.until(None)
    assert made.returned.acquire(timeout=PATIENCE)
    yield made
    made.watch.close()
    assert not made.fatal


def test_one_silence_stops_claims_and_the_return_is_told(watched: Watched) -> None:
    watched.engine.set_reachable(False)
    noticing = NoticingEngine(watched.engine, watched.watch.away)
    with pytest.raises(EngineUnreachableError):
        noticing.phase("x")
    reason = watched.until("engine")
    assert reason is not None
    assert "does not answer" in reason.text
    assert watched.watch.row()["reachable"] is False
    watched.engine.set_reachable(True)
    watched.until(None)
    assert watched.returned.acquire(timeout=PATIENCE)
    assert watched.watch.row()["error"] is None


def test_told_many_times_it_looks_no_oftener(watched: Watched) -> None:
    watched.engine.set_reachable(False)
    for _ in range(1000):
        watched.watch.away(EngineUnreachableError("away"))
    watched.until("engine")
    # one for the first word, and one for each look: no thousand
    assert watched.told.qsize() < 10


def test_trouble_that_the_engine_tells_of_is_no_silence() -> None:
    told: list[EngineUnreachableError] = []

    class Troubled(FakeEngine):
        def phase(self, ref: str):  # type: ignore[no-untyped-def]
            raise EngineTroubleError("its disk is full")

    with pytest.raises(EngineTroubleError):
        NoticingEngine(Troubled(), told.append).phase("x")
    assert told == []


@pytest.mark.parametrize(
    ("name", "number"), [("SIGTERM", 15), ("TERM", 15), ("SIGQUIT", 3), ("SIGNONE", 0)]
)
def test_numbers_of_signals(name: str, number: int) -> None:
    assert signal_number(name) == number

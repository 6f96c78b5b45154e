"""The queue's files stay within three times what is live and a constant, at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.daemon import snapshots as module
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.snapshots import Snapshots
from jobd.journal import Journal, RecordIn

CALLER = [0, "root", 1, "uid:0"]
ALLOWANCE = 200_000
SEGMENT = 128 << 10


class Queue:
    """A queue of runs with large payloads, in small segments, without a daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal.open(
            folder, segment_bytes=SEGMENT, reserve_bytes=0, known_types=KNOWN_TYPES
        )
        self.state = fold(self.journal.replay())
        if not self.state.jobs:
            spec = to_mapping(parse({"name": "j", "image": "i"}))
            self.write([e.JobRegistered(1, "j", 1, spec, 1, CALLER)])

    def write(self, events: list[Any]) -> None:
        records = []
        for event in events:
            cls = type(event)
            revision = self.state.apply(event)
            body = e.encode(event)
            records.append(RecordIn(e.TYPE_OF[cls], e.KIND_OF[cls], event[0], revision, body))
        for event, where in zip(events, self.journal.write(records), strict=True):
            self.state.placed(event, where)

    def queue(self, runs: int) -> None:
        first = self.state.next_run
        payload = os.urandom(4000)
        numbers = range(first, first + runs)
        self.write([e.RunQueued(n, 1, 1, 1, "cli", CALLER, payload) for n in numbers])

    def churn(self, times: int) -> None:
        """Much is written that takes the place of what was: nothing more is live."""
        label = os.urandom(2000).hex()
        self.write([e.RunEdited(1, 1, {"labels": {"a": label}}, CALLER) for _ in range(times)])

    def disk(self) -> int:
        """Bytes of all segments and snapshots, those in the making too."""
        files = [*self.folder.glob("seg-*"), *self.folder.glob("*snap*")]
        return sum(path.stat().st_size for path in files)

    @property
    def live(self) -> int:
        """Bytes that all runs take in the log."""
        return len(self.state.runs) * 4080


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(module, "ALLOWANCE", ALLOWANCE)
    monkeypatch.setattr(module, "REST", 0.0)
    one = Queue(tmp_path / "q")
    yield one
    one.journal.close()


def test_the_bound_holds_while_much_changes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks: list[float] = []
    alone = 0
    adopt, retire = Journal.adopt, Journal.retire

    def watched_adopt(journal: Journal, *given: Any) -> None:
        # the worst moment: all is still there, and the new one is whole
        peaks.append((queue.disk() - ALLOWANCE - 2 * SEGMENT) / queue.live)
        adopt(journal, *given)

    def watched_retire(journal: Journal, **how: Any) -> int:
        nonlocal alone
        alone += not how["keep_older"]
        return retire(journal, **how)

    monkeypatch.setattr(Journal, "adopt", watched_adopt)
    monkeypatch.setattr(Journal, "retire", watched_retire)
    runs = lambda: len(queue.state.runs)  # noqa: E731
    maker = Snapshots(queue.journal, lambda work: work(), queue.journal.seal, runs, 128 << 10)
    made = 0
    queue.queue(300)
    for _ in range(40):
        queue.churn(20)
        before = maker.row()["finished"]
        maker.work()
        assert maker.row()["problem"] is None
        made += maker.row()["finished"] - before
    assert made > 6
    assert max(peaks) <= 3, peaks
    assert alone, "the bound was never near: the test shows nothing"
    assert queue.disk() <= 3 * queue.live + ALLOWANCE + 2 * SEGMENT
    for number in (1, runs()):
        run = queue.state.run(number)
        assert len(queue.journal.kept(run.where, e.RUN, number).body) > 4000


def test_a_start_finds_all_of_it(queue: Queue) -> None:
    maker = Snapshots(
        queue.journal, lambda work: work(), queue.journal.seal, lambda: len(queue.state.runs), 1
    )
    for _ in range(3):
        queue.queue(30)
        maker.work()
    assert maker.row()["finished"] == 3
    queue.queue(5)
    queue.journal.close(clean=False)
    again = Queue(queue.folder)
    assert isinstance(again.state, State)
    assert len(again.state.runs) == 95
    for run in again.state.runs.oldest_first():
        assert len(again.journal.kept(run.where, e.RUN, run.id).body) > 4000
    again.journal.close()

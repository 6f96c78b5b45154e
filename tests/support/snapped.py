"""A small queue with snapshots on a simulated disk, lived through batch by batch."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

from jobd.core import events as e
from jobd.core.state import State
from jobd.core.statements import payload_in
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.snapshotter import make
from jobd.journal import Journal, RecordIn
from jobd.journal.retention import unfinished_name
from jobd.journal.snapshot import Snapshot
from tests.support.core import START
from tests.support.sim_disk import SimDisk
from tests.support.simulation import Life
from tests.support.stating import told

Q = "/q"
#: a life in which no clock is set by days: no request is forgotten in it
SEED = 58
NOW = START.wall + 8 * 3_600_000


@cache
def batches(count: int = 24) -> tuple[tuple[e.Event, ...], ...]:
    """The first batches of a life: what is written at once."""
    life = Life(SEED)
    ends = [0]
    while len(ends) <= count:
        life.step()
        if life.synced > ends[-1]:
            ends.append(life.synced)
    return tuple(tuple(life.events[low:high]) for low, high in pairwise(ends))


@cache
def expected(count: int) -> dict[str, Any]:
    """What is to be said of the state after so many batches."""
    state = State()
    for batch in batches()[:count]:
        for event in batch:
            cls = type(event)
            state.apply(e.decode(e.TYPE_OF[cls], event[0], e.encode(event)))
    return told(state)


def open_on(disk: SimDisk) -> Journal:
    """The queue on that disk, in segments so small that there are several."""
    return Journal.open(Q, fs=disk, segment_bytes=8 << 10, reserve_bytes=0, known_types=KNOWN_TYPES)


class Queue:
    """An open queue with its state."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.journal = open_on(disk)
        self.state = fold(self.journal.replay())
        self.acked = 0

    def write(self, number: int) -> None:
        """Write a batch, as the core loop does."""
        batch, records = batches()[number], []
        for event in batch:
            cls = type(event)
            revision = self.state.apply(event)
            kind = e.KIND_OF[cls]
            records.append(RecordIn(e.TYPE_OF[cls], kind, event[0], revision, e.encode(event)))
        places = self.journal.write(records)
        for event, where in zip(batch, places, strict=True):
            self.state.placed(event, where)
        self.acked = number + 1

    def snapshot(self, *, keep_older: bool = True) -> None:
        """Make one of now unless it is there, and remove what it replaces."""
        self.journal.seal()
        end, last = self.journal.sealed(), self.journal.snapshot
        if last is None or end is None or last.lsn < end.last_lsn:
            self.journal.adopt(self.made())
        self.journal.retire(keep_older=keep_older)

    def made(self) -> Snapshot:
        """A finished snapshot of what is sealed, not yet the queue's own."""
        end = self.journal.sealed()
        assert end is not None
        target = f"{Q}/{unfinished_name(end.last_lsn, 1)}"
        return make(self.disk, Q, end.last_lsn, target, NOW)

    def check_bodies(self) -> None:
        """Every payload that is in the queue's files can be read."""
        for run in self.state.runs.oldest_first():
            if run.body is None:
                type_, body = self.journal.kept(run.where, e.RUN, run.id)
                assert len(payload_in(type_, run.id, body)) == run.size


def standing(disk: SimDisk) -> int:
    """How many batches the queue on that disk tells of; it is opened and left as by a kill."""
    queue = Queue(disk)
    found = told(queue.state)
    count = next((n for n in range(len(batches()) + 1) if expected(n) == found), None)
    assert count is not None, "the state is that of no moment"
    queue.check_bodies()
    queue.journal.close(clean=False)
    disk.exit_process()
    return count


def live(queue: Queue, first: int = 0, last: int = 24) -> None:
    """Some batches, with a snapshot after every fifth; of the last ones without an older one."""
    for number in range(first, last):
        queue.write(number)
        if number % 5 == 4:
            queue.snapshot(keep_older=number < 15)


def snapshots(disk: SimDisk) -> list[str]:
    """Paths of the snapshots that are there, oldest first."""
    return [f"{Q}/{name}" for name in disk.listdir(Q) if name.endswith(".snap")]

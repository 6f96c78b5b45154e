"""A small queue of real events in three segments, its every byte with a known owner, to be hurt."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.entities import Run
from jobd.core.state import State
from jobd.core.states import RunState
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.salvage import salvage
from jobd.daemon.snapshotter import make
from jobd.errors import QueueDamagedError
from jobd.journal import Journal, RecordIn
from jobd.journal.examine import examine
from jobd.journal.record import FRAME_BYTES, named_in
from jobd.journal.retention import unfinished_name
from jobd.journal.segment import HEADER_BYTES, read_header
from tests.support.sim_disk import SimDisk

Q = "/q"
WHO = [0, "root", 1, ""]
AT = 1_700_000_000_000
SPEC = {"name": "good", "command": ["true"], "resources": {"memory": "32M"}}

#: what each segment holds: a list of batches, each a list of events
LIFE: tuple[tuple[tuple[e.Event, ...], ...], ...] = (
    (
        (e.JobRegistered(1, "good", 1, SPEC, AT, WHO),),
        (e.JobRegistered(2, "other", 1, {**SPEC, "name": "other"}, AT, WHO),),
        (e.RunQueued(1, 1, 1, AT, "cli", WHO, b"one"), e.AttemptClaimed(1, 1, AT)),
        (e.AttemptStarted(1, 1, AT, AT, "c1", ""),),
        (
            e.RunQueued(2, 1, 1, AT, "cli", WHO, b"two" * 99),
            e.RunQueued(3, 1, 1, AT, "cli", WHO, b"three"),
            e.RunQueued(4, 2, 1, AT, "cli", WHO, b"four"),
        ),
    ),
    (
        (
            e.AttemptEnded(1, 1, AT, "succeeded", True, 0),
            e.RunFinished(1, AT, "succeeded", "succeeded", "attempt 1 ended"),
        ),
        (e.RunQueued(5, 1, 1, AT, "cli", WHO, b"five", 0, {"after": [[1, "ok"]]}),),
        (e.RunHeld(4, AT, "held", "by root", WHO),),
        (e.AttemptClaimed(2, 1, AT), e.RunQueued(6, 2, 1, AT, "cli", WHO, b"six")),
        (e.JobRunsCancelled(2, [[4, 6]], AT, WHO),),
    ),
    (
        (e.AttemptStarted(2, 1, AT, AT, "c2", ""),),
        (e.RunQueued(7, 2, 1, AT, "cli", WHO, b"seven"),),
        (e.JobPaused(1, AT, WHO),),
    ),
)
JOB_OF = {1: 1, 2: 1, 3: 1, 4: 2, 5: 1, 6: 2, 7: 2}


class Fate(NamedTuple):
    """What is true of a run, as a person would see it."""

    state: RunState | None
    word: str
    attempts: tuple[tuple[str, str], ...]
    size: int
    job: int


def fate(run: Run) -> Fate:
    """Of one run."""
    attempts = tuple(
        (str(attempt.state), str(attempt.end.outcome) if attempt.end else "")
        for attempt in run.attempts or ()
    )
    note = run.note
    word = note.outcome if isinstance(note, e.RunFinished) else (note.code if note else "")
    return Fate(run.state, word, attempts, run.size, run.job.id)


def fates(state: State) -> dict[int, Fate]:
    """Of every run."""
    return {run.id: fate(run) for run in state.runs.oldest_first()}


class Hurt(NamedTuple):
    """What came of a damage: the report, the state that a daemon would start with."""

    report: dict[str, Any]
    state: State
    disk: SimDisk

    @property
    def suspect(self) -> set[int]:
        return {one["run"] for one in self.report.get("suspect", ())}

    @property
    def missing(self) -> set[int]:
        pairs = self.report.get("missing", ())
        return {number for a, b in pairs for number in range(a, b + 1)}


class Queue:
    """The queue, and what it says while it is whole; with a `snapshot` of its first two parts."""

    def __init__(self, *, snapshot: bool = False) -> None:
        disk = SimDisk()
        state = State()
        for number, segment in enumerate(LIFE):
            journal = open_on(disk)
            for batch in segment:
                journal.write([_record(state, event) for event in batch])
            if snapshot and number == 1:
                _snapshot(disk, journal)
            journal.close()
        self.disk = disk.snapshot()
        self.names = [name for name in self.disk.listdir(Q) if name.startswith("seg-")]
        self.data = {name: self.disk.data(f"{Q}/{name}") for name in self.names}
        self.truth = fates(state)
        self.places = {name: self._owners(name) for name in self.names}

    def _owners(self, name: str) -> list[tuple[int, int, int, int]]:
        """`(start, stop, kind, id)` of each record in a segment."""
        data = self.data[name]
        fd = self.disk.open(f"{Q}/{name}", 0)
        header = read_header(self.disk, fd, name)
        self.disk.close(fd)
        found = []
        for one in named_in(data[HEADER_BYTES:], header.seed, HEADER_BYTES):
            size = int.from_bytes(data[one.offset : one.offset + 4], "little")
            found.append((one.offset, one.offset + FRAME_BYTES + size, one.kind, one.id))
        return found

    def touched(self, name: str, start: int, stop: int) -> tuple[set[int], set[int]]:
        """Jobs and runs of which a record lies in that range."""
        jobs: set[int] = set()
        runs: set[int] = set()
        for first, last, kind, id_ in self.places[name]:
            if first < stop and start < last:
                (runs if kind == e.RUN else jobs).add(id_)
        return jobs, runs

    def hurt(self, changes: dict[str, bytes | None]) -> SimDisk:
        """A disk with those files changed, None: gone."""
        disk = self.disk.snapshot()
        for name, data in changes.items():
            if data is None:
                disk.remove(f"{Q}/{name}")
            else:
                disk.put(f"{Q}/{name}", data)
        return disk

    def check(self, disk: SimDisk) -> Hurt | None:
        """Salvage it, and see that nothing is said of a run that is not true.

        None where it is no damage: the queue opens as it is.
        """
        try:
            examine(disk, Q)
            return None
        except QueueDamagedError:
            pass
        before = {
            name: disk.data(f"{Q}/{name}")
            for name in disk.listdir(Q)
            if name[:4] in ("seg-", "snap")
        }
        hurt = mended(disk)
        kept = disk.listdir(hurt.report["quarantine"])
        for name, data in before.items():
            assert name in kept, "a file is not in the quarantine"
            assert disk.data(f"{hurt.report['quarantine']}/{name}") == data
        found = fates(hurt.state)
        assert set(found) | hurt.missing >= set(self.truth) - {max(self.truth)}
        assert not set(found) & hurt.missing
        for number, one in found.items():
            if number in hurt.suspect:
                assert one.state is RunState.HELD
                assert one.word in ("suspect", "unreadable")
            else:
                assert one == self.truth[number], f"run {number}: {one} is not true"
        return hurt


def open_on(disk: SimDisk) -> Journal:
    """The queue, in small segments."""
    return Journal.open(
        Q, fs=disk, segment_bytes=32 << 10, reserve_bytes=0, known_types=KNOWN_TYPES
    )


def _snapshot(disk: SimDisk, journal: Journal) -> None:
    """Make one of all that was written, and remove what it replaces."""
    journal.seal()
    end = journal.sealed()
    assert end is not None
    journal.adopt(make(disk, Q, end.last_lsn, f"{Q}/{unfinished_name(end.last_lsn, 1)}", AT))
    journal.retire(keep_older=False)


def mended(disk: SimDisk) -> Hurt:
    """Salvage a queue and open it as the daemon does."""
    report = salvage(disk, Q, WHO, at=AT + 1, segment_bytes=8 << 10)
    journal = open_on(disk)
    state = fold(journal.replay())
    journal.close()
    return Hurt(report, state, disk)


def _record(state: State, event: e.Event) -> RecordIn:
    kind = type(event)
    return RecordIn(e.TYPE_OF[kind], e.KIND_OF[kind], event[0], state.apply(event), e.encode(event))

"""A queue with its archive on a simulated disk, kept as the daemon keeps it, in one thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobd.core import archiving
from jobd.core import events as e
from jobd.core.archiving import Window
from jobd.core.commands import ArchiveRuns
from jobd.core.decide import decide
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.spec import parse, to_mapping
from jobd.core.statements import end_in, payload_in
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.history.keeper import Door, Keeper
from jobd.history.oldlogs import OldLogs
from jobd.history.reader import History
from jobd.history.retention import Keep, Retention
from jobd.journal import Journal
from jobd.journal.archive import Archive
from tests.support.core import START, SYSTEM, run_dump
from tests.support.sim_disk import SimDisk

Q = "/q"
AT = START.wall
ANN = [1000, "ann", 4711, ""]


class Files:
    """Logs and bodies: what was removed of them."""

    def __init__(self) -> None:
        self.logs: list[tuple[str, int, int]] = []
        self.bodies: list[str] = []

    def older(self, before: int) -> Iterator[tuple[str, int, int]]:
        return iter(())

    def remove(self, *what: Any) -> None:
        if len(what) == 1:
            self.bodies.append(what[0])
        else:
            self.logs.append(what)


class ArchiveRig:
    """One process's life over the queue on the disk; make another one after a cut."""

    def __init__(self, disk: SimDisk, index: Path, window: int = 2) -> None:
        self.disk, self.path = disk, index
        self.now = AT + 1_000_000
        self.journal = Journal.open(
            Q, fs=disk, segment_bytes=16 << 10, reserve_bytes=0, known_types=KNOWN_TYPES
        )
        self.state = fold(self.journal.replay())
        self.archive = Archive(disk, f"{Q}/archive", self.journal.store)
        self.history = History(self.archive, self.state)
        self.files = Files()
        self.room = True
        self.live_bodies: set[str] = set()
        retention = Retention(
            self.archive,
            self.history,
            self.files,
            self.files,
            self.state.children.needed_ids,
            lambda below, names: (self.live_bodies & names, None),
            lambda: None,
        )
        door = Door(
            post=lambda work: work(),
            due=lambda window: True,
            leaving=lambda window, most: archiving.leaving(self.state, window, self.now, most),
            forget=self.forget,
            stay=lambda runs: archiving.stay(self.state, runs),
            kept=lambda where, run: self.journal.kept(where, e.RUN, run),
        )
        self.keeper = Keeper(
            self.archive,
            self.history,
            str(index),
            self.journal.store,
            door,
            retention,
            OldLogs(self.files, lambda runs: set(), lambda: None),
            lambda: self.now,
            whole=lambda index: None,
        )
        self.keeper.window, self.keeper.keep = Window(window, 1 << 50), Keep(1 << 50, 1 << 50)

    def write(self, *events: e.Event) -> None:
        """One batch, as the core loop writes it."""
        records = []
        for event in events:
            cls = type(event)
            revision = self.state.apply(event)
            records.append((e.TYPE_OF[cls], e.KIND_OF[cls], event[0], revision, e.encode(event)))
        for event, where in zip(events, self.journal.write(records), strict=True):
            self.state.placed(event, where)

    def forget(self, runs: Sequence[int]) -> bool:
        if self.room:
            now = Now(self.now, 0)
            made = decide(self.state, ArchiveRuns(runs), now, Rules(), SYSTEM)
            if made.events:
                self.write(*made.events)
        return self.room

    def register(self, job: int = 1) -> None:
        spec = to_mapping(parse({"name": f"job-{job}", "image": "img"}))
        self.write(e.JobRegistered(job, f"job-{job}", 1, spec, AT, ANN))

    def live(self, run: int, job: int = 1) -> None:
        """One run from its queueing to its end; how depends on its id."""
        options: dict[str, Any] = {"labels": {"n": str(run % 3)}}
        if run % 4 == 1:
            options["key"] = f"k{run}"
        payload: Any = [f"{run:032x}", 9, 1] if run % 5 == 0 else b"payload %d" % run
        at = AT + run * 1000
        self.write(e.RunQueued(run, job, 1, at, "cli", ANN, payload, 0, options))
        if run % 3 == 0:
            text = "was cancelled by ann"
            self.write(e.RunFinished(run, at + 5, "cancelled", "cancelled", text, ANN))
            return
        self.write(e.AttemptClaimed(run, 1, at + 10))
        self.write(e.AttemptStarted(run, 1, at + 20, at + 20, "c", "sha256:1", 4))
        outcome = "failed" if run % 7 == 2 else "succeeded"
        ended = e.AttemptEnded(
            run, 1, at + 30, outcome, True, 0, None, at + 30, False, 0.5, 4096, "parent", 12,
            result=b"result %d" % run, log_tail=b"words %d" % run,
        )  # fmt: skip
        self.write(ended, e.RunFinished(run, at + 30, outcome, outcome, "so"))

    def keep(self, steps: int = 60) -> None:
        """The keeper's steps, until it has nothing more to do."""
        for _ in range(steps):
            self.keeper.work()
            if self.history.ready and self.state.ended <= self.keeper.window.runs:
                return

    def close(self) -> None:
        """Let go of the index: the process has ended."""
        self.keeper.close()
        self.keeper.end()

    def told(self) -> dict[int, Any]:
        """Every run that is over, from memory or the archive, with what lies on disk of it."""
        runs = {run.id: run for run in self.state.runs.oldest_first() if run.note is not None}
        found = self.history.runs(range(1, self.state.next_run)) if self.history.any else {}
        past = {number: run for number, run in found.items() if isinstance(run, Run)}
        for number, run in past.items():
            assert number not in runs or run_dump(runs[number])[1:] == run_dump(run)[1:]
        return {number: self.whole(run) for number, run in sorted({**past, **runs}.items())}

    def whole(self, run: Run) -> tuple[Any, ...]:
        """All that is known of a run."""
        payload = payload_in(*self.kept(run.where, run.id)) if run.body is None else b""
        ends = []
        for attempt in run.attempts or ():
            type_, id_, body = self.kept(attempt.where, run.id)
            ends.append(tuple(end_in(type_, id_, attempt.number, body)))
        return (*run_dump(run)[1:], payload, ends)

    def kept(self, where: int, run: int) -> tuple[int, int, bytes]:
        """The record of a run that lies there."""
        found = self.history.kept(where) if where < 0 else self.journal.kept(where, e.RUN, run)
        return found[0], run, found[1]

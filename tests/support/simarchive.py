"""A life of the core in which finished runs leave for an archive, which is kept as records."""

from __future__ import annotations

from collections.abc import Iterator

from jobd.codec import unpack
from jobd.core import events as e
from jobd.core.archiving import Window, leaving, stay
from jobd.core.commands import ArchiveRuns
from jobd.core.entities import Run
from jobd.core.restoring import run_in
from jobd.core.statements import run_record
from jobd.core.states import RunState
from tests.support.core import SYSTEM, run_dump
from tests.support.simulation import Broken, Life


class ArchivingLife(Life):
    """As a Life; at any step some runs may leave, or be written and stay as the daemon dies."""

    def __init__(self, seed: int) -> None:
        self.archived: dict[int, bytes] = {}
        self.left = 0
        super().__init__(seed)

    def act(self) -> None:
        super().act()
        if self.rng.random() < 0.2:
            self.archive()

    def archive(self) -> None:
        """Some of those that are beyond a window leave."""
        window = Window(self.rng.choice([0, 0, 2, 10]), self.rng.choice([0, 60_000, 1 << 50]))
        runs = leaving(self.state, window, self.now.wall, self.rng.choice([1, 3, 50]))
        ids = [run.id for run in runs]
        for run in runs:
            body = run_record(run, self.records)[4]
            if run.id in self.archived and self.archived[run.id] != body:
                raise Broken(f"run {run.id}: is another the second time it is archived")
            self.archived[run.id] = body
        if self.rng.random() < 0.9:
            count = self.do(ArchiveRuns(ids), SYSTEM).answer
            self.left += count or 0
        stay(self.state, ids)

    def apply(self, *events: e.Event) -> None:
        for event in events:
            super().apply(event)
            self.place(event, len(self.events))

    def restart(self, mono: int = 1_000) -> None:
        super().restart(mono)
        for where, event in enumerate(self.events, 1):
            self.place(event, where)

    def place(self, event: e.Event, where: int) -> None:
        """Note where the event's record lies, if what it is about is still in memory."""
        about_run = e.KIND_OF[type(event)] == e.RUN
        if about_run and self.state.runs.get(event[0]) is not None:
            self.state.placed(event, where)

    def records(self, where: int, run: int) -> tuple[int, bytes]:
        """The record of the queue that lies there."""
        event = self.events[where - 1]
        return e.TYPE_OF[type(event)], e.encode(event)

    def run(self, id_: int) -> Run:
        if self.state.runs.get(id_) is None and id_ in self.archived:
            return self.read(id_)
        return super().run(id_)

    def read(self, id_: int) -> Run:
        """The run as the archive has it."""
        body = self.archived[id_]
        job = self.state.jobs_by_id[unpack(body)[0]]
        return run_in(job, id_, 0, body)

    def problems(self) -> Iterator[str]:
        for problem in super().problems():
            number = problem.split(":")[0].removeprefix("run ")
            gone = "was acknowledged, and is not there" in problem
            if not gone or int(number) not in self.archived:
                yield problem
        for id_ in self.archived:
            run = self.state.runs.get(id_)
            if run is not None and run_dump(run)[1:] != run_dump(self.read(id_))[1:]:
                yield f"run {id_}: the archive has another"
        finished = sorted(n for n in self.state.finished if self.state.runs.get(n) is not None)
        runs = self.state.runs.oldest_first()
        over = [run.id for run in runs if run.state is RunState.DONE]
        if finished != over:
            yield f"listed as ended {finished}, are over {over}"

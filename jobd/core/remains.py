"""What the records that are left of a damaged queue say of each run and job. Pure.

The revision numbers tell: a thing whose changes are all there is untouched by the damage, one with
a hole is suspect, and so is a live one that a record which nobody can name may have been about
(DURABILITY R8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.machine import RUN
from jobd.core.spec import to_mapping
from jobd.core.state import State
from jobd.core.states import RunState

#: ids that are left out behind the last known one where as many bytes were lost, and at least
_BYTES_A_RUN, _IDS_AT_LEAST = 100, 1000
#: the same where nobody knows how many bytes: a whole segment holds no more runs
_IDS_A_SEGMENT = 1_000_000
_IDLE = (RunState.WAITING, RunState.HELD)
#: an attempt's life is three records at least: claimed, ended, and what follows
_RECORDS_AN_ATTEMPT = 3


class Seen(NamedTuple):
    """A record. `event` None: known by its frame alone; not `sure`: a bit of it was set right."""

    type: int
    kind: int
    id: int
    revision: int
    event: e.Event | None
    sure: bool


class Lost(NamedTuple):
    """A place where there may have been records that nobody can name; 0 bytes: nobody knows."""

    bytes: int


#: gives all that is left, in order, each time that it is called
Items = Callable[[], Iterator["Seen | Lost"]]


class Thing:
    """What is known of one job, run or the host: `rev` changes, the last at place `last`."""

    __slots__ = ("holes", "last", "named", "rev")

    def __init__(self) -> None:
        self.rev = 0
        self.last = 0
        #: changes of which there is nothing, and sentences for those which are damaged
        self.holes = 0
        self.named: list[str] = []

    @property
    def hurt(self) -> str:
        """What is missing of it; empty where nothing is."""
        words = list(self.named)
        if self.holes:
            words.append(f"{self.holes} of its {self.rev} changes are lost")
        return ", ".join(words)


class JobRemains(Thing):
    """A job: its definitions by number, as `(name, spec)`."""

    __slots__ = ("pinned", "specs")

    def __init__(self) -> None:
        super().__init__()
        self.specs: dict[int, tuple[str, dict[str, Any]]] = {}
        #: definitions that runs were queued with
        self.pinned: set[int] = set()


class RunRemains(Thing):
    """A run as far as its records tell."""

    __slots__ = (
        "after",
        "attempts",
        "body",
        "freed",
        "job",
        "outcome",
        "revision",
        "settled",
        "state",
    )

    def __init__(self) -> None:
        super().__init__()
        self.job = 0
        self.revision = 0
        self.state: RunState | None = None
        #: it had ended before all that is damaged
        self.settled = False
        #: how it ended by the record of that, where there is one
        self.outcome = ""
        #: its payload where that is a file of its own: name, size, checksum
        self.body: list[Any] | None = None
        #: how many attempts it may have had
        self.attempts = 0
        #: its parents; whether they have let it go
        self.after: list[int] = []
        self.freed = False


class Remains:
    """All of it, from one reading of `items`, which go on from the state `base`."""

    def __init__(self, items: Items, base: State) -> None:
        self.runs: dict[int, RunRemains] = {}
        self.jobs: dict[int, JobRemains] = {}
        self.host = Thing()
        #: runs that had left for the archive, whole, and are none of the state `base`
        self.archived: set[int] = set()
        #: records that were met twice, by place
        self.twice: set[int] = set()
        #: place of the last loss, and of the last run that was queued for certain
        self.last_loss = self._last_queued = 0
        self._behind = 0
        self._base = (base.next_run, base.next_job)
        self._start_from(base)
        for place, item in enumerate(items(), 1):
            if isinstance(item, Lost):
                self.last_loss = place
                self._behind += item.bytes // _BYTES_A_RUN if item.bytes else _IDS_A_SEGMENT
            else:
                self._take(place, item)
        self.archived = {n for n in self.archived if base.runs.get(n) is None}

    @property
    def next_run(self) -> int:
        """An id that no run can have had."""
        known = max(self._base[0], max(self.runs, default=0) + 1)
        if self.last_loss <= self._last_queued:
            return known
        return -(-(known + self._behind) // _IDS_AT_LEAST + 1) * _IDS_AT_LEAST + 1

    @property
    def next_job(self) -> int:
        """An id that no job can have had."""
        known = max([*self.jobs, *(run.job for run in self.runs.values())], default=0) + 1
        known = max(known, self._base[1])
        return known + (_IDS_AT_LEAST if self.last_loss else 0)

    def missing(self) -> list[tuple[int, int]]:
        """The ids of runs of which there is nothing at all, as ranges, both ends inclusive."""
        # what was there before and is no more was let go of by the rules of the history
        found, last = [], self._base[0] - 1
        for number in sorted(number for number in self.runs if number > last):
            if number > last + 1:
                found.append((last + 1, number - 1))
            last = number
        return found

    def _start_from(self, base: State) -> None:
        self.host.rev = base.host.rev
        for job in base.jobs_by_id.values():
            mine = self.jobs[job.id] = JobRemains()
            mine.rev = job.rev
            mine.specs = {n: (job.name, to_mapping(spec)) for n, spec in job.revisions.items()}
        for run in base.runs.oldest_first():
            known = self.runs[run.id] = RunRemains()
            known.rev, known.state = run.rev, run.state
            known.settled = run.state is RunState.DONE
            known.job, known.revision = run.job.id, run.revision
            known.attempts = len(run.attempts or ())
            known.after = sorted(run.parents or ())
            known.freed = not run.parents
            if run.body is not None:
                known.body = [run.body.name, run.body.size, run.body.crc]
            if isinstance(run.note, e.RunFinished):
                known.outcome = run.note.outcome

    def _thing(self, kind: int, id_: int) -> Thing:
        if kind == e.RUN:
            return self.runs.setdefault(id_, RunRemains())
        return self.jobs.setdefault(id_, JobRemains()) if kind == e.JOB else self.host

    def _take(self, place: int, item: Seen) -> None:
        thing = self._thing(item.kind, item.id)
        if item.revision <= thing.rev:
            self.twice.add(place)
            return
        lost = item.revision - thing.rev - 1
        thing.holes += lost
        if not item.sure:
            word = e.BY_TYPE[item.type].__name__ if item.type in e.BY_TYPE else "of a new kind"
            how = "is damaged" if item.event is None else "had a bit flipped"
            thing.named.append(f"change {item.revision} ({word}) {how}")
        thing.rev, thing.last = item.revision, place
        if isinstance(item.event, e.HostRunsArchived) and item.sure:
            for first, last in item.event.ranges:
                self.archived.update(range(first, last + 1))
        if isinstance(thing, RunRemains):
            thing.attempts += -(-lost // _RECORDS_AN_ATTEMPT)
            self._follow_run(thing, item, place)
        elif isinstance(thing, JobRemains) and item.event is not None:
            self._follow_job(item.id, thing, item.event)

    def _follow_run(self, run: RunRemains, item: Seen, place: int) -> None:
        event = item.event
        if event is None:
            run.attempts += e.BY_TYPE.get(item.type) is e.AttemptClaimed
            return
        kind = type(event)
        run.state = RUN.get((run.state, kind), run.state)
        if isinstance(event, e.RunQueued):
            run.job, run.revision = event.job, event.revision
            self.jobs.setdefault(event.job, JobRemains()).pinned.add(event.revision)
            run.body = event.payload if isinstance(event.payload, list) else None
            run.after = [number for number, _ in (event.options or {}).get("after", ())]
            self._last_queued = place if item.sure else self._last_queued
        elif isinstance(
            event, e.AttemptClaimed | e.AttemptStarted | e.AttemptStopping | e.AttemptEnded
        ):
            run.attempts = event.number
        elif isinstance(event, e.RunFinished):
            run.outcome = event.outcome
        run.freed |= kind in (e.AttemptClaimed, e.RunMovedFirst)

    def _follow_job(self, id_: int, job: JobRemains, event: e.Event) -> None:
        if isinstance(event, e.JobRegistered):
            job.specs[event.revision] = (event.name, event.spec)
        elif isinstance(event, e.JobRunsCancelled):
            last = max(self.runs, default=0)
            for first, stop in event.ranges:
                for number in range(first, min(stop, last) + 1):
                    run = self.runs.get(number)
                    if run is None or run.job != id_ or run.state not in _IDLE:
                        continue
                    # it may have been claimed in what is lost: then it was not meant
                    if run.last >= self.last_loss:
                        run.state = RunState.DONE

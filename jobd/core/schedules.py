"""All schedules as the state holds them: where each stands, and which is due. Pure.

A schedule's cursor is the last nominal time that was dealt with. It moves in the same batch as the
runs that it makes, and never back: nothing fires twice, whatever the clock does (DURABILITY,
"Scheduling under clock faults", rules 1 and 3).
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from jobd.core.entities import Job
from jobd.core.model import Now
from jobd.core.schedule import ScheduleSpec
from jobd.cron.firing import Firing, Timing

#: a clock that is so far behind what is on disk is plainly wrong (rule 5), in milliseconds
WRONG_BY = 86_400_000
#: schedules that are looked at in one pass: each may take a tenth of a millisecond, and requests
#: are not to wait for all of them
_PLANNED = 20


class Schedule:
    """One schedule of a job. `spec` says when, the rest where it stands."""

    __slots__ = (
        "_timing",
        "added_at",
        "ahead",
        "caller",
        "cursor",
        "fired",
        "following",
        "from_file",
        "ghost",
        "job",
        "last_at",
        "last_run",
        "mark",
        "missed",
        "next",
        "paused",
        "refused",
        "spec",
        "unplanned",
    )

    def __init__(
        self, job: Job, spec: ScheduleSpec, at: int, caller: list[Any], file: bool
    ) -> None:
        self.job = job
        self.spec = spec
        self.added_at = at
        self.caller = caller
        #: whether it stands in the job's own definition
        self.from_file = file
        self.cursor = max(at, (spec.start or 0) - 1)
        self.paused = False
        #: how often it has fired, and how many times were missed in all
        self.fired = 0
        self.missed = 0
        self.last_at: int | None = None
        self.last_run: int | None = None
        #: why its last firing made no run
        self.refused = ""
        #: the boot of the host that it last fired for
        self.mark = ""
        #: when it fires next, and what follows that; None where not looked at, or never. Looked
        #: at ahead of time: a thousand that fire together have 50 ms in all
        self.next: Firing | None = None
        self.following: Firing | None = None
        #: whether `following` is known; whether it stands among those to be looked at
        self.ahead = False
        self.unplanned = False
        self.ghost = False
        self._timing: Timing | None = None

    @property
    def key(self) -> tuple[int, str]:
        """The id of its job, and its name."""
        return self.job.id, self.spec.name

    @property
    def seed(self) -> str:
        """What `H` and jitter are drawn from."""
        return f"{self.job.name}/{self.spec.name}"

    @property
    def timing(self) -> Timing | None:
        """When it fires by the clock, or None."""
        if self._timing is None:
            self._timing = self.spec.timing(self.seed, self.added_at)
        return self._timing

    @property
    def jitter(self) -> int:
        """By how much each firing is put off, in milliseconds: the same for ever."""
        if not self.spec.jitter:
            return 0
        return zlib.crc32(self.seed.encode()) % self.spec.jitter

    def after(self, cursor: int) -> Firing | None:
        """Its first firing behind `cursor`; None where there is none, or no more."""
        if self.timing is None or (self.spec.times or self.fired + 1) <= self.fired:
            return None
        firing = self.timing.after(cursor)
        if firing is None or (self.spec.end is not None and firing.at > self.spec.end):
            return None
        return firing


class Schedules:
    """The schedules of all jobs, and the order in which they come due."""

    def __init__(self) -> None:
        self._all: dict[tuple[int, str], Schedule] = {}
        #: the same by job and name: a job's are asked for with each registration and snapshot
        self._by_job: dict[int, dict[str, Schedule]] = {}
        self._heap: list[tuple[int, int, Schedule]] = []
        self._unplanned: deque[Schedule] = deque()
        #: those of which what follows the next firing is not known
        self._behind: deque[Schedule] = deque()
        self._count = 0
        #: the newest moment that is on disk
        self.newest = 0

    def __len__(self) -> int:
        return len(self._all)

    def get(self, job: int, name: str) -> Schedule | None:
        """A schedule, or None."""
        return self._all.get((job, name))

    def of(self, job: Job) -> list[Schedule]:
        """Those of a job, by name."""
        return sorted(self._by_job.get(job.id, {}).values(), key=lambda s: s.spec.name)

    def every(self) -> Iterator[Schedule]:
        """All of them."""
        return iter(self._all.values())

    # -- changes ---------------------------------------------------------------------------

    def sync(self, job: Job, specs: tuple[ScheduleSpec, ...], at: int, caller: list[Any]) -> None:
        """Make those of the job's definition what a new revision says.

        One whose times are the same stands where it stood.
        """
        names = {spec.name for spec in specs}
        for old in self.of(job):
            if old.from_file and old.spec.name not in names:
                self.remove(job.id, old.spec.name)
        for spec in specs:
            self.add(job, spec, at, caller, file=True)

    def add(
        self, job: Job, spec: ScheduleSpec, at: int, caller: list[Any], *, file: bool = False
    ) -> None:
        """Add a schedule, or put it in the place of the one of that name."""
        self.newest = max(self.newest, at)
        old = self._all.get((job.id, spec.name))
        if old is not None and old.spec == spec:
            old.from_file = file
            return
        made = Schedule(job, spec, at, caller, file)
        if old is not None:
            old.ghost = True
            made.paused, made.last_at, made.last_run = old.paused, old.last_at, old.last_run
            made.missed, made.mark = old.missed, old.mark
        self._put(made)

    def restore(self, schedule: Schedule) -> None:
        """Take in one that is known to stand so."""
        self._put(schedule)

    def _put(self, schedule: Schedule) -> None:
        self._all[schedule.key] = schedule
        self._by_job.setdefault(schedule.job.id, {})[schedule.spec.name] = schedule
        self._look_at(schedule)

    def remove(self, job: int, name: str) -> None:
        """Take a schedule out."""
        found = self._all.pop((job, name), None)
        if found is not None:
            found.ghost = True
            of_job = self._by_job[job]
            del of_job[name]
            if not of_job:
                del self._by_job[job]

    def drop(self, job: Job) -> None:
        """The job is gone, and so are its schedules."""
        for each in self.of(job):
            self.remove(job.id, each.spec.name)

    def moved(self, schedule: Schedule, cursor: int, at: int) -> None:
        """Its cursor was moved, or it may fire again."""
        schedule.cursor = max(schedule.cursor, cursor)
        self.newest = max(self.newest, at)
        fired, times = schedule.next, schedule.spec.times
        known = schedule.ahead and fired is not None and fired.at == schedule.cursor == cursor
        schedule.next = None
        schedule.ahead = False
        if not known:
            self._look_at(schedule)
        elif schedule.following is not None and (times is None or schedule.fired < times):
            self._set(schedule, schedule.following)

    def _look_at(self, schedule: Schedule) -> None:
        """Have it looked at; once, however often it is asked for: a replay does so each firing."""
        if not schedule.unplanned:
            schedule.unplanned = True
            self._unplanned.append(schedule)

    def _set(self, schedule: Schedule, firing: Firing) -> None:
        schedule.next = firing
        self._push(firing.at + schedule.jitter, schedule)
        self._behind.append(schedule)

    # -- time ------------------------------------------------------------------------------

    def due(self, now: Now) -> list[Schedule]:
        """Those whose time has come, the earliest first."""
        self._plan()
        if self.is_wrong(now):
            return []
        found: list[Schedule] = []
        while self._heap and self._heap[0][0] <= now.wall:
            _, _, schedule = heapq.heappop(self._heap)
            if not schedule.ghost and not schedule.paused and schedule.next is not None:
                found.append(schedule)
        return found

    def again(self, schedule: Schedule, at: int) -> None:
        """Look at it again at `at` (ms UTC), as it could not fire now."""
        self._push(at, schedule)

    def is_wrong(self, now: Now) -> bool:
        """Whether the clock is so far behind what is on disk that nothing may fire by it."""
        return now.wall < self.newest - WRONG_BY

    def wait_ms(self, now: Now) -> int | None:
        """How long none comes due, in milliseconds; None: there is none."""
        if self._unplanned or self._behind:
            return 0
        if not self._heap or self.is_wrong(now):
            return None
        return max(0, self._heap[0][0] - now.wall)

    def _plan(self) -> None:
        for _ in range(min(len(self._unplanned), _PLANNED)):
            schedule = self._unplanned.popleft()
            schedule.unplanned = False
            if schedule.ghost or schedule.next is not None:
                continue
            firing = schedule.after(schedule.cursor)
            if firing is not None:
                self._set(schedule, firing)
        if self._unplanned:
            return
        for _ in range(min(len(self._behind), _PLANNED)):
            schedule = self._behind.popleft()
            if schedule.next is not None and not schedule.ahead and not schedule.ghost:
                schedule.following = schedule.after(schedule.next.at)
                schedule.ahead = True

    def _push(self, at: int, schedule: Schedule) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, schedule))

"""What the next hours will bring: schedules and what waits, played through against the capacity.

One future, in which attempts take as long as the last ones of their job did. Told are schedules
whose runs will not start when they should, how much will wait, and what clock changes do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobd.core import events as e
from jobd.core.commands import ScheduleDue
from jobd.core.copying import copy, some_waiting
from jobd.core.decision import Decision
from jobd.core.dispatch import Admission
from jobd.core.entities import Run
from jobd.core.limits import Pace
from jobd.core.model import Now, Reason
from jobd.core.policy import Rules
from jobd.core.schedules import Schedule
from jobd.core.state import State
from jobd.core.states import Outcome
from jobd.cron import zones
from jobd.cron.firing import Cron, warnings
from jobd.forecast.future import Future
from jobd.forecast.pasts import pasts_of_all
from jobd.forecast.prospect import View

#: waiting runs that are taken along, and attempts that are started, at most
MOST_WAITING, MOST_STARTS = 5_000, 20_000
_HOUR = 3_600_000
#: a run that starts no later than this after its time has not been late, in milliseconds
_ON_TIME = 1_000
#: jobs that are named as being in the way, and moments between two rests
_BESIDE, _TURNS = 3, 50


@dataclass(slots=True)
class Collision:
    """What becomes of one schedule's firings; `late` of its runs waited, longest from `at` on."""

    job: int
    name: str
    fires: int = 0
    skipped: int = 0
    refused: int = 0
    late: int = 0
    longest: int = 0
    at: int = 0
    reason: Reason | None = None
    beside: list[int] = field(default_factory=list)

    def takes_harm(self) -> bool:
        """Whether there is anything to be told of it."""
        return bool(self.late or self.skipped or self.refused)


@dataclass(slots=True)
class Hour:
    """One hour: starts, the most that waited and were active, and what was reserved on average."""

    at: int
    started: int = 0
    waiting: int = 0
    active: int = 0
    cpus: float = 0.0
    memory: float = 0.0


@dataclass(slots=True)
class Outlook:
    """All of it, by the ids of jobs. Times are ms UTC; `until` is as far as was looked."""

    at: int
    until: int = 0
    complete: bool = True
    queued: int = 0
    started: int = 0
    waiting: int = 0
    peak: int = 0
    peak_at: int = 0
    hours: list[Hour] = field(default_factory=list)
    collisions: list[Collision] = field(default_factory=list)
    #: job and schedule (both empty: the zone's clocks), and what happens
    clock: list[tuple[int, str, str]] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    left_out: int = 0


def view(
    state: State, admission: Admission, pace: Pace, rules: Rules, now: Now, cards: int = 0
) -> tuple[View, int]:
    """The state as it is now with its schedules, and how many waiting runs were left out of it."""
    chosen = some_waiting(state, MOST_WAITING)
    known = pasts_of_all(state, now.wall)
    made = copy(state, chosen, schedules=True)
    left = state.waiting - len(chosen)
    return View(made, known, admission, pace, rules, now, cards), left


def outlook(seen: View, left_out: int, ms: int, rest: Callable[[], None] = lambda: None) -> Outlook:
    """What the next `ms` milliseconds will bring. It changes what is `seen`, which is used up."""
    watch = _Watch(seen, ms, rest)
    watch.go()
    found = watch.found
    found.left_out = left_out
    found.clock = list(_clock_changes(seen.state, seen.now.wall, seen.now.wall + ms))
    used = {run.job.id for run in seen.state.runs.oldest_first() if run.attempts}
    found.unknown = sorted(job for job in used if job in watch.unknown)
    return found


class _Watch:
    """Goes through one future and takes notes."""

    def __init__(self, seen: View, ms: int, rest: Callable[[], None]) -> None:
        self._ms = ms
        self._rest = rest
        self._turns = 0
        usual = {job: past.usual() for job, past in seen.pasts.items()}
        self.unknown = {job for job, past in seen.pasts.items() if not past.lengths}
        self._future = Future(
            *(seen.state, usual, seen.admission, seen.pace, seen.rules, seen.now),
            *(Random(0), seen.cards),
        )
        self._future.on_fire = self._fired
        self._future.on_start = self._started
        self._future.on_turn = self._turned
        at = seen.now.wall
        self.found = Outlook(at, hours=[Hour(at + n * _HOUR) for n in range(-(-ms // _HOUR))])
        self._of: dict[tuple[int, str], Collision] = {}
        #: runs of schedules that have not started: their schedule, why not, beside whom
        self._open: dict[int, tuple[Collision, Reason | None, list[int]]] = {}
        self._new: list[tuple[int, Collision]] = []
        self._last = at

    def go(self) -> None:
        """To the end, or as far as it is worth."""
        end = self.found.at + self._ms
        self._future.go(end, MOST_STARTS)
        whole = self._future.started < MOST_STARTS
        # where nothing more happens, that holds to the end
        self.found.until = end if whole else self._future.now.wall
        self._spent(self.found.until)
        for run, (one, reason, beside) in self._open.items():
            self._late(one, self._future.state.run(run), self.found.until, reason, beside)
        found, state = self.found, self._future.state
        found.complete, found.started, found.waiting = whole, self._future.started, state.waiting
        found.hours = [hour for hour in found.hours if hour.at < found.until]
        for hour in found.hours:
            span = min(hour.at + _HOUR, found.until) - hour.at
            hour.cpus, hour.memory = hour.cpus / span, hour.memory / span
        harmed = [one for one in self._of.values() if one.takes_harm()]
        found.collisions = sorted(harmed, key=lambda one: -one.longest)

    def _fired(self, due: ScheduleDue, made: Decision | None) -> None:
        one = self._of.setdefault((due.job, due.name), Collision(due.job, due.name))
        one.fires += 1
        if made is None:
            one.refused += 1
            return
        for event in made.events:
            if isinstance(event, e.RunQueued):
                self.found.queued += 1
                self._new.append((event.run, one))
            elif isinstance(event, e.RunFinished) and event.outcome == Outcome.SKIPPED:
                one.skipped += 1
            elif isinstance(event, e.ScheduleFired) and event.refused:
                one.refused += 1

    def _started(self, run: Run) -> None:
        hour = self._hour(self._future.now.wall)
        if hour is not None:
            hour.started += 1
        noted = self._open.pop(run.id, None)
        if noted is not None and len(run.attempts or ()) == 1:
            self._late(noted[0], run, self._future.now.wall, *noted[1:])

    def _late(
        self, one: Collision, run: Run, at: int, reason: Reason | None, beside: list[int]
    ) -> None:
        wait = at - run.queued_at
        if wait <= _ON_TIME:
            return
        one.late += 1
        if wait > one.longest:
            one.longest, one.at, one.reason, one.beside = wait, run.queued_at, reason, beside

    def _turned(self) -> None:
        state = self._future.state
        for number, one in self._new:
            run = state.runs.get(number)
            if run is not None and not run.attempts and run.note is None:
                jobs = dict.fromkeys(active.job.id for active in state.active.values())
                self._open[number] = (one, _why(state, run), list(jobs)[:_BESIDE])
        self._new.clear()
        self._spent(self._future.now.wall)
        hour = self._hour(self._future.now.wall)
        if hour is not None:
            hour.waiting = max(hour.waiting, state.waiting)
            hour.active = max(hour.active, len(state.active))
        if state.waiting > self.found.peak:
            self.found.peak, self.found.peak_at = state.waiting, self._future.now.wall
        self._turns += 1
        if self._turns % _TURNS == 0:
            self._rest()

    def _spent(self, until: int) -> None:
        """Add what has been reserved since the last moment (which was as it is now, up to here)."""
        held = self._held
        while self._last < until:
            hour = self._hour(self._last)
            if hour is None:
                break
            step = min(until, hour.at + _HOUR) - self._last
            hour.cpus += held[0] * step
            hour.memory += held[1] * step
            hour.waiting, hour.active = max(hour.waiting, held[2]), max(hour.active, held[3])
            self._last += step
        self._last = max(self._last, until)
        state = self._future.state
        reserved = state.reserved
        self._held = reserved.cpus, reserved.memory, state.waiting, len(state.active)

    _held: tuple[float, int, int, int] = (0.0, 0, 0, 0)

    def _hour(self, at: int) -> Hour | None:
        index = (at - self.found.at) // _HOUR
        return self.found.hours[index] if index < len(self.found.hours) else None


def _why(state: State, run: Run) -> Reason | None:
    if state.host.drained_at is not None:
        return Reason("draining", "the host is drained")
    return run.job.reason


def _clock_changes(state: State, at: int, until: int) -> Any:
    """What changes of the clocks do to schedules, and those of their zones."""
    found: dict[str, int] = {}
    for schedule in sorted(state.schedules.every(), key=lambda each: each.seed):
        timing = schedule.timing
        if schedule.paused or not isinstance(timing, Cron):
            continue
        changed = zones.change(timing.zone, at // 1000, until // 1000)
        if changed is None:
            continue
        found.setdefault(schedule.spec.timezone, changed)
        for text in _affected(schedule, at, until):
            yield schedule.job.id, schedule.spec.name, text
    for name, changed in found.items():
        zone = zones.find(name)
        before, after = zones.wall(zone, changed - 1), zones.wall(zone, changed)
        way = "forward" if after > before else "back"
        yield 0, "", f"{name}: clocks go {way} on {after:%Y-%m-%d}, to {after:%H:%M}"


def _affected(schedule: Schedule, at: int, until: int) -> Collection[str]:
    return warnings(schedule.timing, at, until) if schedule.timing is not None else ()

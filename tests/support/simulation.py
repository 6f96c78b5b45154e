"""A whole life of the core in a made-up world, from one seed; invariants are checked at each step.

The world is a host with an engine that starts attempts late, refuses, loses and interrupts them,
tells things twice and in the wrong order; people who queue, cancel, hold and pause; a clock that
is set; and a daemon that is killed in the middle of a pass, whose unsynced events are then gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from jobd.capacity.ledger import Ledger, Sample
from jobd.core import events as e
from jobd.core.commands import (
    CancelRun,
    CancelRuns,
    Command,
    DrainHost,
    HoldRun,
    PauseJob,
    QueueRun,
    RegisterJob,
    ReleaseRun,
    SetGroups,
    UnregisterJob,
)
from jobd.core.dispatch import picks
from jobd.core.entities import Run
from jobd.core.model import Now, Reason
from jobd.core.states import AttemptState, Kind, RunState
from jobd.core.status import reason
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from tests.support.core import START, SYSTEM, Bench, dump, live, problems
from tests.support.simasks import JOBS, change, definition, submission
from tests.support.simlimits import HOST, JUMPS, MIB, Starts
from tests.support.simworld import World


class Broken(AssertionError):
    """An invariant does not hold."""


class Life(Bench):
    """One life. `step` does one thing and takes a pass; `settle` lets everything end."""

    def __init__(self, seed: int) -> None:
        super().__init__(now=START)
        self.rng = Random(seed)
        self.world = World(self.rng)
        self.ledger = Ledger(HOST)
        self.ledger.engines = dict.fromkeys(Kind)
        #: what is on disk: the events of whole passes
        self.synced = 0
        #: what is told once the pass is on disk
        self.promises: list[Callable[[], object]] = []
        #: promises that were made, by run
        self.acknowledged: set[int] = set()
        self.cancelled: set[int] = set()
        self.ended: dict[int, e.RunFinished] = {}
        self.released: dict[int, int] = {}
        self.requests: list[tuple[QueueRun, list[tuple[int, bool]]]] = []
        #: monotonic moments before which a run, or by which an attempt, must not be seen
        self.not_yet: dict[int, int] = {}
        self.overdue: dict[tuple[int, int], int] = {}
        self.highest_wall = START.wall
        self.starts = Starts()
        self.revisions: dict[tuple[int, int], int] = {}
        self.do(SetGroups({"g": {"concurrency": 2}}))
        for name in JOBS:
            self.try_(RegisterJob(definition(self.rng, name)))
        self.turn()

    # -- what the core is asked ------------------------------------------------------------

    def some_run(self) -> int:
        """A run's id, often of an active one or a late one; sometimes one that is not there."""
        if self.state.active and self.rng.random() < 0.5:
            return self.rng.choice(list(self.state.active))
        return max(1, self.state.next_run - int(self.rng.expovariate(0.15)))

    def try_(self, command: Command) -> Any:
        """Decide and apply; the answer, or None where it is refused (and nothing changed)."""
        try:
            return self.do(command).answer
        except (ConflictError, NotFoundError, RefusedError, InvalidError):
            return None

    def act(self) -> None:
        """One thing happens."""
        rng = self.rng
        match rng.randrange(16):
            case 0 | 1 | 2 | 3 | 4:
                self.queue_some()
            case 5:
                self.change_by(CancelRun(self.some_run()))
            case 6:
                self.try_(HoldRun(self.some_run()))
            case 7:
                self.release(self.some_run())
            case 8:
                self.try_(PauseJob(rng.choice(JOBS), rng.random() < 0.4))
            case 9:
                if rng.random() < 0.3:
                    self.try_(UnregisterJob(rng.choice(JOBS)))
                self.try_(RegisterJob(definition(rng, rng.choice(JOBS))))
            case 10:
                self.set_clock(rng.choice(JUMPS))
                self.starts.clear()
                self.state.dirty = True  # as the host's sampler does within seconds
            case 11:
                self.open_or_close()
            case 12:
                self.sample()
            case 13 | 14:
                self.change()

    def queue_some(self) -> None:
        """Queue something new, or ask again with a request that was answered."""
        if self.requests and self.rng.random() < 0.2:
            command, answer = self.rng.choice(self.requests)
            again = self.do(command)
            if again.events or again.answer[0] != answer:
                raise Broken(f"asked again with its key, a request answers {again}, not {answer}")
            return
        command = submission(self.rng, self.now.wall, self.state.next_run - 1)
        answer = self.try_(command)
        if answer is not None:
            runs = answer[0]
            self.promise(lambda: self.acknowledged.update(run for run, _ in runs))
            if not any(existing for _, existing in runs):
                self.promise(lambda: self.requests.append((command, runs)))

    def change(self) -> None:
        """Somebody changes something that is there."""
        some = [self.some_run(), *range(max(1, self.state.next_run - 30), self.state.next_run)]
        self.change_by(change(self.rng, some, self.now.wall))

    def change_by(self, command: Command) -> None:
        """Decide and apply, or nothing where it is refused; what was cancelled stays so."""
        try:
            self.do(command)
        except (ConflictError, NotFoundError, RefusedError, InvalidError):
            return
        if isinstance(command, CancelRun | CancelRuns):
            runs = [command.run] if isinstance(command, CancelRun) else command.runs
            self.promise(lambda: self.cancelled.update(set(runs) - set(self.ended)))

    def release(self, id_: int) -> None:
        """Somebody releases a run; where its attempt was lost, that is one more than the job's."""
        run = self.state.runs.get(id_)
        if run is not None and run.note is not None and run.note.code == "lost":
            self.released[id_] = self.released.get(id_, 0) + 1
        self.try_(ReleaseRun(id_))

    def open_or_close(self) -> None:
        """The engine goes, or comes back."""
        gone = Reason("engine", "is not reached")
        engines = self.ledger.engines
        engines[Kind.CONTAINER] = None if engines[Kind.CONTAINER] else gone
        self.state.dirty = True

    def sample(self) -> None:
        """The host is looked at."""
        reserved = self.state.reserved_memory
        unused = self.rng.randrange(reserved + 1)
        available = HOST.memory - (reserved - unused) - self.rng.choice([0, 0, 1024 * MIB])
        self.ledger.sample = Sample(max(0, available), 50.0, unused, reserved)
        self.state.dirty = True

    # -- the loop --------------------------------------------------------------------------

    def promise(self, note: Callable[[], object]) -> None:
        """Once this pass is on disk, its answer goes out."""
        self.promises.append(note)

    def apply(self, *events: e.Event) -> None:
        """Take events in; each must carry the next revision of what it is about."""
        for event in events:
            self.look_at(event)
            revision = self.state.apply(event)
            subject = (e.KIND_OF[type(event)], event[0])
            if revision != self.revisions.get(subject, 0) + 1:
                raise Broken(f"{event} carries revision {revision} after {self.revisions}")
            self.revisions[subject] = revision
            self.timers.arm(self.state, event, self.now)
            self.events.append(event)
            self.take_times(event)

    def step(self) -> None:
        """One thing happens, time goes by, and the daemon takes a pass, or dies in it."""
        rng = self.rng
        wait = rng.choice([0, 0, 1, 50, 1_000, 7_000, 7_000 if rng.random() < 0.7 else 60_000])
        self.now = Now(self.now.wall + wait, self.now.mono + wait)
        self.highest_wall = max(self.highest_wall, self.now.wall)
        self.promises = []
        self.world.go_on(self.now)
        for report in self.world.post(self.now):
            self.do(report, SYSTEM)
        self.due()
        self.act()
        self.dispatch()
        if rng.random() < 0.03:
            self.crash(lose=rng.random() < 0.5)
        else:
            self.commit()
        self.check()

    def turn(self) -> None:
        """A pass in which nobody asks for anything."""
        self.promises = []
        self.highest_wall = max(self.highest_wall, self.now.wall)
        self.world.go_on(self.now)
        for report in self.world.post(self.now):
            self.do(report, SYSTEM)
        self.due()
        self.dispatch()
        self.commit()
        self.check()

    def dispatch(self) -> None:
        """As the loop does: only where something may have changed."""
        if self.state.dirty and self.state.waiting:
            for id_ in self.claim(self.ledger):
                self.effects.append(self.world.start_effect(self.run(id_)))

    def commit(self) -> None:
        """The pass is on disk: answers go out, effects are set going."""
        for event in self.events[self.synced :]:
            if isinstance(event, e.RunFinished):
                self.ended[event.run] = event
        self.synced = len(self.events)
        for note in self.promises:
            note()
        effects, self.effects = self.effects, []
        for effect in effects:
            self.world.perform(effect, self.now)

    def crash(self, *, lose: bool) -> None:
        """The daemon is killed: before the sync of this pass, or after it and before anything."""
        self.starts.clear()
        if lose:
            del self.events[self.synced :]
            expected = dump(live(self.events))
        else:
            self.commit_nothing_said()
            expected = dump(self.state)
        self.effects.clear()
        self.restart(mono=self.rng.randrange(1, 1 << 40))
        if dump(self.state) != expected:
            raise Broken("the state after a replay is not the one that was")
        self.revisions = {
            **{(e.JOB, job.id): job.rev for job in self.state.jobs_by_id.values()},
            **{(e.RUN, run.id): run.rev for run in self.state.runs.oldest_first()},
            (e.HOST, 1): self.state.host.rev,
        }
        self.not_yet.clear()
        self.overdue.clear()
        self.ledger.sample = None
        for report in self.world.adopt_all(self.state, self.now):
            self.world.perform(report, self.now)

    def commit_nothing_said(self) -> None:
        """On disk, and nobody was told."""
        for event in self.events[self.synced :]:
            if isinstance(event, e.RunFinished):
                self.ended[event.run] = event
        self.synced = len(self.events)

    # -- what must hold --------------------------------------------------------------------

    def look_at(self, event: e.Event) -> None:
        """What must hold before an event is applied."""
        if isinstance(event, e.AttemptClaimed):
            self.look_at_claim(self.run(event.run))
        elif isinstance(event, e.RunQueued) and event.run in self.acknowledged:
            raise Broken(f"run {event.run}: its id is given out again")
        elif isinstance(event, e.RunFinished) and event.run in self.ended:
            raise Broken(f"run {event.run}: ends a second time")

    def look_at_claim(self, run: Run) -> None:
        """What must hold before an attempt is claimed."""
        job = run.job
        not_before = run.option("not_before") or 0
        broken = {
            "starts again after its end": run.id in self.ended,
            "starts though it was cancelled": run.id in self.cancelled,
            "starts while its job is paused": job.paused,
            "starts while the engine is gone": self.ledger.closed(run.spec.kind) is not None,
            "starts while the host is drained": self.state.host.drained_at is not None,
            "starts before its parents": bool(run.parents),
            "starts before its date": not run.attempts and not_before > self.highest_wall,
            "starts before its wait is over": self.not_yet.get(run.id, 0) > self.now.mono,
        }
        for what, is_so in broken.items():
            if is_so:
                raise Broken(f"run {run.id}: {what}")
        for what in self.starts.broken(self.state, run, self.now):
            raise Broken(f"run {run.id}: {what}")

    def take_times(self, event: e.Event) -> None:
        """Note from when on a run may, and by when an attempt must not be, by the other clock."""
        mono = self.now.mono
        if isinstance(event, e.RunRequeued):
            self.not_yet[event.run] = mono + event.delay
        elif isinstance(event, e.RunEdited) and "not_before" in event.changes:
            self.not_yet.pop(event.run, None)
        elif isinstance(event, e.AttemptStarted):
            self.overdue[event.run, event.number] = mono + self.run(event.run).timeout
        elif isinstance(event, e.AttemptEnded | e.AttemptStopping):
            self.overdue.pop((event.run, event.number), None)

    def check(self) -> None:
        """What must hold between two passes."""
        for problem in self.problems():
            raise Broken(problem)

    def problems(self) -> Iterator[str]:
        """What does not hold."""
        state, mono, runs = self.state, self.now.mono, list(self.state.runs.oldest_first())
        yield from problems(state)
        if state.reserved_millicpus > HOST.cpus * 1000 or state.reserved_memory > HOST.memory:
            yield f"reserved {state.reserved_millicpus, state.reserved_memory} of {HOST}"
        for id_ in self.acknowledged:
            if state.runs.get(id_) is None:
                yield f"run {id_}: was acknowledged, and is not there"
        for id_, end in self.ended.items():
            run = self.run(id_)
            if run.state is not RunState.DONE or run.note is None or list(run.note) != list(end):
                yield f"run {id_}: ended as {end}, is {run.state!r} with {run.note}"
        for id_ in self.cancelled:
            if self.run(id_).state not in (RunState.ACTIVE, RunState.DONE):
                yield f"run {id_}: was cancelled, is {self.run(id_).state!r}"
        for run in runs:
            if run.charged > run.spec.retry.attempts + self.released.get(run.id, 0):
                yield f"run {run.id}: {run.charged} charged of {run.spec.retry.attempts} attempts"
        for (id_, number), moment in self.overdue.items():
            attempt = self.run(id_).attempt
            if attempt and attempt.state is AttemptState.RUNNING and moment <= mono:
                yield f"run {id_}: attempt {number} runs {mono - moment} ms beyond its time"
        yield from self.forgotten(runs)

    def forgotten(self, runs: list[Run]) -> Iterator[str]:
        """A run that could start and is not looked at."""
        state, now = self.state, self.now
        if state.dirty or self.rng.random() < 0.5:
            return
        run = next(picks(state, self.ledger, now), None)
        if run is not None:
            yield f"run {run.id}: could start, and nothing says that it is to be looked at"

    # -- the end of it ---------------------------------------------------------------------

    def settle(self, turns: int = 3_000) -> None:
        """In a willing world every run ends."""
        self.world.willing = True
        self.ledger.engines, self.ledger.sample = dict.fromkeys(Kind), None
        self.state.dirty = True
        self.try_(DrainHost(False))
        self.do(SetGroups({"g": {}}))
        for name in JOBS:
            self.try_(PauseJob(name, False))
        for _ in range(turns):
            self.promises = []
            for run in list(self.state.runs.oldest_first()):
                if run.state is RunState.HELD:
                    self.release(run.id)
            self.turn()
            if all(run.state is RunState.DONE for run in self.state.runs.oldest_first()):
                break
            self.pass_time()
        else:
            left = [
                (run.id, run.state, reason(run, self.now, None, self.state))
                for run in self.state.live_runs()
            ]
            raise Broken(f"runs {left} never end, though nothing is in their way")
        self.look_at_the_end()

    def pass_time(self) -> None:
        """Sleep until something comes due, a second at most where an attempt is at work."""
        wait = self.timers.wait_ms(self.now, self.state.look_at)
        if self.state.active or wait is None:
            wait = min(wait or 1_000, 1_000)
        wait = max(1, wait)
        self.now = Now(self.now.wall + wait, self.now.mono + wait)

    def look_at_the_end(self) -> None:
        """What must hold when nothing is left to do."""
        state = self.state
        if state.active or state.reserved_millicpus or state.reserved_memory or state.waiting:
            raise Broken("all has ended, and something is still reserved or counted")
        left = self.world.left()
        if left:
            raise Broken(f"all has ended, and the engine still has {left}")
        self.restart()
        if dump(self.state) != dump(live(self.events)):
            raise Broken("the state after the last replay is not the one that was")

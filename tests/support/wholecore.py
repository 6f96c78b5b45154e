"""The daemon's own core loop, queue and snapshots in a made-up world, from one seed.

Core loop, journal, recovery and snapshots are the real ones; simulated are the disk
(:mod:`tests.support.sim_disk`), the clock, the engine and the people. The power goes at any
operation of the disk, the process is killed, a sync fails, the disk is full for a while: what was
answered must be there afterwards, and the state that of a moment between two decisions.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random
from typing import Any

from jobd.capacity.ledger import Ledger
from jobd.core.commands import AddSchedule, CancelRun, Command, QueueRun, RegisterJob
from jobd.core.effects import Effect
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import Kind, RunState
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.snapshotter import make
from jobd.errors import DiskFailedError, JobdError, RefusedError
from jobd.journal import Journal
from jobd.journal.retention import unfinished_name
from jobd.server.health import Pulse
from tests.support.core import ANN, START, dump, problems
from tests.support.sim_disk import PowerCut, SimDisk
from tests.support.simasks import JOBS, change, definition, submission
from tests.support.simlimits import HOST
from tests.support.simworld import World

Q = "/q"
#: ways of setting the wall's clock, in milliseconds: not by days, as requests are then forgotten
JUMPS = (-3_600_000, -5_000, 5_000, 3_600_000)
#: room that is asked for before a submission, as the server does
ROOM = 4096


def durable(state: State) -> dict[str, Any]:
    """All of a state that must outlive a death; that requests are known is seen by asking again."""
    found = dump(state)
    del found["requests"]
    return found


class Broken(AssertionError):
    """Something that was promised does not hold."""


class WholeLife:
    """One life. `step` does one thing and takes a pass, in which all may end; `settle` ends it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.disk = SimDisk()
        self.now = START
        self.world = World(self.rng)
        self.starts = 0
        #: what is told at the end of the pass under way; what was told
        self._promises: list[Callable[[], object]] = []
        self.acknowledged: set[int] = set()
        self.cancelled: set[int] = set()
        self.ended: dict[int, Any] = {}
        self.requests: list[tuple[QueueRun, list[int]]] = []
        self.unanswered: list[QueueRun] = []
        self.deaths: dict[str, int] = {}
        self._known: list[Any] = []
        self.start()
        for name in JOBS:
            self.ask(RegisterJob(definition(self.rng, name)))
        self.ask(AddSchedule("a", {"every": "7s", "name": "ticks"}))
        self.turn()

    # -- the daemon ------------------------------------------------------------------------

    def start(self) -> None:
        """Open, replay, adopt; what is on disk is what was promised, and a moment of this life."""
        self.journal = Journal.open(
            Q,
            fs=self.disk,
            segment_bytes=24 << 10,
            reserve_bytes=8 << 10,
            clock_ms=lambda: self.now.wall,
            known_types=KNOWN_TYPES,
        )
        state = fold(self.journal.replay())
        ledger = Ledger(HOST)
        ledger.engines = dict.fromkeys(Kind)
        self.loop = CoreLoop(
            self.journal, state, ledger, Rules(), Pulse(""), clock=lambda: self.now
        )
        self.loop.performer = self
        self.starts += 1
        if self._known:
            found = durable(state)
            if found not in self._known:
                raise Broken("the state after a start is that of no moment")
        self._known = [durable(state)]
        for effect in self.world.adopt_all(state, self.now):
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        """As the daemon's performer: only what is on disk comes here."""
        if self.loop._records:
            raise Broken(f"{effect} is set going before the batch that says so is on disk")
        self.world.perform(effect, self.now)

    def die(self, how: str, mode: str = "kept") -> None:
        """The process is gone, or the machine; then the daemon is started anew.

        A pass that was under way may be on disk, whole, or not at all.
        """
        self.deaths[how] = self.deaths.get(how, 0) + 1
        self._known.append(durable(self.loop.state))
        self._promises.clear()
        os.close(self.loop._wake)
        if how == "power":
            self.disk = self.disk.after_cut(mode, self.rng.randrange(1 << 30))
        else:
            self.disk.exit_process()
        self.disk.capacity = 1 << 40
        mono = self.rng.randrange(1, 1 << 40)
        self.now = Now(self.now.wall + self.rng.randrange(30_000), mono)
        # the power may go again while the daemon reads what is left
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            self.disk.cut_at = self.disk.ops + self.rng.randrange(1, 12)
            try:
                Journal.open(Q, fs=self.disk, segment_bytes=24 << 10, reserve_bytes=8 << 10)
            except PowerCut:
                self.disk = self.disk.after_cut(self.rng.choice(["lost", "kept", "torn"]))
            else:
                self.disk.exit_process()
            self.disk.cut_at = -1
        self.start()
        self.check()
        # who had no answer asks again with the same key
        waiting, self.unanswered = self.unanswered, []
        for command in waiting:
            self.ask(command)
        self.turn()

    # -- what people ask -------------------------------------------------------------------

    def ask(self, command: Command, caller: Any = ANN) -> None:
        """Have it decided on in the next pass; its promise counts once that is over."""
        if isinstance(command, QueueRun):
            self.unanswered.append(command)
        self.loop.post(lambda: self._decide(command, caller))

    def _decide(self, command: Command, caller: Any) -> None:
        try:
            self.loop.room.require(ROOM)
            answer = self.loop.decide(command, caller)
        except DiskFailedError:
            raise
        except JobdError:
            self._promises.append(lambda: self._answered(command, None))
            return
        self._promises.append(lambda: self._answered(command, answer))

    def _answered(self, command: Command, answer: Any) -> None:
        if isinstance(command, QueueRun):
            self.unanswered = [one for one in self.unanswered if one is not command]
            if answer is not None:
                runs = [run for run, _ in answer[0]]
                for known, before in self.requests:
                    if known is command and before != runs:
                        raise Broken(f"asked again, a request answers {runs}, not {before}")
                if not any(existing for _, existing in answer[0]):
                    self.requests.append((command, runs))
                self.acknowledged.update(runs)
        elif isinstance(command, CancelRun) and answer is not None:
            self.cancelled.add(command.run)

    def act(self) -> None:
        """One thing happens."""
        rng, state = self.rng, self.loop.state
        run = max(1, state.next_run - int(rng.expovariate(0.15)))
        match rng.randrange(12):
            case 0 | 1 | 2 | 3:
                self.ask(submission(rng, self.now.wall, state.next_run - 1))
            case 4:
                if self.requests:
                    self.ask(rng.choice(self.requests)[0])
            case 5:
                self.ask(CancelRun(run))
            case 6:
                self.ask(change(rng, [run, run + 1, run + 2], self.now.wall))
            case 7:
                self.ask(RegisterJob(definition(rng, rng.choice(JOBS))))
            case 8:
                self.now = Now(self.now.wall + rng.choice(JUMPS), self.now.mono)
            case 9:
                self.disk.capacity = rng.choice([self.disk._used(), 1 << 40, 1 << 40])
            case _:
                pass

    # -- passes ----------------------------------------------------------------------------

    def turn(self) -> None:
        """One pass of the loop, its answers, and what the background threads do."""
        self.world.go_on(self.now)
        for report in self.world.post(self.now):
            self.loop.post(lambda report=report: self.loop.decide(report, SYSTEM))  # type: ignore[misc]
        self.loop.turn()
        promises, self._promises = self._promises, []
        self._known = [durable(self.loop.state)]
        for told in promises:
            told()
        self.note_ends()
        self.journal.spare()
        if self.rng.random() < 0.06:
            self.snapshot()

    def note_ends(self) -> None:
        """What has ended stays so."""
        for run in self.loop.state.runs.oldest_first():
            if run.state is RunState.DONE and run.id not in self.ended:
                assert run.note is not None
                self.ended[run.id] = list(run.note)

    def snapshot(self) -> None:
        """Make one, as the snapshot thread and its process do."""
        try:
            self.loop.seal()
        except RefusedError:
            return
        end, last = self.journal.sealed(), self.journal.snapshot
        if end is None or (last is not None and last.lsn >= end.last_lsn):
            return
        target = f"{Q}/{unfinished_name(end.last_lsn, 1)}"
        try:
            made = make(self.disk, Q, end.last_lsn, target, self.now.wall)
            self.journal.adopt(made)
            self.journal.retire(keep_older=self.rng.random() < 0.8)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def step(self) -> None:
        """One thing happens, time goes by, and the daemon takes a pass, or dies in it."""
        rng = self.rng
        wait = rng.choice([0, 0, 1, 50, 1_000, 7_000, 60_000])
        self.now = Now(self.now.wall + wait, self.now.mono + wait)
        self.act()
        how = rng.choices(["nothing", "power", "kill", "sync"], [92, 4, 2, 2])[0]
        at = self.disk.ops + rng.randrange(1, 9)
        if how == "power":
            self.disk.cut_at = at
        elif how == "sync":
            self.disk.fault = lambda kind, op: (
                errno.EIO if op >= at and kind.endswith("sync") else None
            )
        try:
            self.turn()
        except PowerCut:
            self.die("power", rng.choice(["lost", "kept", "torn", "torn"]))
        except (DiskFailedError, OSError):
            self.die("sync")
        except RefusedError:
            self.die("full")
        else:
            self.disk.cut_at = -1
            self.disk.fault = lambda kind, op: None
            if how == "kill":
                self.die("kill")
        self.check()

    # -- what must hold --------------------------------------------------------------------

    def check(self) -> None:
        """What must hold between two passes."""
        state = self.loop.state
        for problem in problems(state):
            raise Broken(problem)
        for id_ in self.acknowledged:
            if state.runs.get(id_) is None:
                raise Broken(f"run {id_}: was acknowledged, and is not there")
        for id_, end in self.ended.items():
            run = state.runs.get(id_)
            if run is None or run.state is not RunState.DONE or list(run.note or ()) != end:
                raise Broken(f"run {id_}: had ended as {end}, is {run and run.state!r}")
        for id_ in self.cancelled:
            run = state.runs.get(id_)
            if run is None or run.state not in (RunState.ACTIVE, RunState.DONE):
                raise Broken(f"run {id_}: was cancelled, is {run and run.state!r}")
        fired = [
            source[1]
            for run in state.runs.oldest_first()
            if (source := run.option("source")) and source[0] == "ticks"
        ]
        if len(set(fired)) != len(fired):
            raise Broken(f"a schedule fired twice for one time: {fired}")

    def close(self) -> None:
        """Let go of what is open."""
        os.close(self.loop._wake)

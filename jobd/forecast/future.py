"""What will probably happen: the core itself, on a copy of its state, with a clock that runs ahead.

Decisions, limits, order and schedules are those of the daemon, not a model of them; what is made up
is how long each attempt takes and how it ends, drawn from its job's last ones (pasts.py). What
nobody knows is left out: who will queue what, and how busy the host will be by itself. Pure, but
for chance, which a seed decides.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import count
from random import Random

from jobd.core import gpus
from jobd.core.commands import Caller, Command, ReportEnded, ReportStarted, ScheduleDue
from jobd.core.decide import decide
from jobd.core.decision import Decision
from jobd.core.dispatch import Admission, picks
from jobd.core.effects import SignalAttempt
from jobd.core.entities import Run
from jobd.core.limits import Pace
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import AttemptState
from jobd.core.timers import Timers
from jobd.errors import RefusedError
from jobd.forecast.pasts import Supposed

#: who asks for what time alone brings
_NOBODY = Caller(0, "jobd", 0)
#: a schedule that could make no run is asked again so long after, in milliseconds
_AGAIN = 60_000
_NONE = Supposed()


class Future:
    """One way in which it may go on. `state` is a copy (core/copying.py), which it changes."""

    def __init__(
        self,
        state: State,
        supposed: Mapping[int, Supposed],
        admission: Admission,
        pace: Pace,
        rules: Rules,
        now: Now,
        rng: Random,
        cards: int = 0,
    ) -> None:
        self.state = state
        self.now = now
        #: attempts that were started so far
        self.started = 0
        #: told of each start, and of what schedules make or could not make
        self.on_start: Callable[[Run], None] = lambda run: None
        self.on_fire: Callable[[ScheduleDue, Decision | None], None] = lambda due, made: None
        #: told of each moment at which something happened, when all is done that follows
        self.on_turn: Callable[[], None] = lambda: None
        self._supposed = supposed
        self._admission = admission
        self._pace = pace
        self._rules = rules
        self._rng = rng
        self._cards = cards
        self._timers = Timers()
        self._timers.arm_all(state, now)
        self._count = count()
        #: when (monotonic), who: run, attempt, exit status
        self._ends: list[tuple[int, int, int, int, int]] = []
        for run in state.active.values():
            self._plan_rest(run)
        state.dirty = True

    def go(self, until: int, most: int, enough: Callable[[], bool] = lambda: False) -> bool:
        """Go on until the wall shows `until` (ms UTC), something has started `most` times, or it is
        `enough`; False where nothing more will ever happen before that."""
        while self.started < most and not enough():
            self._turn()
            wait = self._wait()
            if wait is None:
                return False
            if self.now.wall + wait > until:
                self._move(until - self.now.wall)
                return True
            self._move(wait)
        return True

    def _move(self, ms: int) -> None:
        self.now = Now(self.now.wall + ms, self.now.mono + ms)

    def _turn(self) -> None:
        """All that is due now, and what follows from it."""
        while self._ends and self._ends[0][0] <= self.now.mono:
            _, _, run, number, status = heapq.heappop(self._ends)
            self._do(ReportEnded(run, number, status, self.now.wall))
        for over in self._timers.advance(self.state, self.now):
            self._do(over)
        for schedule in self.state.schedules.due(self.now):
            due = ScheduleDue(*schedule.key)
            try:
                self.on_fire(due, self._do(due))
            except RefusedError:
                self.on_fire(due, None)
                self.state.schedules.again(schedule, self.now.wall + _AGAIN)
        if self.state.dirty and self.state.waiting:
            self._dispatch()
        self.on_turn()

    def _dispatch(self) -> None:
        state = self.state
        for run in picks(state, self._admission, self.now, self._pace):
            state.apply(gpus.claim(state, run, self.now.wall, self._cards))
            attempt = run.attempt
            assert attempt is not None
            self._do(ReportStarted(run.id, attempt.number, "", "", self.now.wall))
            ms, status = self._supposed.get(run.job.id, _NONE).take(self._rng)
            self._plan(run, ms, status)
            self.started += 1
            self.on_start(run)

    def _plan(self, run: Run, ms: int, status: int) -> None:
        number = len(run.attempts or ())
        heapq.heappush(self._ends, (self.now.mono + ms, next(self._count), run.id, number, status))

    def _plan_rest(self, run: Run) -> None:
        attempt = run.attempt
        if attempt is None:
            return
        if attempt.state is AttemptState.STOPPING:
            self._plan(run, 0, 143)
            return
        passed = max(0, self.now.wall - attempt.claimed_at)
        self._plan(run, *self._supposed.get(run.job.id, _NONE).rest(self._rng, passed))

    def _do(self, command: Command) -> Decision:
        decision = decide(self.state, command, self.now, self._rules, _NOBODY)
        for event in decision.events:
            self.state.apply(event)
            self._timers.arm(self.state, event, self.now)
        for effect in decision.effects:
            if isinstance(effect, SignalAttempt):
                entry = (self.now.mono, next(self._count), effect.run, effect.number, 143)
                heapq.heappush(self._ends, entry)
        return decision

    def _wait(self) -> int | None:
        """Milliseconds until the next moment at which something happens; None: never."""
        waits = []
        due = self._timers.wait_ms(self.now, self.state.look_at)
        if due is not None:
            waits.append(due)
        if self._ends:
            waits.append(self._ends[0][0] - self.now.mono)
        fires = self.state.schedules.wait_ms(self.now)
        if fires is not None:
            waits.append(fires)
        return max(0, min(waits)) if waits else None

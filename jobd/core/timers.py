"""What comes due, and when. Waits and time-outs run on the monotonic clock, dates on the wall's.

So a clock that is set changes no back-off and no time-out (DURABILITY, "Scheduling under clock
faults", rule 7). After a start both are derived anew from what is on disk, clamped to their length.
Entries are not taken out when they no longer matter: they are checked when they come due.
"""

from __future__ import annotations

import heapq

from jobd.core import events as e
from jobd.core.commands import TimeOver
from jobd.core.entities import Attempt, Run
from jobd.core.model import Now
from jobd.core.state import State
from jobd.core.states import AttemptState, RunState

#: how often a stop that is not followed is repeated with SIGKILL, in milliseconds
KILL_AGAIN = 10_000

#: the events that make something come due
ARMING = frozenset(
    {
        e.RunQueued,
        e.RunRequeued,
        e.RunReleased,
        e.RunEdited,
        e.AttemptStarted,
        e.AttemptStopping,
    }
)

_Entry = tuple[int, int, int, str]


class Timers:
    """Two heaps of (when, run, attempt, what)."""

    __slots__ = ("_mono", "_wall")

    def __init__(self) -> None:
        self._mono: list[_Entry] = []
        self._wall: list[_Entry] = []

    def arm(self, state: State, event: e.Event, now: Now) -> None:
        """Set what the event (already applied) makes come due."""
        kind = type(event)
        if kind not in ARMING:
            return
        run = state.runs.get(event[0])
        if run is None:
            return
        if kind is e.AttemptStarted or kind is e.AttemptStopping:
            if run.attempt is not None:
                self._arm_attempt(run, run.attempt, now)
        elif run.due is not None or run.options or run.attempts:
            self._arm_waiting(run, now)

    def arm_all(self, state: State, now: Now) -> None:
        """Set everything anew, after a replay."""
        self._mono.clear()
        self._wall.clear()
        for run in state.runs.oldest_first():
            waits = run.state is RunState.WAITING
            if waits and (run.due is not None or run.options or run.attempts):
                self._arm_waiting(run, now)
        for run in state.active.values():
            if run.attempt is not None:
                self._arm_attempt(run, run.attempt, now)

    def _arm_waiting(self, run: Run, now: Now) -> None:
        if run.due is not None:
            last = run.attempt
            if last is None or last.end is None:
                heapq.heappush(self._wall, (run.due, run.id, 0, "due"))
            elif _dated(run):
                heapq.heappush(self._wall, (run.due, run.id, last.number, "due"))
            else:
                whole = max(0, run.due - last.end.at)
                left = min(max(0, run.due - now.wall), whole)
                heapq.heappush(self._mono, (now.mono + left, run.id, last.number, "due"))
        over = run.total_ends_at
        if over is not None and run.attempt is not None:
            left = min(max(0, over - now.wall), run.spec.total_timeout or 0)
            heapq.heappush(self._mono, (now.mono + left, run.id, run.attempt.number, "total"))
        if run.expires_at is not None and not run.attempts:
            heapq.heappush(self._wall, (run.expires_at, run.id, 0, "expires"))

    def _arm_attempt(self, run: Run, attempt: Attempt, now: Now) -> None:
        if attempt.stopping is not None:
            what, since, whole = "grace", attempt.stopping.at, run.spec.stop_grace
        elif attempt.started is not None:
            what, since, whole = "timeout", attempt.started.at, run.timeout
            over = run.total_ends_at
            if over is not None:
                whole = min(whole, max(0, over - since))
        else:
            return
        left = min(max(0, since + whole - now.wall), whole)
        heapq.heappush(self._mono, (now.mono + left, run.id, attempt.number, what))

    def advance(self, state: State, now: Now) -> list[TimeOver]:
        """Move runs whose time has come into the ready index; say what else came due."""
        over: list[TimeOver] = []
        if state.look_at is not None and state.look_at <= now.mono:
            state.look_at = None
            state.dirty = True
        for heap, moment in ((self._wall, now.wall), (self._mono, now.mono)):
            while heap and heap[0][0] <= moment:
                _, run_id, number, what = heapq.heappop(heap)
                run = state.runs.get(run_id)
                if run is None:
                    continue
                if what == "due":
                    self._come_due(state, run, number, now)
                elif what == "expires":
                    if _expired(run, now):
                        over.append(TimeOver(what, run_id, 0))
                elif what == "total":
                    if run.state is RunState.WAITING and run.attempt:
                        over.append(TimeOver(what, run_id, run.attempt.number))
                elif self._live(run, number, what):
                    over.append(TimeOver(what, run_id, number))
                    if what == "grace":
                        again = (now.mono + KILL_AGAIN, run_id, number, what)
                        heapq.heappush(self._mono, again)
        return over

    @staticmethod
    def _come_due(state: State, run: Run, number: int, now: Now) -> None:
        current = run.attempt.number if run.attempt else 0
        if run.state is not RunState.WAITING or run.due is None or current != number:
            return
        if run.due > now.wall and _dated(run):
            return  # its date was moved; another entry stands for it
        state.make_ready(run)

    @staticmethod
    def _live(run: Run, number: int, what: str) -> bool:
        attempt = run.attempt
        if run.state is not RunState.ACTIVE or attempt is None or attempt.number != number:
            return False
        wanted = AttemptState.STOPPING if what == "grace" else AttemptState.RUNNING
        return attempt.state is wanted

    def wait_ms(self, now: Now, look_at: int | None = None) -> int | None:
        """How long nothing comes due, in milliseconds; None: nothing is set.

        `look_at`: the state's, a moment (monotonic) at which its waiting runs want to be looked at.
        """
        waits = [] if look_at is None else [look_at - now.mono]
        if self._mono:
            waits.append(self._mono[0][0] - now.mono)
        if self._wall:
            waits.append(self._wall[0][0] - now.wall)
        return max(0, min(waits)) if waits else None


def _dated(run: Run) -> bool:
    """Whether a person said when it is due: a date, and not the wait after an attempt."""
    return not run.attempts or run.due == run.option("not_before")


def _expired(run: Run, now: Now) -> bool:
    """Whether it had to start by now and has not; the time may have been moved since it was set."""
    at = run.expires_at
    waits = run.state in (RunState.WAITING, RunState.HELD)
    return waits and not run.attempts and at is not None and at <= now.wall

"""The one owner of the state: takes all that waits, decides, writes and syncs once, then answers.

One thread does it all, as handing the sync to another lost at every load (ARCHITECTURE, rulings).
A pass is: reports of the workers, timers, requests, dispatch; one batch to disk; and only then
replies and effects. Other threads reach it through :meth:`CoreLoop.post` alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from jobd.capacity.ledger import Ledger
from jobd.codec import pack
from jobd.core import gpus, punctual
from jobd.core.commands import Caller, Command, ScheduleDue
from jobd.core.decide import decide
from jobd.core.dispatch import picks
from jobd.core.effects import Effect, StartAttempt
from jobd.core.events import (
    ALERTS,
    CODES_OF,
    RUN,
    TYPE_OF,
    Event,
    JobRunsCancelled,
    RunQueued,
    encode,
)
from jobd.core.model import Now, Reason
from jobd.core.outbox import OUTBOX
from jobd.core.policy import Rules
from jobd.core.requests import KEEP_MS
from jobd.core.schedule import BOOT
from jobd.core.state import State
from jobd.core.timers import Timers
from jobd.daemon.garbage import Garbage
from jobd.daemon.loopparts import Looker, Performer, read_clock
from jobd.daemon.room import ALERT_ROOM, Room
from jobd.errors import DiskFailedError, RefusedError
from jobd.journal import Journal, RecordFields, record_cost
from jobd.server.desk import Desk
from jobd.server.health import Pulse
from jobd.server.kernel import ANYTHING, Kernel
from jobd.server.recent import Recent
from jobd.server.router import Router

_log = logging.getLogger(__name__)

#: who the daemon itself is, where nobody asked
SYSTEM = Caller(os.geteuid(), "jobd", 0)
#: never sleep longer, whatever is set: clocks jump (DURABILITY, scheduling rule 3)
_LONGEST_WAIT_MS = 30_000
#: a batch is written when it has grown to this, in the middle of a pass
_FULL_BATCH = 8 << 20
#: records that a batch is made of; one may hold some more (journal/FORMAT.md, "Limits")
_MOST_RECORDS = 60_000
#: events of alerts that are kept for when there is room again
_MOST_SHED = 1_000
#: reports taken in one pass
_TAKEN = 1_000
#: after the last batch, idle for so long: the idle mark (DURABILITY W8)
_IDLE_MARK_MS = 1_000
#: events after which as many requests are looked at whether they are out of date; how many at rest
_EXPIRY, _EXPIRY_AT_REST = 256, 10_000
_QUEUED = TYPE_OF[RunQueued]
#: schedules that fire together from which on they are written before anything else is done
MANY_DUE = 16
#: room that a firing needs beside its payload, in bytes, and when it is tried again without
SCHEDULE_ROOM, SCHEDULE_AGAIN_MS = 16 << 10, 5_000


class CoreLoop:
    """State, queue on disk, and the loop over them. `kernel` is set before :meth:`run`."""

    kernel: Kernel

    def __init__(
        self,
        journal: Journal,
        state: State,
        ledger: Ledger,
        rules: Rules,
        pulse: Pulse,
        clock: Callable[[], Now] = read_clock,
    ) -> None:
        self.journal = journal
        self.state = state
        self.ledger = ledger
        self.rules = rules
        self.pulse = pulse
        self.timers = Timers()
        self.room = Room(journal, state)
        self.garbage = Garbage()
        #: events since requests were last looked through for what is out of date
        self._since_expiry = 0
        self.recent = Recent(journal.lsn)
        self.now = clock()
        self.desk: Desk | None = None
        self.performer: Performer | None = None
        #: looks at what is new in the state after a sync, beside effects and answers
        self.lookers: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []
        self.alerts: Looker | None = None
        #: events of alerts that there was no room for, to be decided on anew
        self.shed: deque[Event] = deque(maxlen=_MOST_SHED)
        self._clock = clock
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._records: list[RecordFields] = []
        self._events: list[Event] = []
        self._effects: list[Effect] = []
        self._changed: set[int] = set()
        #: ranges of runs that were changed by one event
        self._ranges: list[list[int]] = []
        self._last_batch = self.now.mono
        self._marked = False
        self._stopping = False
        self._failure: BaseException | None = None
        #: what came between a decision and the disk: state and records may be half of one
        self._torn: BaseException | None = None
        self._more = False
        self.timers.arm_all(state, self.now)

    # -- from other threads ----------------------------------------------------------------

    def post(self, work: Callable[[], None]) -> None:
        """Have `work` done in the loop's thread, in the next pass. Safe in any thread."""
        self._inbox.append(work)
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the loop after the pass under way; attempts go on. Safe in a signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def fatal(self, error: BaseException) -> None:
        """A part of the daemon died: the daemon dies, and starting again is safe."""
        self._failure = error
        self.stop()

    # -- deciding --------------------------------------------------------------------------

    def decide(self, command: Command, caller: Caller) -> Any:
        """Decide on a command and apply what follows; its answer is true after the sync."""
        if self.room.pending >= _FULL_BATCH:
            self.commit()  # a small request may make much: nothing is answered before the flush
        decision = decide(self.state, command, self.now, self.rules, caller)
        events = decision.events
        if events and TYPE_OF[type(events[-1])] in ALERTS and self.room.missing(ALERT_ROOM):
            # no room is kept for alerts: a full disk must not keep an end from being recorded
            self.shed += [event for event in events if TYPE_OF[type(event)] in ALERTS]
            events = [event for event in events if TYPE_OF[type(event)] not in ALERTS]
        if len(self._records) + len(events) > _MOST_RECORDS:
            self.commit()  # a decision is in one batch
        self._take(events)
        self._effects += decision.effects
        return decision.answer

    def take(self, event: RunQueued) -> None:
        """Take in a plain submission that was decided on: as `decide`, less what it cannot need."""
        if len(self._records) >= _MOST_RECORDS:
            self.commit()
        body = pack(event[1:])
        run = event[0]
        self._records.append((_QUEUED, RUN, run, self.state.apply(event), body))
        self._events.append(event)
        self.room.pending += record_cost(len(body))
        self._changed.add(run)

    def _take(self, events: list[Event]) -> None:
        try:
            self._take_all(events)
        except BaseException as error:
            # for want of memory, say: half a decision must not reach the disk with the next batch
            self._torn = error
            raise

    def _take_all(self, events: list[Event]) -> None:
        state = self.state
        for event in events:
            cls, subject = type(event), event[0]
            revision = state.apply(event)
            self.timers.arm(state, event, self.now)
            number, kind = CODES_OF[cls]
            body = encode(event)
            self._records.append((number, kind, subject, revision, body))
            self._events.append(event)
            self.room.pending += record_cost(len(body))
            if kind == RUN:
                self._changed.add(subject)
            elif type(event) is JobRunsCancelled:
                self._ranges += event.ranges
            elif number in ALERTS:
                self._changed.add(OUTBOX)

    def after_sync(self, work: Callable[[], None]) -> None:
        """Have `work` done once all that was decided so far is on disk. For the loop's thread."""
        self._after.append(work)

    def touch(self, run: int) -> None:
        """Have requests that wait for the run asked again: something about it is new."""
        self._changed.add(run)

    def seal(self) -> None:
        """Go on in a new segment of the queue, for a snapshot. For the loop's own thread.

        Raises RefusedError where what was promised would have no room there: nothing has changed.
        """
        self.commit()
        self.journal.seal(self.room.promised() + 1)
        self.room.sealed()

    # -- the loop --------------------------------------------------------------------------

    def run(self, router: Router) -> None:
        """Go round until told to stop. Raises DiskFailedError, or what killed another part."""
        router.watch(self._wake)
        while not self._stopping:
            self.pulse.doing = "idle"
            if router.wait(0 if self._more else self._wait_ms()):
                self._drain_wake()
            self.turn()
        if self._failure is not None:
            raise self._failure

    def turn(self) -> None:
        """One pass."""
        self.now = self._clock()
        self.pulse.turned = time.monotonic()
        self.pulse.doing = "deciding"
        desk = self.desk
        self._take_inbox()
        for over in self.timers.advance(self.state, self.now):
            self.decide(over, SYSTEM)
            self._commit_if_full()
        self._fire()
        if self.alerts is not None:
            self.alerts.turn(SYSTEM)
        if desk is not None:
            self._more = desk.take(self.kernel)
            desk.overdue(self.kernel)
        self._dispatch()
        self.commit()
        if desk is not None:
            if self._changed or self._ranges:
                changed, self._changed = self._changed, set()
                ranges, self._ranges = self._ranges, []
                desk.changed(self.kernel, changed, ranges)
                self.commit()  # a request that was asked again may change something itself
            self._more |= desk.stream() or bool(self._changed)
            desk.flush()
        else:
            self._changed.clear()
            self._ranges.clear()

    def _take_inbox(self) -> None:
        for _ in range(min(len(self._inbox), _TAKEN)):
            self._inbox.popleft()()
            self._commit_if_full()

    def _fire(self) -> None:
        """Have the schedules make the runs that are due."""
        schedules = self.state.schedules
        due = schedules.due(self.now)
        for schedule in due:
            try:
                self.room.require(SCHEDULE_ROOM + len(schedule.spec.payload) * 2)
                plain = punctual.fire(self.state, schedule, self.now, self.rules)
                if plain is not None:
                    self._take(plain)
                else:
                    self.decide(ScheduleDue(*schedule.key), SYSTEM)
            except RefusedError as error:
                # the disk is full: it stands where it stood, and what it missed is caught up
                _log.warning("schedule %s: not fired: %s", schedule.seed, error)
                schedules.again(schedule, self.now.wall + SCHEDULE_AGAIN_MS)
            self._commit_if_full()
        if len(due) >= MANY_DUE:
            self.commit()  # they are on time when they are on disk: before they are started

    def started(self, boot: str, boot_ms: int) -> None:
        """Fire what waits for the start of the host (`boot` names it) or of jobd, once each."""
        for schedule in list(self.state.schedules.every()):
            moment = schedule.spec.moment
            if moment == BOOT and (schedule.mark == boot or schedule.added_at >= boot_ms):
                continue
            if moment is not None:
                mark = boot if moment == BOOT else f"jobd {self.now.wall}"
                self.decide(ScheduleDue(*schedule.key, mark), SYSTEM)

    def _dispatch(self) -> None:
        if not self.state.dirty or not self.state.waiting:
            return
        if self.ledger.disk is not None and self.room.for_attempt():
            self.ledger.disk = None
        for run in picks(self.state, self.ledger, self.now, self.ledger.pace):
            if not self.room.for_attempt():
                self.ledger.disk = Reason("disk", "the queue's disk has no room for another end")
                self.state.dirty = True
                return
            claimed = gpus.claim(self.state, run, self.now.wall, self.ledger.host.gpus)
            self._take([claimed])
            self._effects.append(StartAttempt(run.id, claimed.number))
            self._commit_if_full()

    def _commit_if_full(self) -> None:
        if self.room.pending >= _FULL_BATCH or len(self._records) > _MOST_RECORDS:
            self.commit()

    def commit(self) -> None:
        """Make durable what was decided, and set its effects going. One write, one sync.

        After an error in the middle of it every later call raises that: what stands in memory is
        then not what the queue says, and only a new start tells.
        """
        if self._torn is not None:
            raise self._torn
        try:
            self._commit()
        except BaseException as error:
            self._torn = error
            raise

    def _commit(self) -> None:
        if self._records:
            self.pulse.doing = "syncing"
            try:
                places = self.journal.write(self._records)
            except DiskFailedError as error:
                if self.desk is not None:
                    self.desk.fail(error)
                raise
            placed = self.state.placed
            for event, where in zip(self._events, places, strict=True):
                placed(event, where)
            self.recent.add(self.journal.lsn, self._events, self.room.pending)
            self._records.clear()
            self._events = []
            self._changed.add(ANYTHING)
            self.room.written()
            self._last_batch = self._clock().mono
            self._marked = False
            self._since_expiry += len(places)
            if self._since_expiry >= _EXPIRY:
                self._expire(self._since_expiry)
            self.garbage.look()
            self.pulse.doing = "deciding"
        elif not self._marked and self.now.mono - self._last_batch >= _IDLE_MARK_MS:
            self.journal.idle()
            self.room.written()
            self._marked = True
            self._expire(_EXPIRY_AT_REST)
            self.garbage.rest(len(self.state.runs))
        effects, self._effects = self._effects, []
        if self.performer is not None:
            for effect in effects:
                self.performer.perform(effect)
        after, self._after = self._after, []
        for work in (*after, *self.lookers):
            work()

    def _expire(self, most: int) -> None:
        self._since_expiry = 0
        before = self.now.wall - KEEP_MS
        self.state.requests.expire(self.state.queued_at, before, most)
        self.state.gone.expire(before)

    def _wait_ms(self) -> int:
        now = self._clock()
        waits = [_LONGEST_WAIT_MS]
        due = self.timers.wait_ms(now, self.state.look_at)
        if due is not None:
            waits.append(due)
        if self.desk is not None:
            parked = self.desk.wait_ms(now.mono)
            if parked is not None:
                waits.append(parked)
        if not self._marked:
            waits.append(max(0, self._last_batch + _IDLE_MARK_MS - now.mono))
        fires = self.state.schedules.wait_ms(now)
        if fires is not None:
            waits.append(fires)
        looks = None if self.alerts is None else self.alerts.wait_ms(now)
        if looks is not None:
            waits.append(looks)
        if self._inbox:
            return 0
        # rounded up by one: a millisecond early would be a turn for nothing
        return min(waits) + 1

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass  # it was the socket or the time that woke us

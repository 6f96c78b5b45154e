"""When a schedule fires next, what it missed, and what a clock change does to it.

The rules are DURABILITY's "Scheduling under clock faults": a time of the day fires once, at the
first of two instants that are called so, and right after a gap where it falls into one; what runs
through every hour or minute fires whenever a clock shows a match. An instant fires once at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from jobd.cron import zones
from jobd.cron.expression import Expression

#: how far a change of the clock may lie back and still matter: zones have skipped whole days
_NEAR_S = 26 * 3600


@dataclass(frozen=True, slots=True)
class Firing:
    """One time at which a schedule fires.

    `at` is the instant in milliseconds UTC, `nominal` the wall time that was meant, and `note`
    what a clock change did to it (empty where nothing).
    """

    at: int
    nominal: datetime
    note: str = ""


class Timing(Protocol):
    """When something fires: a cron expression in a zone, an interval, one moment."""

    def after(self, instant: int) -> Firing | None:
        """The first firing later than `instant` (milliseconds UTC), or None."""


@dataclass(frozen=True, slots=True)
class At:
    """Once."""

    at: int

    def after(self, instant: int) -> Firing | None:
        """As in :class:`Timing`."""
        return _plain(self.at) if instant < self.at else None


@dataclass(frozen=True, slots=True)
class Every:
    """Each `period` milliseconds, counted from `anchor` (milliseconds UTC); not before it."""

    period: int
    anchor: int

    def after(self, instant: int) -> Firing | None:
        """As in :class:`Timing`."""
        if instant < self.anchor:
            return _plain(self.anchor)
        return _plain(instant + self.period - (instant - self.anchor) % self.period)


@dataclass(frozen=True, slots=True)
class Cron:
    """By a cron expression in a zone."""

    expression: Expression
    zone: ZoneInfo

    def after(self, instant: int) -> Firing | None:
        """As in :class:`Timing`."""
        second = instant // 1000
        if self.expression.runs_through:
            return self._through(second)
        return self._at_times(second)

    def affected(self, changed: int) -> list[str]:
        """What the clock change at the instant `changed` (seconds) does to it, in sentences."""
        before, after = zones.wall(self.zone, changed - 1), zones.wall(self.zone, changed)
        told = []
        first, last = min(before, after), max(before, after)
        match = self.expression.after(first - timedelta(seconds=after <= before))
        if match is None or match > last or (after > before and match == last):
            return []
        if not self.expression.runs_through:
            note = self._note_at_times(zones.locate(self.zone, match), match)
            told.append(f"on {match:%Y-%m-%d} {note}")
        elif after > before and last - first < timedelta(days=1) and self._only_there(match):
            told.append(
                f"on {match:%Y-%m-%d} clocks go forward: there is no {match:%H:%M}, and it "
                "does not run; give it a time of the day to have it run after the change"
            )
        return told

    def _only_there(self, match: datetime) -> bool:
        """Whether the day of `match`, which no clock shows, has no other match."""
        midnight = match.replace(hour=0, minute=0, second=0)
        found = self.after((zones.locate(self.zone, midnight).first - 1) * 1000)
        return found is None or found.nominal.date() != match.date()

    def _through(self, after: int) -> Firing | None:
        """The next instant whose wall clock matches, each stretch of one offset by itself."""
        ahead = zones.offset(self.zone, after)
        wall = zones.wall(self.zone, after)
        while True:
            match = self.expression.after(wall)
            if match is None:
                return None
            instant = zones.seconds(match) - ahead
            changed = zones.change(self.zone, after, instant)
            if changed is None:
                return Firing(instant * 1000, match, self._note_through(instant, match))
            after, ahead = changed, zones.offset(self.zone, changed)
            wall = zones.wall(self.zone, changed) - timedelta(seconds=1)

    def _note_through(self, instant: int, match: datetime) -> str:
        found = zones.locate(self.zone, match)
        if found.first == found.second:
            return ""
        which = "first" if instant == found.first else "second"
        return f"clocks go back: {match:%H:%M} for the {which} time"

    def _at_times(self, after: int) -> Firing | None:
        """The next time of the day that is due, each once."""
        # a later time of the day never has an earlier instant, so what lies before is over
        wall = zones.wall(self.zone, after)
        changed = zones.change(self.zone, after - _NEAR_S, after)
        if changed is not None:
            # where clocks went back, all that they have shown before is over too
            wall = max(wall, zones.wall(self.zone, changed - 1))
        while True:
            match = self.expression.after(wall)
            if match is None:
                return None
            found = zones.locate(self.zone, match)
            if found.first > after:
                return Firing(found.first * 1000, match, self._note_at_times(found, match))
            wall = match

    def _note_at_times(self, found: zones.Wall, match: datetime) -> str:
        if found.gap:
            shown = zones.wall(self.zone, found.first)
            return f"clocks go forward: there is no {match:%H:%M}, so at {shown:%H:%M}"
        if found.first != found.second:
            return f"clocks go back: {match:%H:%M} comes twice, the first is taken"
        return ""


def between(timing: Timing, after: int, until: int) -> Iterator[Firing]:
    """All firings in (after, until], the earliest first."""
    while True:
        firing = timing.after(after)
        if firing is None or firing.at > until:
            return
        yield firing
        after = firing.at


@dataclass(frozen=True, slots=True)
class Missed:
    """What a schedule missed: `last`, and how many there were (`counted`, `more` than that)."""

    last: Firing
    counted: int
    more: bool


def missed(timing: Timing, after: int, until: int, most: int) -> Missed | None:
    """What lies in (after, until]; counted up to `most`, and the last one found all the same."""
    last, counted = None, 0
    for firing in between(timing, after, until):
        if counted == most:
            return Missed(_last(timing, firing.at, until) or firing, counted, more=True)
        last, counted = firing, counted + 1
    return Missed(last, counted, more=False) if last is not None else None


def _last(timing: Timing, after: int, until: int) -> Firing | None:
    """The last firing in (after, until], looked for from the end."""
    span = 1000
    while True:
        start = max(after, until - span)
        found = deque(between(timing, start, until), maxlen=1)
        if found or start == after:
            return found[0] if found else None
        span *= 4


def warnings(timing: Timing, after: int, until: int) -> list[str]:
    """What the clock changes in (after, until] do to it: one sentence each, with the date."""
    if not isinstance(timing, Cron):
        return []
    found, start = [], after // 1000
    while (changed := zones.change(timing.zone, start, until // 1000)) is not None:
        found += timing.affected(changed)
        start = changed
    return found


def _plain(at: int) -> Firing:
    return Firing(at, datetime(1970, 1, 1) + timedelta(milliseconds=at))

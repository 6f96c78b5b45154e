"""Token buckets: how many starts in a time, and when the next one may be. Pure.

A bucket is one number, the moment at which it will be full again if nothing is taken (GCRA, the
"virtual scheduling" form of ITU-T I.371): it follows from the recorded claims alone, so a replay
makes the very same one, and a claim costs the same however many there were.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from jobd.errors import InvalidError

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE = re.compile(r"(\d{1,9})/(\d{0,6})([smhd])\Z")


class Rate(NamedTuple):
    """`number` starts in each `period` milliseconds."""

    number: int
    period: int


def read_rate(value: Any, path: str) -> Rate:
    """The rate in a text such as `100/h`, `5/s`, `3/10m`. Raises InvalidError naming `path`."""
    found = _RATE.match(value) if isinstance(value, str) else None
    if found is not None:
        rate = Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])
        if rate.number and 0 < rate.period <= 366 * _UNITS["d"]:
            return rate
    raise InvalidError(f"{path}: {value!r:.60}: expected a rate such as 100/h, 5/s or 3/10m")


def rate_text(rate: Rate) -> str:
    """The text that :func:`read_rate` reads as `rate`."""
    unit = next(u for u in ("d", "h", "m", "s") if rate.period % _UNITS[u] == 0)
    units = rate.period // _UNITS[unit]
    return f"{rate.number}/{units if units > 1 else ''}{unit}"


class Bucket:
    """What is left of a rate; `burst` (by default the rate's number) may be taken at once.

    Times are the wall's, in milliseconds, as claims are recorded. A clock that is set back makes
    nobody wait for longer than an empty bucket takes to fill.
    """

    __slots__ = ("_back_at", "full_at")

    def __init__(self, full_at: float = 0.0) -> None:
        self.full_at = full_at
        #: when it was first seen that the clock has gone back; no record, so no take looks at it
        self._back_at: int | None = None

    def wait(self, rate: Rate, burst: int | None, at: int) -> int:
        """Milliseconds until the next one may be taken; 0: now."""
        each = rate.period / rate.number
        whole = each * (burst or rate.number)
        # a thousandth of a millisecond: floats do not add up to the whole
        ahead = self._full_at(whole, at) + each - whole - at
        return max(0, int(ahead + 0.999)) if ahead > 0.001 else 0

    def take(self, rate: Rate, burst: int | None, at: int) -> None:
        """One is taken."""
        each = rate.period / rate.number
        # was it taken before its time, then by a clock that has gone back since the last one
        most = at + each * ((burst or rate.number) - 1)
        self.full_at = min(max(self.full_at, at), most) + each
        self._back_at = None

    def left(self, rate: Rate, burst: int | None, at: int) -> int:
        """How many may be taken now."""
        each = rate.period / rate.number
        whole = each * (burst or rate.number)
        return max(0, int((whole - (self._full_at(whole, at) - at)) / each + 0.001))

    def _full_at(self, whole: float, at: int) -> float:
        if self.full_at > at + whole and (self._back_at is None or at < self._back_at):
            self._back_at = at
        full_at = self.full_at
        if self._back_at is not None:
            full_at = min(full_at, self._back_at + whole)
        return max(full_at, at)

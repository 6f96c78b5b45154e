"""What the core loop works with: the clock, and who acts for it."""

from __future__ import annotations

import time
from typing import Protocol

from jobd.core.commands import Caller
from jobd.core.effects import Effect
from jobd.core.model import Now


class Performer(Protocol):
    """Who carries effects out, without holding up the loop."""

    def perform(self, effect: Effect) -> None:
        """Set the effect going."""


class Looker(Protocol):
    """Who looks at what no event tells of (daemon/alertduty.py)."""

    def turn(self, caller: Caller) -> None:
        """Look, where it is time."""

    def wait_ms(self, now: Now) -> int | None:
        """How long there is nothing to look at, in milliseconds; None: there is nothing."""


def read_clock() -> Now:
    """The wall's time and one that never goes back and counts a suspended host's sleep too."""
    return Now(time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)

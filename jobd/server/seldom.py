"""Warnings that others can provoke: so many a minute, and then their number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

#: lines in a minute; the rest is counted, so that who asks in a loop does not fill a disk
_MOST, _MINUTE_S = 20, 60.0


class Seldom:
    """A log's warnings about one matter, which each line begins with."""

    def __init__(
        self, log: logging.Logger, matter: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._matter = matter
        self._clock = clock
        self._until = 0.0
        self._logged = self._more = 0

    def warning(self, text: str) -> None:
        """Log one line, where there were not too many."""
        now = self._clock()
        if now >= self._until:
            if self._more:
                self._log.warning("%s: %d more lines like these", self._matter, self._more)
            self._until, self._logged, self._more = now + _MINUTE_S, 0, 0
        if self._logged >= _MOST:
            self._more += 1
            return
        self._logged += 1
        self._log.warning("%s: %s", self._matter, text)

"""Removes logs that are older than is wanted, whatever becomes of their runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

_log = logging.getLogger(__name__)

#: seconds between two looks through all logs, and logs that are removed before others have a turn
_EVERY, _AT_ONCE = 3600.0, 200
DAY = 86_400_000


class Logs(Protocol):
    """Where logs are (runlog/folder.py)."""

    def older(self, before: int) -> Iterator[tuple[str, int, int]]:
        """Job, run and attempt of the logs that were last written to before that (ms UTC)."""

    def remove(self, job: str, run: int, attempt: int) -> None:
        """Remove one attempt's log; none is as good."""


class OldLogs:
    """Of attempts of runs that are over, logs go `keep` ms after their last line."""

    def __init__(
        self, logs: Logs, live: Callable[[Sequence[int]], set[int]], rest: Callable[[], None]
    ) -> None:
        """`live`: which of the runs are not over; asked in the loop's thread. `rest` is called
        between two steps."""
        self._logs, self._live, self._rest = logs, live, rest
        #: may be set at any time
        self.keep = 30 * DAY
        self._next = 0.0

    def remove(self, now_ms: int, in_loop: Callable[[Callable[[], object]], object]) -> None:
        """Removes them, once in an hour. Raises OSError."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        old = self._logs.older(now_ms - self.keep)
        count = 0
        while some := list(islice(old, _AT_ONCE)):
            live = in_loop(lambda some=some: self._live([run for _, run, _ in some]))  # type: ignore[misc]
            assert isinstance(live, set)
            for job, run, attempt in some:
                if run not in live:
                    self._logs.remove(job, run, attempt)
                    count += 1
            self._rest()
        if count:
            _log.warning("logs: %d were removed for their age ([logs] keep)", count)

"""Threads that are used again: one takes a tenth of a millisecond to start, and two handovers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: threads that are kept for what comes next
_SPARE = 16


class Threads:
    """Runs each piece of work in a thread of its own, at once. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Have `work` done by a thread that bears that name meanwhile; it raises nothing."""
        with self._lock:
            worker = self._spare.pop() if self._spare else None
            if worker is None:
                worker = _Worker(self._rest)
                self._all.add(worker)
                new = True
            else:
                new = False
        worker.take(name, work)
        if new:
            worker.start()

    def _rest(self, worker: _Worker) -> bool:
        """Its work is done; whether it is to wait for more."""
        with self._lock:
            if self._closed or len(self._spare) >= _SPARE:
                self._all.discard(worker)
                return False
            self._spare.append(worker)
            return True

    def close(self, until: float) -> bool:
        """End those that wait, and wait for those that work until then (monotonic seconds).

        False where some thread still hangs.
        """
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, []
            every = list(self._all)
        for worker in spare:
            worker.take("", None)
        for worker in every:
            worker.join(max(0.0, until - time.monotonic()))
        return not any(worker.is_alive() for worker in every)


class _Worker(threading.Thread):
    def __init__(self, rest: Callable[[_Worker], bool]) -> None:
        # a daemon thread: an engine that hangs must not keep the process from ending
        super().__init__(daemon=True)
        self._rest = rest
        self._work: Callable[[], None] | None = None
        self._given = threading.Lock()
        self._given.acquire()

    def take(self, name: str, work: Callable[[], None] | None) -> None:
        if name:
            self.name = name
        self._work = work
        self._given.release()

    def run(self) -> None:
        while True:
            self._given.acquire()
            work, self._work = self._work, None
            if work is None:
                return
            work()
            del work  # what it holds must not stay with a thread that waits
            if not self._rest(self):
                return

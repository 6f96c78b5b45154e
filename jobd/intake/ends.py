"""Tells the ends of dropped files' runs where the files came from: in `done` and in `failed`.

One thread, in groups with one sync. What is told is on disk, and nothing of the file is claimed any
more, before the loop is told: after a crash it is told again, to the same file.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from jobd.core.arrivals import Drop
from jobd.errors import QueueDamagedError
from jobd.intake import names
from jobd.intake.names import Claimed
from jobd.intake.spool import DONE, FAILED, JobFolder, Spool

_log = logging.getLogger(__name__)

#: seconds until what the disk refused is tried again
AGAIN = 5.0
#: ends that are told together
_GROUP = 256


class End(NamedTuple):
    """The end of a drop's run. `pieces` gives the bytes that are told: its result, or the error."""

    run: int
    job: str
    drop: Drop
    succeeded: bool
    pieces: Callable[[], Iterable[bytes]]


class Ends:
    """The thread. `settled` is called with the runs whose ends are told for good."""

    def __init__(
        self,
        spool: Spool,
        settled: Callable[[list[int]], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._spool = spool
        self._settled = settled
        self._fatal = fatal
        self._inbox: queue.SimpleQueue[list[End]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="drop-ends", daemon=True)
        self._thread.start()

    def tell(self, ends: list[End]) -> None:
        """Have these told. Safe in any thread."""
        self._inbox.put(ends)

    def close(self) -> None:
        """End the thread after what it is at; what is not told will be, after the next start."""
        self._closing.set()
        self._inbox.put([])
        self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                waiting = self._inbox.get()
                while not self._inbox.empty():
                    waiting = waiting + self._inbox.get()
                for group in _grouped(waiting):
                    self._patiently(group)
        except BaseException as error:
            self._fatal(error)
            raise

    def _patiently(self, group: list[End]) -> None:
        """Tell a group of one job; tried until the disk takes it."""
        while not self._closing.is_set():
            try:
                self._tell(group)
                self._told = ""
                break
            except OSError as error:
                text = f"drops of job {group[0].job}: ends cannot be told: {error.strerror}"
                if text != self._told:
                    _log.warning("%s: tried again every %.0f s", text, AGAIN)
                    self._told = text
                self._closing.wait(AGAIN)
        else:
            return
        self._settled([end.run for end in group])

    def _tell(self, group: list[End]) -> None:
        try:
            with self._spool.folder(group[0].job) as folder:
                for end in group:
                    _tell_one(folder, end)
                folder.sync_ends()
        except FileNotFoundError:
            # somebody removed the folder: there is nobody to be told
            if os.path.isdir(self._spool.root / group[0].job):
                raise


def _tell_one(folder: JobFolder, end: End) -> None:
    one = Claimed(*end.drop[:3])
    into, ending = (DONE, ".result") if end.succeeded else (FAILED, ".error")
    try:
        folder.tell(into, names.ended(one.given, end.run, ending), end.pieces())
    except QueueDamagedError as error:
        _log.error("drop %r, run %d: its result cannot be told: %s", one.given, end.run, error)
    if end.drop.held is not None and not end.succeeded:
        # it is the only copy: what failed can be dropped again
        folder.keep_failed(one, end.run)
    folder.remove(one)


def _grouped(ends: list[End]) -> Iterator[list[End]]:
    """Those of one job together, not too many."""
    jobs: dict[str, list[End]] = {}
    for end in ends:
        jobs.setdefault(end.job, []).append(end)
    for mine in jobs.values():
        for at in range(0, len(mine), _GROUP):
            yield mine[at : at + _GROUP]

"""Images that jobd pulled and nobody needs are removed: least recently used first, never by force.

Off unless `[images] keep_age` or `keep_size` says otherwise. What a registered job, a run that is
not over or any container needs is left alone; so is what somebody else has pulled, built or tagged.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobd.core.state import State
from jobd.core.states import RunState
from jobd.daemon.imagetable import ImageTable, Pulled
from jobd.engine.base import EngineError
from jobd.engine.imagestore import ImageStore

_log = logging.getLogger(__name__)

#: seconds between two looks, between two savings of the table, and before the first look
LOOK_EVERY, SAVE_EVERY, FIRST_LOOK = 600.0, 60.0, 120.0


#: runs looked at in one pass of the loop, and seconds that it is waited for
_SCAN, _PATIENCE = 2_000, 30.0


@dataclass(frozen=True, slots=True)
class Keep:
    """How much is kept: `age` in seconds since the last use, `size` in bytes of all together."""

    age: float | None = None
    size: int | None = None


class ImageCollector:
    """The work of the thread `images`. `needed()` gives the names and ids that nothing may touch.

    `needed` returns None where the daemon is going down: nothing is removed then.
    """

    def __init__(
        self,
        store: ImageStore,
        table: ImageTable,
        keep: Keep,
        needed: Callable[[], set[str] | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._table = table
        #: replaced where another configuration is taken
        self.keep = keep
        self._needed = needed
        self._clock = clock
        self._look_at = time.monotonic() + FIRST_LOOK

    def work(self) -> float:
        """Save the table, look where it is time; the seconds until the next call."""
        if self.keep != Keep() and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            try:
                self.collect()
            except EngineError as error:
                _log.info("images: not looked at: %s", error)
        self._table.save()
        return SAVE_EVERY

    def collect(self) -> list[str]:
        """Remove what is too old, then what is too much; the names removed."""
        rows = self._present()
        if not rows:
            return []
        needed = self._needed()
        if needed is None:
            return []
        # asked last, so that a container that was made meanwhile counts
        kept = {self._store.image_id(name) for name in needed} | self._store.used()
        sizes = {row.image_id: self._store.size(row.image_id) or 0 for row in rows}
        total = sum(sizes.values())
        removed = []
        for row in rows:
            old = self.keep.age is not None and row.used_at < self._clock() - self.keep.age
            much = self.keep.size is not None and total > self.keep.size
            if row.image_id in kept or row.name in needed or not (old or much):
                continue
            if not self._store.remove(row.name):
                _log.info("images: %s is kept: somebody uses it", row.name)
                continue
            self._table.forget(row.name)
            removed.append(row.name)
            if self._store.image_id(row.image_id) is None:
                total -= sizes.pop(row.image_id, 0)
            why = "not used for longer than keep_age" if old else "more than keep_size"
            _log.info("images: %s (%s) removed: %s", row.name, row.image_id[7:19], why)
        self._table.save()
        return removed

    def _present(self) -> list[Pulled]:
        """The rows that still hold, least recently used first; the others are forgotten."""
        rows = []
        for row in self._table.rows():
            there = self._store.image_id(row.name) == row.image_id
            # to remove an image by its id would take somebody's only name for it along
            if there and not (row.name == row.image_id and self._store.tags(row.name)):
                rows.append(row)
            else:
                # removed, or pulled or tagged anew by somebody else: not jobd's any more
                self._table.forget(row.name)
        return rows


def needs(
    state: State, post: Callable[[Callable[[], None]], None]
) -> Callable[[], set[str] | None]:
    """What :class:`ImageCollector` asks: the images that jobs and runs need, by name and id.

    The state is the loop's, so it is looked at there, some runs a pass.
    """

    def needed() -> set[str] | None:
        found: set[str] = set()
        below: int | None = None
        while True:
            done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
            start = below
            post(lambda: done.put(_scan(state, start, found)))  # noqa: B023 - done in this turn
            try:
                below = done.get(timeout=_PATIENCE)
            except queue.Empty:
                return None  # the daemon stops, or hangs in a sync
            if below is None:
                return found

    return needed


def _scan(state: State, below: int | None, found: set[str]) -> int | None:
    """Take the next runs in; where to go on, None at the end, when the jobs are taken in too."""
    for looked, run in enumerate(state.runs.newest_first(below), 1):
        if run.state is not RunState.DONE:
            found.add(run.spec.image or "")
            started = (attempt.started for attempt in run.attempts or ())
            found.update(event.image_id for event in started if event is not None)
        if looked == _SCAN:
            return run.id
    found.update(job.spec.image or "" for job in state.jobs.values())
    found.discard("")  # of processes
    return None

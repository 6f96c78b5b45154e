"""Keeps the history: takes finished runs out of memory, indexes them, removes those too old.

One thread's work, a step at a time. The order is what keeps every run: its record is durable in the
archive, then indexed, and only then an event lets the state forget it. Killed in between, it is
archived a second time and read once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from jobd.core.archiving import Window
from jobd.core.entities import Job, Run
from jobd.core.statements import (
    revision_record,
    run_record,
)
from jobd.errors import JobdError
from jobd.history.index import Index, IndexBusyError, IndexUnusableError
from jobd.history.indexing import REST, StoppedError, catch_up, is_dead, take_in
from jobd.history.oldlogs import OldLogs
from jobd.history.reader import History
from jobd.history.retention import Keep, Retention
from jobd.journal.archive import SERIES, Archive
from jobd.journal.live import NUMBER_SHIFT
from jobd.journal.record import RecordFields, record_cost

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: runs that leave at once, and bytes of one batch of the archive
BATCH, BATCH_BYTES = 200, 4 << 20
#: a segment is closed when it has so many bytes or is so old: what goes at once, in the end
SEGMENT_BYTES, SEGMENT_MS = 16 << 20, 24 * 3_600_000
#: seconds between two looks, and after trouble
EVERY, AFTER_TROUBLE = 1.0, 4.0
#: seconds between two looks for what is too old
RETIRE_EVERY = 60.0


#: a clock that moves by so much between two looks was set: then nothing goes for a day
CLOCK_SET_MS, CLOCK_PAUSE = 600_000, 86_400.0


class Door(NamedTuple):
    """What the keeper needs of the rest of the daemon; all but `kept` only in the loop's thread."""

    #: `post(work)`: have work done in the loop's thread. Safe in any thread
    post: Callable[[Callable[[], None]], None]
    #: whether there may be runs to archive: cheap, and safe in any thread
    due: Callable[[Window], bool]
    #: takes runs beyond the window off the list
    leaving: Callable[[Window, int], list[Run]]
    #: lets the state forget them; False where there is no room for that just now
    forget: Callable[[Sequence[int]], bool]
    #: puts those back on the list that are still there
    stay: Callable[[Sequence[int]], None]
    #: reads the queue's record of a run: safe in any thread
    kept: Callable[[int, int], tuple[int, bytes]]


class Keeper:
    """The thread's work: :meth:`work`. The rest may be called by any thread."""

    def __init__(
        self,
        archive: Archive,
        history: History,
        path: str,
        store: bytes,
        door: Door,
        retention: Retention,
        logs: OldLogs,
        clock_ms: Callable[[], int],
        whole: Callable[[Index], None],
    ) -> None:
        """`path` is that of the index; `whole` is called once, in the thread, when it is whole."""
        self._whole: Callable[[Index], None] | None = whole
        self._archive, self._history = archive, history
        self._path, self._store = path, store
        self._door, self._retention, self._clock_ms = door, retention, clock_ms
        self.logs = logs
        #: may be set at any time
        self.window, self.keep = Window(), Keep()
        self._index: Index | None = None
        self._stopping = threading.Event()
        self._told: str | None = None
        self._retire_at = 0.0
        self._offset: float | None = None
        #: definitions that stand in each open segment
        self._specs: dict[int, set[tuple[int, int]]] = {}
        self._percent = 0

    # -- from other threads ------------------------------------------------------------------

    def close(self) -> None:
        """Begin nothing more; the thread that is at work ends after its step."""
        self._stopping.set()

    def end(self) -> None:
        """Let go of the files; the thread has ended."""
        if self._index is not None:
            self._index.close()
        self._archive.close()

    def row(self) -> dict[str, Any]:
        """How it is with the history, for `status`."""
        archive = self._archive
        return {
            "segments": len(archive.numbers()),
            "bytes": archive.bytes(),
            "ready": self._history.ready,
            "indexed_percent": 100 if self._history.ready else self._percent,
            "problem": self._told,
        }

    # -- the thread --------------------------------------------------------------------------

    def work(self) -> float:
        """One step; seconds until the next."""
        began = time.monotonic()
        try:
            if self._history.unusable:
                self._make_anew("it is damaged")
            if self._index is None:
                self._open()
            if self._archive_some():
                # by what it took, so that the loop has most of the processor even then
                return min(REST * (time.monotonic() - began), EVERY)
            if time.monotonic() >= self._retire_at:
                self._retire_at = time.monotonic() + RETIRE_EVERY
                self._retire()
            self._told = None
        except StoppedError:
            return EVERY
        except IndexUnusableError as error:
            self._make_anew(str(error))
            return 0.0
        except (IndexBusyError, OSError, JobdError) as error:
            self._trouble(str(error))
            return AFTER_TROUBLE
        return EVERY

    def _trouble(self, why: str) -> None:
        """Tell it once: what could not leave stays in memory, and is tried again."""
        if why != self._told:
            _log.warning("history: finished runs stay in memory for now: %s", why)
        self._told = why
        if self._index is not None and not self._history.ready:
            self._history.trouble = why

    def _in_loop(self, work: Callable[[], _T]) -> _T:
        done = threading.Event()
        answer: list[_T] = []

        def run() -> None:
            answer.append(work())
            done.set()

        self._door.post(run)
        while not done.wait(0.1):
            if self._stopping.is_set():
                raise StoppedError
        return answer[0]

    # -- the index ---------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the index and let it catch up with the archive."""
        for problem in self._archive.problems:
            _log.error("history: %s", problem)
        self._archive.problems.clear()
        index = Index(self._path, self._store)
        try:
            catch_up(index, self._archive, self._history, self._stopping.wait, self._percent_is)
        except BaseException:
            index.close()
            raise
        self._index = index
        history = self._history
        history.newest, history.keyed = index.newest(), index.keyed()
        history.highest = max(history.newest.values(), default=0)
        history.index = index
        if self._whole is not None:
            self._whole(index)
            self._whole = None

    def _make_anew(self, why: str) -> None:
        """Take the index away: the next step makes another from the archive."""
        _log.warning("history: the index %s cannot be used: %s; it is made anew", self._path, why)
        history = self._history
        history.index, history.unusable = None, False
        history.trouble = "its index is being made anew"
        if self._index is not None:
            self._index.close()
            self._index = None
        Index.remove(self._path)

    def _percent_is(self, percent: int) -> None:
        self._percent = percent

    # -- archiving ---------------------------------------------------------------------------

    def _archive_some(self) -> bool:
        """Let some runs leave; whether there may be more."""
        if not self._door.due(self.window):
            return False
        runs = self._in_loop(lambda: self._door.leaving(self.window, BATCH))
        if not runs:
            return False
        ids = [run.id for run in runs]
        gone = False
        try:
            for series in SERIES:
                dead = series == "dead"
                for some in self._batches([run for run in runs if is_dead(run) is dead]):
                    self._write(series, some)
            gone = self._in_loop(lambda: self._door.forget(ids))
        finally:
            self._door.post(lambda: self._door.stay(ids))
        if not gone:
            self._trouble("the queue's disk has no room for what lets them leave")
            self._stopping.wait(EVERY)
        return gone

    def _batches(self, runs: Sequence[Run]) -> Iterator[list[tuple[Run, RecordFields]]]:
        """The runs with their records, so many at once as fit one batch."""
        some: list[tuple[Run, RecordFields]] = []
        size = 0
        for run in runs:
            record = run_record(run, self._door.kept)
            cost = record_cost(len(record[4]))
            if some and size + cost > BATCH_BYTES:
                yield some
                some, size = [], 0
            some.append((run, record))
            size += cost
        if some:
            yield some

    def _write(self, series: str, runs: Sequence[tuple[Run, RecordFields]]) -> None:
        archive, index = self._archive, self._index
        assert index is not None
        self._roll_if_due(series)
        current = archive.current(series)
        there = self._specs.setdefault(current, set()) if current is not None else set()
        new: dict[tuple[int, int], Job] = {}
        for run, _ in runs:
            if (run.job.id, run.revision) not in there:
                new[run.job.id, run.revision] = run.job
        records = [revision_record(job, revision) for (_, revision), job in new.items()]
        places, behind = archive.append(
            series, [*records, *(record for _, record in runs)], self._clock_ms()
        )
        number = places[0] >> NUMBER_SHIFT
        self._specs.setdefault(number, set()).update(new)
        specs = [(*key, place) for key, place in zip(new, places, strict=False)]
        pairs = zip((run for run, _ in runs), places[len(new) :], strict=True)
        try:
            take_in(index, self._history, number, behind, list(pairs), specs)
        except (IndexBusyError, IndexUnusableError):
            # it is behind the archive now: it has to catch up before anything else leaves
            self._behind()
            raise

    def _behind(self) -> None:
        self._history.index = None
        if self._index is not None:
            self._index.close()
        self._index = None
        for series in SERIES:
            self._archive.roll(series)

    def _roll_if_due(self, series: str) -> None:
        archive = self._archive
        number = archive.current(series)
        if number is None:
            return
        full = archive.size(number) >= SEGMENT_BYTES
        if full or not 0 <= self._clock_ms() - archive.made_ms(number) < SEGMENT_MS:
            archive.roll(series)
            self._specs.pop(number, None)

    # -- removing ----------------------------------------------------------------------------

    def _retire(self) -> None:
        assert self._index is not None
        for series in SERIES:
            self._roll_if_due(series)
        if not self._clock_is_steady():
            return
        self._retention.retire(self._index, self.keep, self._clock_ms(), self._in_loop)
        self.logs.remove(self._clock_ms(), self._in_loop)

    def _clock_is_steady(self) -> bool:
        """Whether nobody has set the clock: by one that is a year ahead all would be too old."""
        offset = self._clock_ms() - time.monotonic() * 1000
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) < CLOCK_SET_MS:
            return True
        self._retire_at = time.monotonic() + CLOCK_PAUSE
        _log.warning("history: the clock was set: nothing is removed for its age for a day")
        return False

"""What of the history is too old or too much, and goes: whole segments, the oldest first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from jobd.codec import unpack
from jobd.core.statements import TYPE_OF, RevisionStands, RunStands
from jobd.history.index import Index, SegmentRow
from jobd.history.reader import History
from jobd.journal.archive import Archive

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_RUN, _REVISION = TYPE_OF[RunStands], TYPE_OF[RevisionStands]

#: segments that are removed before others have their turn
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended runs are kept: `age` in ms, the newest `runs`; dead ones for `dead` ms where
    that is given, however many they are."""

    age: int = 30 * 86_400_000
    runs: int = 100_000
    dead: int | None = None


class Logs(Protocol):
    """Where logs are (runlog/folder.py)."""

    def remove(self, job: str, run: int, attempt: int) -> None:
        """Remove one attempt's log; none is as good."""


class Bodies(Protocol):
    """Where bodies are (journal/bodies.py)."""

    def remove(self, name: str) -> None:
        """Remove a body; none is as good."""


class Retention:
    """Removes what is beyond `Keep`. `needed` and `live_bodies` are asked in the loop's thread."""

    def __init__(
        self,
        archive: Archive,
        history: History,
        logs: Logs,
        bodies: Bodies,
        needed: Callable[[], list[int]],
        live_bodies: Callable[[int | None, frozenset[str]], tuple[set[str], int | None]],
        rest: Callable[[], None],
    ) -> None:
        """`needed`: archived runs whose children are not over. `live_bodies(below, names)`: which
        of the names the next runs in memory below an id have, and where to go on (None: the end).
        `rest` is called between two steps."""
        self._archive, self._history = archive, history
        self._logs, self._bodies = logs, bodies
        self._needed, self._live_bodies, self._rest = needed, live_bodies, rest

    def retire(
        self,
        index: Index,
        keep: Keep,
        now_ms: int,
        in_loop: Callable[[Callable[[], object]], object],
    ) -> list[int]:
        """Removes some segments that are beyond what is kept; their numbers. Raises OSError."""
        due = list(self._due(index.segments(), keep, now_ms))[:_AT_ONCE]
        if not due:
            return []
        needed = in_loop(self._needed)
        assert isinstance(needed, list)
        spared = index.segments_of(needed) if needed else set()
        gone = []
        for row in due:
            if row.number in spared:
                continue
            self._remove(index, row, in_loop)
            gone.append(row.number)
        return gone

    def _due(self, rows: dict[int, SegmentRow], keep: Keep, now_ms: int) -> Iterator[SegmentRow]:
        archive = self._archive
        numbers = [number for number in archive.numbers() if number in rows]
        left = sum(rows[number].runs for number in numbers if not self._counts_apart(number, keep))
        for number in numbers:
            row = rows[number]
            if self._counts_apart(number, keep):
                if row.newest < now_ms - (keep.dead or 0):
                    yield row
            elif row.newest < now_ms - keep.age or left - row.runs >= keep.runs:
                left -= row.runs
                yield row

    def _counts_apart(self, number: int, keep: Keep) -> bool:
        return keep.dead is not None and self._archive.series_of(number) == "dead"

    def _remove(
        self,
        index: Index,
        row: SegmentRow,
        in_loop: Callable[[Callable[[], object]], object],
    ) -> None:
        """Logs, then bodies, then the records: cut short, it is done again from the beginning."""
        number = row.number
        if self._archive.is_open(number):
            # what is quiet for long, or kept for less than a day
            self._archive.roll(self._archive.series_of(number))
        self._history.hidden.add(number)
        bodies = frozenset(index.bodies_of(number))
        logs = 0
        for job, run, attempts in self._runs_in(number):
            for attempt in range(1, attempts + 1):
                self._logs.remove(job, run, attempt)
                logs += 1
        for name in bodies - self._still_used(bodies, in_loop):
            self._bodies.remove(name)
        self._archive.remove([number], self._rest)
        index.forget(number)
        self._history.hidden.discard(number)
        _log.warning(
            "history: %d runs were removed for their age or number, with %d logs and %d files",
            row.runs, logs, len(bodies),
        )  # fmt: skip

    def _still_used(
        self, names: frozenset[str], in_loop: Callable[[Callable[[], object]], object]
    ) -> set[str]:
        """Of the names those that a run in memory has: one that does an archived one again."""
        used: set[str] = set()
        below: int | None = None
        while names:
            found = in_loop(lambda below=below: self._live_bodies(below, names))  # type: ignore[misc]
            assert isinstance(found, tuple)
            used |= found[0]
            below = found[1]
            if below is None:
                break
        return used

    def _runs_in(self, number: int) -> Iterator[tuple[str, int, int]]:
        """Job name, id and number of attempts of each run in a segment."""
        names: dict[int, str] = {}
        for part in self._archive.scan(number, self._archive.start_of(number)):
            for one in part.records:
                if one.type == _REVISION:
                    names[one.id] = unpack(one.body)[1]["name"]
                elif one.type == _RUN:
                    fields: Sequence[object] = unpack(one.body)
                    attempts = fields[12]
                    count = len(attempts) if isinstance(attempts, list) else 0
                    job = names.get(int(str(fields[0])))
                    if job is not None:
                        yield job, one.id, count
            self._rest()

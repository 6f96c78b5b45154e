"""Events read back from the queue's files, page by page, for those who want to know what was."""

from __future__ import annotations

from threading import Lock

from jobd.core.events import BY_TYPE, Event, decode
from jobd.journal import Journal
from jobd.journal.scan import Mark
from jobd.server.recent import Page, place_of, seq_of

#: bytes of the queue that are gone through for one page, at most but for one batch
_BYTES = 4 << 20
#: readers whose place is remembered, so that a page costs no way from a segment's beginning
_MARKS = 64


class Past:
    """Pages of events. Safe in any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._marks: dict[int, Mark] = {}
        self._lock = Lock()

    def page(self, after: int, since: int, most: int) -> Page:
        """Up to `most` events behind `after` and not older than `since` (ms UTC).

        A page may be empty although there are more. Raises QueueDamagedError.
        """
        lsn, place = place_of(after)
        if after == 0 and since > 0:
            lsn, place = self._journal.last_before(since), 1 << 16
        first, made = self._journal.oldest
        # only those that are behind the place where files begin are there to be read
        missing = first > 1 and since < made and lsn + 1 < first
        gone = made if missing else None
        found: list[tuple[int, Event]] = []
        gone_through, looked = 0, after
        mark = self._mark(after)
        # else the batch in which `after` stands, as it may have more behind it
        start = mark.lsn if mark is not None else lsn - 1
        for batch in self._journal.batches_after(start, mark):
            if gone_through >= _BYTES or len(found) >= most:
                self._remember(looked, batch.before)
                return Page(found, looked, True, gone)
            gone_through += batch.bytes
            for entry in batch.entries:
                if batch.lsn == lsn and entry.place <= place:
                    continue
                if len(found) == most:
                    self._remember(looked, batch.before)
                    return Page(found, looked, True, gone)
                looked = seq_of(batch.lsn, entry.place)
                if entry.type in BY_TYPE:
                    event = decode(entry.type, entry.id, entry.body)
                    if time_of(event) >= since:
                        found.append((looked, event))
        return Page(found, looked, False, gone)

    def _mark(self, seq: int) -> Mark | None:
        with self._lock:
            return self._marks.get(seq)

    def _remember(self, seq: int, mark: Mark) -> None:
        with self._lock:
            self._marks[seq] = mark
            while len(self._marks) > _MARKS:
                del self._marks[next(iter(self._marks))]


def time_of(event: Event) -> int:
    """When it was decided, in milliseconds UTC."""
    return event.at

"""The events of the last batches, in memory: what somebody who follows them is given at once.

An event's number (`seq`) is its batch's lsn and its place in it, so it is the same after a restart,
and whoever has seen one can go on behind it, from here or from the queue's files.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from jobd.core.events import Event

#: what is kept at most: events, and bytes of their records (payloads are among them)
_EVENTS, _BYTES = 10_000, 4 << 20
#: bits of a seq that tell the place in the batch; a batch holds 65,535 records at most
_SHIFT = 16


class Page(NamedTuple):
    """Some events by their numbers, the number up to which was looked, whether there is more.

    `gone`: some that were asked for are not there any more, all from before that (ms UTC).
    """

    events: list[tuple[int, Event]]
    next: int
    more: bool
    gone: int | None = None


def seq_of(lsn: int, index: int) -> int:
    """The number of the record at `index` (from 0) of a batch."""
    return lsn << _SHIFT | index


def place_of(seq: int) -> tuple[int, int]:
    """`(lsn, index)` of a number."""
    return seq >> _SHIFT, seq & ((1 << _SHIFT) - 1)


class Recent:
    """The last batches. One owner: the core loop's thread."""

    __slots__ = ("_batches", "_bytes", "_events", "_from", "last")

    def __init__(self, lsn: int) -> None:
        self._batches: deque[tuple[int, list[Event], int]] = deque()
        self._bytes = self._events = 0
        #: all behind this number is here
        self._from = seq_of(lsn + 1, 0) - 1
        #: the number of the last event that is durable
        self.last = self._from

    def add(self, lsn: int, events: list[Event], size: int) -> None:
        """Take in a batch that was written; the list is kept. `size`: bytes of its records."""
        batches = self._batches
        batches.append((lsn, events, size))
        self._bytes += size
        self._events += len(events)
        self.last = seq_of(lsn, len(events) - 1)
        while (self._bytes > _BYTES or self._events > _EVENTS) and len(batches) > 1:
            old, gone, bytes_ = batches.popleft()
            self._bytes -= bytes_
            self._events -= len(gone)
            self._from = seq_of(old, len(gone) - 1)

    def after(self, seq: int, most: int) -> Page | None:
        """Up to `most` events behind `seq`; None where not all of them are here any more."""
        if seq < self._from:
            return None
        found: list[tuple[int, Event]] = []
        newer = []
        for batch in reversed(self._batches):
            if seq_of(batch[0], len(batch[1]) - 1) <= seq:
                break
            newer.append(batch)
        for lsn, events, _ in reversed(newer):
            for index, event in enumerate(events):
                number = seq_of(lsn, index)
                if number > seq:
                    if len(found) == most:
                        return Page(found, found[-1][0], True)
                    found.append((number, event))
        return Page(found, max(seq, self.last), False)

"""A segment as this process holds it: read by place, and filled ahead while it is written.

Two threads meet here. The loop appends batches; a background thread writes zeroes ahead of them,
since a sync into zero-filled space costs 0.55 to 0.8 of one that makes the file grow. `turn` keeps
the zeroes from ever being written over a batch: the loop claims bytes before it writes them, the
filler begins behind what is claimed, and a batch that would run into a fill waits for its end.
"""

from __future__ import annotations

import os
from threading import Condition

from jobd.journal.fsutil import Fs, write_all
from jobd.journal.segment import Header
from jobd.journal.space import FILL_STEP

#: where the segment's number stands in a `where`
NUMBER_SHIFT = 40
OFFSET_MASK = (1 << NUMBER_SHIFT) - 1
#: no fill is under way
NOWHERE = 1 << 62
_PAGE = 4096
_ZEROES = bytes(FILL_STEP)


class LiveSegment:
    """One segment of the open queue. `end` is where its data end; the rest is the writer's."""

    __slots__ = (
        "base", "capacity", "claimed", "end", "fd", "fill_from", "filled", "gone", "header",
        "name", "number", "path", "reserved", "salt", "seed", "turn", "whole",
    )  # fmt: skip

    def __init__(self, number: int, path: str, header: Header, end: int) -> None:
        self.number = number
        self.base = number << NUMBER_SHIFT
        self.path = path
        self.name = os.path.basename(path)
        self.header = header
        self.salt, self.seed = header.salt, header.seed
        self.end = self.claimed = end
        self.fd = -1
        self.capacity = self.reserved = self.filled = end
        #: whether the file system has reserved all of it, so that only `reserved` bounds a batch
        self.whole = True
        self.fill_from = NOWHERE
        self.turn = Condition()
        #: whether a snapshot has taken its place, and its file goes
        self.gone = False

    @property
    def empty(self) -> bool:
        """Whether it holds no batch."""
        return self.end == self.header.bytes

    def claim(self, stop: int) -> None:
        """Takes the bytes up to `stop` for a batch; waits where a fill is at work on them."""
        with self.turn:
            while stop > self.fill_from:
                self.turn.wait()
            self.claimed = stop

    def fill(self, fs: Fs) -> bool:
        """One step of zeroes ahead, synced; False at the segment's end.

        Raises OSError. Uses a descriptor of its own: each descriptor is told of a failed sync
        once, and the loop's must not miss its own (DURABILITY W6).
        """
        with self.turn:
            # one fill at a time: a second one over the same bytes could end after a batch in them
            while self.fill_from != NOWHERE:
                self.turn.wait()
            start = max(self.filled, -(-self.claimed // _PAGE) * _PAGE)
            stop = min(start + FILL_STEP, self.capacity)
            if start >= stop:
                return False
            self.fill_from = start
        try:
            fd = fs.open(self.path, os.O_WRONLY)
            try:
                write_all(fs, fd, memoryview(_ZEROES)[: stop - start], start)
                fs.fdatasync(fd)
            finally:
                fs.close(fd)
            self.filled = stop
            if not self.whole:
                self.reserved = stop
        finally:
            with self.turn:
                self.fill_from = NOWHERE
                self.turn.notify_all()
        return True

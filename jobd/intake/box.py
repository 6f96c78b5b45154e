"""One job's folder as the thread that takes drops knows it, and when a file counts as complete.

Complete is what was moved in, and what is closed after writing and quiet. Of a file that a look
finds nobody knows that it was closed: it is complete when nobody has it open for writing and it has
not changed for a while.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from jobd.intake import inotify
from jobd.intake.loading import Load
from jobd.intake.names import Claimed
from jobd.intake.spool import Look

#: seconds without a change after which a file is complete: one that was closed; one that a look
#: found, of which nobody is writing; one of which the kernel does not tell that
CLOSED_QUIET, FOUND_QUIET, UNSURE_QUIET = 0.2, 1.0, 10.0


class Taken(NamedTuple):
    """What became of a drop. `run`: queued for good. `refused`: for good, and why. Neither: not
    yet, for the reason `later`."""

    load: Load
    run: int | None = None
    refused: str = ""
    later: str = ""


class How(Enum):
    """How a file came to be looked at."""

    MOVED = "moved"
    CLOSED = "closed"
    FOUND = "found"


class Awaited(NamedTuple):
    """A file that may be complete at `due` (monotonic seconds); `last` is how it was seen then."""

    due: float
    how: How
    last: tuple[int, int] | None = None


@dataclass(slots=True)
class Box:
    """A folder's watch, the files that are awaited, and claimed ones to be tried again."""

    job: str
    watch: int = -1
    awaited: dict[bytes, Awaited] = field(default_factory=dict)
    #: their moments, and out of date ones, which are passed over
    moments: list[tuple[float, bytes]] = field(default_factory=list)
    again: deque[Claimed] = field(default_factory=deque)
    again_at: float = 0.0
    look_at: float = 0.0
    #: what was last said of it in the log
    told: str = ""

    def expect(self, name: bytes, mask: int, now: float) -> None:
        """The kernel tells of a file."""
        if mask & inotify.MOVED_TO:
            self.wait(name, Awaited(now, How.MOVED))
        elif mask & inotify.CLOSE_WRITE:
            self.wait(name, Awaited(now + CLOSED_QUIET, How.CLOSED))
        elif name not in self.awaited:
            # no file, or one that is being written, or a second name of one
            self.wait(name, Awaited(now + CLOSED_QUIET, How.FOUND))

    def found(self, name: bytes, now: float) -> None:
        """A look at the folder finds a file."""
        if name not in self.awaited:
            self.wait(name, Awaited(now, How.FOUND))

    def wait(self, name: bytes, one: Awaited) -> None:
        """Await a file, whatever was known of it."""
        self.awaited[name] = one
        heapq.heappush(self.moments, (one.due, name))

    def ready(self, now: float, most: int) -> list[bytes]:
        """Those whose moment has come, the first ones first; each is given once."""
        found: dict[bytes, None] = {}  # two events of one moment are two entries
        while self.moments and self.moments[0][0] <= now and len(found) < most:
            due, name = heapq.heappop(self.moments)
            one = self.awaited.get(name)
            if one is not None and one.due == due:
                found[name] = None
        return list(found)

    def next_at(self) -> float | None:
        """When something is to be done here, looks at the folder left out."""
        moments = [self.moments[0][0]] if self.moments else []
        if self.again:
            moments.append(self.again_at)
        return min(moments, default=None)

    def is_complete(self, name: bytes, look: Look, now: float) -> bool:
        """Whether the file may be claimed; else it is awaited again, where it makes sense."""
        one = self.awaited.pop(name)
        if look.written:
            return False  # that it is closed will be told; where that is lost, a look finds it
        seen = look.size, look.changed_ns
        if look.wrong:
            if "names" not in look.wrong or one.last == seen:
                return True
            # a second name that is taken away at once is how some put a file in its place
            quiet = FOUND_QUIET
        elif one.how is How.MOVED or (one.how is How.CLOSED and one.last in (None, seen)):
            return True
        else:
            quiet = FOUND_QUIET if look.written is False else UNSURE_QUIET
            old = one.last is None and time.time() - look.changed_ns / 1e9 > quiet
            if old or one.last == seen:
                return True
        self.wait(name, Awaited(now + quiet, How.FOUND, seen))
        return False

"""One job's folder as the thread that takes drops knows it, and when a file counts as complete.

Complete is what was moved in, and what is closed after writing and quiet. Of a file that a look
finds nobody knows that it was closed: it is complete when nobody has it open for writing and it has
not changed for a while.
"""

from __future__ import annotations

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
    again: deque[Claimed] = field(default_factory=deque)
    again_at: float = 0.0
    look_at: float = 0.0
    #: what was last said of it in the log
    told: str = ""

    def expect(self, name: bytes, mask: int, now: float) -> None:
        """The kernel tells of a file."""
        if mask & inotify.MOVED_TO:
            self.awaited[name] = Awaited(now, How.MOVED)
        elif mask & inotify.CLOSE_WRITE:
            self.awaited[name] = Awaited(now + CLOSED_QUIET, How.CLOSED)
        else:
            # no file, or one that is being written, or a second name of one
            self.awaited.setdefault(name, Awaited(now + CLOSED_QUIET, How.FOUND))

    def found(self, name: bytes, now: float) -> None:
        """A look at the folder finds a file."""
        self.awaited.setdefault(name, Awaited(now, How.FOUND))

    def ready(self, now: float, most: int) -> list[bytes]:
        """Those whose moment has come."""
        return [name for name, one in self.awaited.items() if one.due <= now][:most]

    def next_at(self) -> float | None:
        """When something is to be done here, looks at the folder left out."""
        moments = [one.due for one in self.awaited.values()]
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
        self.awaited[name] = Awaited(now + quiet, How.FOUND, seen)
        return False

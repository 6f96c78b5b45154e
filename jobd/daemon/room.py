"""Whether the disk has room: asked before anything is decided, never after (DURABILITY W3 to W5).

What was taken on must always be able to end. So room is kept for the end of each live attempt,
with the last words of its log, and for the cancelling of what waits; submissions are refused first.
"""

from __future__ import annotations

from jobd.core.state import State
from jobd.errors import RefusedError
from jobd.journal import BATCH_COST, Journal

#: what the rest of an attempt's life takes at most, in bytes: its records with an inline result
#: (4 KiB) and the tail of its log (8 KiB), each perhaps in a batch of its own
ATTEMPT_ROOM = 16 << 10
#: what a run takes that an end makes of a job that listens, with an inline result as its payload;
#: more than so much in all is covered by the reserve
REACTION_ROOM, REACTION_ROOM_MOST = 8 << 10, 16 << 20
#: what alerts of one decision take at most: 16 destinations, each with URL and template
ALERT_ROOM = 96 << 10
#: what the end of a waiting run takes, in bytes; more than this many are covered by the reserve
WAITING_ROOM, WAITING_ROOM_MOST = 128, 16 << 20


class Room:
    """The account of what is free in the queue's files. `pending`: bytes decided, not written."""

    def __init__(self, journal: Journal, state: State) -> None:
        self._journal = journal
        self._state = state
        self.pending = 0
        #: what the queue's files had free when they were last asked. Only a batch makes it less
        #: (or another file: `sealed`), so until the next one it is true, or too little
        self._known = 0

    def promised(self) -> int:
        """Bytes that what was taken on will need to end."""
        waiting = min(self._state.waiting * WAITING_ROOM, WAITING_ROOM_MOST)
        active = len(self._state.active)
        made = min(active * self._state.reactions.most * REACTION_ROOM, REACTION_ROOM_MOST)
        return active * ATTEMPT_ROOM + made + waiting

    def room_for(self, size: int) -> int:
        """How many bytes fit, where `size` do; else less than `size`."""
        missing = self.missing(size)
        return self._known - BATCH_COST - self.pending - self.promised() if not missing else 0

    def missing(self, size: int) -> int:
        """How many bytes are missing for `size` more; 0 where they fit.

        The files are asked only where what they last had is not enough: they are asked for each
        request otherwise, on the hot path.
        """
        taken = size + BATCH_COST + self.pending + self.promised()
        if taken > self._known:
            self._known = self._journal.room()
        return max(0, taken - self._known)

    def written(self) -> None:
        """What was pending is in the files now, which have that much less."""
        self.pending = 0
        self._known = 0

    def sealed(self) -> None:
        """The queue goes on in another file: what was known of the room is out of date."""
        self._known = 0

    def require(self, size: int) -> None:
        """Raises RefusedError where there is no room for `size` bytes more."""
        missing = self.missing(size)
        if missing:
            raise RefusedError(
                f"queue {self._journal.directory}: its disk is full: {missing} bytes are missing; "
                "free some space there and ask again"
            )

    def for_attempt(self) -> bool:
        """Whether another attempt may start: its end must fit too."""
        return not self.missing(ATTEMPT_ROOM)

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
#: what the end of a waiting run takes, in bytes; more than this many are covered by the reserve
WAITING_ROOM, WAITING_ROOM_MOST = 128, 16 << 20


class Room:
    """The account of what is free in the queue's files. `pending`: bytes decided, not written."""

    def __init__(self, journal: Journal, state: State) -> None:
        self._journal = journal
        self._state = state
        self.pending = 0

    def promised(self) -> int:
        """Bytes that what was taken on will need to end."""
        waiting = min(self._state.waiting * WAITING_ROOM, WAITING_ROOM_MOST)
        return len(self._state.active) * ATTEMPT_ROOM + waiting

    def free(self) -> int:
        """Bytes that new things may take."""
        return self._journal.room() - self.pending - self.promised()

    def require(self, size: int) -> None:
        """Raises RefusedError where there is no room for `size` bytes more."""
        missing = size + BATCH_COST - self.free()
        if missing > 0:
            raise RefusedError(
                f"queue {self._journal.directory}: its disk is full: {missing} bytes are missing; "
                "free some space there and ask again"
            )

    def for_attempt(self) -> bool:
        """Whether another attempt may start: its end must fit too."""
        return self.free() >= ATTEMPT_ROOM + BATCH_COST

"""What other threads want of one that waits for the kernel's events."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable


class Errands:
    """Work for a thread, which polls the descriptor :meth:`fileno` and then does what is there."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable while there is something to do."""
        return self._wake

    def wake(self) -> None:
        """Have the thread look around. From any thread."""
        os.eventfd_write(self._wake, 1)

    def post(self, work: Callable[[], None]) -> None:
        """Have the thread do `work`. From any thread."""
        self._waiting.put(work)
        self.wake()

    def run(self) -> None:
        """Do all that is there. For the thread itself."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        while not self._waiting.empty():
            self._waiting.get()()

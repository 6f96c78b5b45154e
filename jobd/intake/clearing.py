"""Removes claimed files whose runs are on disk, beside the thread that takes the next ones.

An unlink may take a millisecond on a busy disk, and nobody waits for it: what is left by a crash is
removed at the next start.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from jobd.intake.names import Claimed
from jobd.intake.spool import Spool

_log = logging.getLogger(__name__)


class Clearing:
    """The thread."""

    def __init__(self, spool: Spool, fatal: Callable[[BaseException], None]) -> None:
        self._spool = spool
        self._fatal = fatal
        self._inbox: queue.SimpleQueue[tuple[str, list[tuple[Claimed, bool]]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="drop-clearing", daemon=True)
        self._thread.start()

    def remove(self, job: str, files: list[tuple[Claimed, bool]]) -> None:
        """Remove files of a job, each with whether something is beside it. Safe in any thread."""
        self._inbox.put((job, files))

    def close(self) -> None:
        """End the thread after what is queued."""
        self._inbox.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        try:
            while (work := self._inbox.get()) is not None:
                job, files = work
                try:
                    with self._spool.folder(job) as folder:
                        for one, beside in files:
                            folder.remove(one, beside=beside)
                except OSError as error:
                    _log.warning("drops of job %s: not removed: %s", job, error.strerror)
        except BaseException as error:
            self._fatal(error)
            raise

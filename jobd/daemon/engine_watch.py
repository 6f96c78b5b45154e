"""The engine as a whole: reached at first, reconciled with the journal, watched ever after.

While it is out of reach, or its attempts have not been compared with what the journal knows, no run
is claimed: a reason for runs to wait, and nothing else (ARCHITECTURE, "Start").
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from jobd.core.model import Reason
from jobd.engine.base import Engine, EngineError, EngineInfo, EngineUnreachableError, Found

_log = logging.getLogger(__name__)

#: seconds between two looks at an engine that answers, and that does not
_EVERY, _EVERY_AWAY = 5.0, 1.0


class EngineWatch:
    """A thread that asks the engine how it is. `report` is called with what keeps runs from
    starting (None: nothing), `reconcile` with what the engine has, before anything starts, and
    `returned` when it answers again, so that whoever waits for it need not wait longer."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        report: Callable[[Reason | None], None],
        reconcile: Callable[[list[Found]], None],
        fatal: Callable[[BaseException], None],
        trouble: str = "does not answer",
        returned: Callable[[], None] = lambda: None,
        listens: Callable[[], bool] | None = None,
    ) -> None:
        """`trouble` says of the engine what it means that it cannot be reached; `listens` asks
        cheaply, each second, whether it is there at all."""
        self._engine = engine
        self._name = name
        self._report = report
        self._reconcile = reconcile
        self._fatal = fatal
        self._returned = returned
        self._listens = listens
        self._what = trouble
        self._info: EngineInfo | None = None
        self._reachable = False
        self._trouble = ""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        #: what a person should look at by hand
        self.strangers: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def start(self) -> None:
        """Begin; the first look is taken at once."""
        self._thread.start()

    def away(self, error: EngineUnreachableError) -> None:
        """Somebody had no answer: claims stop at once, and the next look decides.

        Safe in any thread. Told again and again while the engine is away, it does nothing more.
        """
        with self._lock:
            if not self._reachable:
                return
            self._lost(error)
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wake.set()

    def row(self) -> dict[str, Any]:
        """The engine as `status` shows it."""
        info = self._info
        notes = list(info.notes) if info else []
        return {
            "name": info.name if info else self._name,
            "version": info.version if info else None,
            "reachable": self._reachable,
            "error": self._trouble or None,
            "notes": [*notes, *self.strangers],
        }

    def _run(self) -> None:
        reconciled = False
        try:
            while not self._closing:
                self._wake.clear()
                reconciled = self._look(reconciled)
                self._rest()
        except BaseException as error:
            self._fatal(error)
            raise

    def _rest(self) -> None:
        """Until the next look is due, or somebody had no answer, or nobody listens any more."""
        if not self._reachable:
            self._wake.wait(_EVERY_AWAY)
            return
        until = time.monotonic() + _EVERY
        while (left := until - time.monotonic()) > 0 and not self._wake.wait(min(left, 1.0)):
            if self._listens is not None and not self._listens():
                return

    def _look(self, reconciled: bool) -> bool:
        try:
            info = self._engine.connect()
            if not reconciled:
                self._reconcile(self._engine.found())
        except EngineError as error:
            with self._lock:
                self._lost(error)
            return reconciled
        with self._lock:
            back = not self._reachable
            self._info = info
            self._reachable, self._trouble = True, ""
            # under the lock: it must not pass what somebody else reports meanwhile
            self._report(None)
        if back:
            _log.info("engine %s: %s answers", info.name, info.version)
            self._returned()
        return True

    def _lost(self, error: EngineError) -> None:
        if self._reachable or not self._trouble:
            _log.warning("engine %s: out of reach: %s", self._name, error)
        self._reachable, self._trouble = False, str(error)
        what = f" {self._what}" if isinstance(error, EngineUnreachableError) else ""
        self._report(Reason("engine", f"{self._name}{what}: {error}"))

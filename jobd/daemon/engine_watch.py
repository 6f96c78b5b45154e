"""The engine as a whole: reached at first, reconciled with the journal, watched ever after.

While it is out of reach, or its attempts have not been compared with what the journal knows, no run
is claimed: a reason for runs to wait, and nothing else (ARCHITECTURE, "Start").
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from jobd.core.model import Reason
from jobd.engine.base import Engine, EngineError, EngineInfo, EngineUnreachableError, Found

_log = logging.getLogger(__name__)

#: seconds between two looks at an engine that answers, and that does not
_EVERY, _EVERY_AWAY = 15.0, 2.0


class EngineWatch:
    """A thread that asks the engine how it is. `report` is called with what keeps runs from
    starting (None: nothing), `reconcile` with what the engine has, before anything starts."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        report: Callable[[Reason | None], None],
        reconcile: Callable[[list[Found]], None],
        fatal: Callable[[BaseException], None],
        trouble: str = "does not answer",
    ) -> None:
        """`trouble` says of the engine what it means that it cannot be reached."""
        self._engine = engine
        self._name = name
        self._report = report
        self._reconcile = reconcile
        self._fatal = fatal
        self._what = trouble
        self._info: EngineInfo | None = None
        self._reachable = False
        self._trouble = ""
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def start(self) -> None:
        """Begin; the first look is taken at once."""
        self._thread.start()

    def look_now(self) -> None:
        """Take the next look at once: somebody saw the engine fail. Safe in any thread."""
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wake.set()

    def row(self) -> dict[str, Any]:
        """The engine as `status` shows it."""
        info = self._info
        return {
            "name": info.name if info else self._name,
            "version": info.version if info else None,
            "reachable": self._reachable,
            "error": self._trouble or None,
            "notes": list(info.notes) if info else [],
        }

    def _run(self) -> None:
        reconciled = False
        try:
            while not self._closing:
                reconciled = self._look(reconciled)
                self._wake.wait(_EVERY if self._reachable else _EVERY_AWAY)
                self._wake.clear()
        except BaseException as error:
            self._fatal(error)
            raise

    def _look(self, reconciled: bool) -> bool:
        try:
            self._info = self._engine.connect()
            if not reconciled:
                found = self._engine.found()
                self._reconcile(found)
        except EngineUnreachableError as error:
            if self._reachable or not self._trouble:
                _log.warning("engine %s: out of reach: %s", self._name, error)
            self._reachable, self._trouble = False, str(error)
            self._report(Reason("engine", f"{self._name} {self._what}: {error}"))
            return reconciled
        except EngineError as error:
            self._reachable, self._trouble = False, str(error)
            self._report(Reason("engine", f"{self._name}: {error}"))
            return reconciled
        if not self._reachable:
            _log.info("engine %s: %s answers", self._name, self._info.version)
        self._reachable, self._trouble = True, ""
        self._report(None)
        return True

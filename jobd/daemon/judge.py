"""Whether the host ended an attempt, or it ended by itself (DURABILITY, "Failure modes")."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from jobd.daemon.control import Control
from jobd.daemon.patience import Losses, Timing
from jobd.engine.base import Ending, Engine, EngineUnreachableError, GoneError, Order

_ENGINE_STOPPED = "the engine stopped"
#: 128 + SIGKILL, 128 + SIGTERM
_KILLED, _TERMINATED = 137, 143


@dataclass(frozen=True, slots=True)
class Judgement:
    """An ending as it is known after all; `fault`: what of the host caused it, or None.

    `removed`: somebody removed the attempt by force, which in between looks like an end by SIGKILL.
    """

    ending: Ending
    fault: str | None = None
    removed: bool = False


class Judge:
    """Judges one attempt's ending. `boot_ms` is when the host was started, where an earlier daemon
    had the attempt, else None; milliseconds UTC."""

    def __init__(
        self,
        engine: Engine,
        order: Order,
        control: Control,
        losses: Losses,
        timing: Timing,
        boot_ms: int | None,
    ) -> None:
        self._engine = engine
        self._ref = order.ref
        self._control = control
        self._losses = losses
        self._window = timing.fault_window
        self._boot_ms = boot_ms
        # how an engine that stops ends its attempts: with the attempt's own signal, then SIGKILL
        own = signal_number(order.stop_signal)
        self._killed = {_KILLED, _TERMINATED, *([128 + own] if own else [])}

    def judge(self, ending: Ending) -> Judgement:
        """May wait for some seconds, and for the engine. Raises ClosedError."""
        if self._control.asked or ending.oom:
            return Judgement(ending)
        if ending.host_fault is not None:
            fault = (ending.error or "the host failed") if ending.host_fault else None
            return Judgement(ending, fault)
        killed = ending.exit_code in self._killed
        if self._boot_ms is not None and ending.started_at < self._boot_ms:
            # the host was started anew since: the engine ends what it finds dead with 255
            ended_so = killed or ending.finished_at >= self._boot_ms
            return Judgement(ending, "the host was started anew" if ended_so else None)
        return self._wait(ending) if killed else Judgement(ending)

    def _wait(self, ending: Ending) -> Judgement:
        """An engine that is going down has closed its door, or is about to."""
        window = self._window
        if self._losses.near(ending.finished_at, window):
            return Judgement(ending, _ENGINE_STOPPED)
        since_end = time.time() - ending.finished_at / 1000
        until = time.monotonic() + min(max(window - since_end, 0.0), window)
        while True:
            try:
                since = self._engine.connect().started_at
                if since is not None and ending.started_at < since:
                    # an earlier engine began it, and may have taken it along when it stopped
                    near = ending.finished_at <= since + int(window * 1000)
                    return Judgement(ending, _ENGINE_STOPPED if near else None)
                # the word that memory ran out may come after that of the end
                again = self._engine.ending(self._ref)
            except EngineUnreachableError:
                return Judgement(ending, _ENGINE_STOPPED)
            except GoneError:
                return Judgement(ending, removed=ending.exit_code == _KILLED)
            left = until - time.monotonic()
            if left <= 0 or (again is not None and again.oom):
                return Judgement(again or ending)
            self._control.pause(min(left, 0.5))


def signal_number(name: str) -> int:
    """The number of a signal given as `SIGTERM` or `TERM`; 0 for one that this host lacks."""
    known = getattr(signal.Signals, "SIG" + name.removeprefix("SIG"), None)
    return 0 if known is None else int(known)

"""What others ask of an attempt's driver: to stop the attempt, to discard it, to end its thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobd.daemon.patience import Backoff, Timing
from jobd.engine.base import Engine, EngineUnreachableError, ForeignError, GoneError


class ClosedError(Exception):
    """The daemon stops: the thread that meets this ends, and leaves the attempt as it is."""


def guarded(body: Callable[[], None], fatal: Callable[[Exception], None]) -> None:
    """Run a thread's body; an error that nobody expected goes to `fatal`.

    A driver that died alone would leave its run active for ever, so the daemon has to die with it
    (ARCHITECTURE, principle 10). One of the three places that catch Exception.
    """
    try:
        body()
    except ClosedError:
        pass
    except Exception as error:  # noqa: BLE001
        fatal(error)


class Control:
    """Takes what is asked from any thread, and never blocks it; sends signals by a helper thread.

    `asked` is true once the attempt was told to stop, by this daemon or an earlier one.
    """

    def __init__(
        self,
        engine: Engine,
        ref: str,
        timing: Timing,
        fatal: Callable[[Exception], None],
        asked: bool = False,
    ) -> None:
        self._engine = engine
        self._ref = ref
        self._timing = timing
        self._fatal = fatal
        self._changed = threading.Condition()
        self._signal: str | None = None
        self._delivering = False
        self._alive = False
        self._over = False
        self._discard = False
        self._closing = False
        self._nudges = 0
        self.asked = asked

    def stop(self, signal: str) -> None:
        """See to it that the attempt gets `signal` (`SIGTERM`), or does not begin at all.

        Tried again until the engine has taken it or the attempt has ended; a later signal takes
        the place of one that is still on its way.
        """
        with self._changed:
            self.asked = True
            self._signal = signal
            self._changed.notify_all()
            self._deliver_soon()

    def kill(self) -> None:
        """See to it that the attempt is killed, for the host's fault: nobody asked for its end."""
        with self._changed:
            self._signal = "SIGKILL"
            self._changed.notify_all()
            self._deliver_soon()

    def discard(self) -> None:
        """The end is durable: what is left of the attempt is to be removed."""
        with self._changed:
            self._discard = True
            self._changed.notify_all()

    def close(self) -> None:
        """The daemon stops."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def nudge(self) -> None:
        """The engine is within reach again: try at once what waits for it."""
        with self._changed:
            self._nudges += 1
            self._changed.notify_all()

    # ---- for the driver's thread

    @property
    def alive(self) -> bool:
        """Whether the attempt is known to run."""
        return self._alive and not self._over

    def began(self) -> None:
        """The attempt runs: a signal that was asked for meanwhile is sent now."""
        with self._changed:
            self._alive = True
            self._deliver_soon()

    def ended(self) -> None:
        """The attempt runs no more: no signal is owed to it."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def told_to_stop(self) -> bool:
        """Whether a signal was asked for that has not been sent."""
        with self._changed:
            self._check()
            return self._signal is not None

    def check_open(self) -> None:
        """Raises ClosedError where the daemon stops."""
        with self._changed:
            self._check()

    def pause(self, seconds: float, wake_on_stop: bool = False) -> None:
        """Wait; less where nudged, or told to stop if `wake_on_stop`. Raises ClosedError."""
        with self._changed:
            nudges = self._nudges
            self._changed.wait_for(
                lambda: (
                    self._closing
                    or self._nudges != nudges
                    or (wake_on_stop and self._signal is not None)
                ),
                seconds,
            )
            self._check()

    def wait_for_discard(self) -> None:
        """Wait until the end is durable. Raises ClosedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._discard or self._closing)
            self._check()

    def _check(self) -> None:
        if self._closing:
            raise ClosedError

    # ---- signals

    def _deliver_soon(self) -> None:
        # by a thread of its own, as the driver's is in the output and the core's must not wait
        if self._alive and self._signal is not None and not self._delivering:
            self._delivering = True
            threading.Thread(
                target=guarded,
                args=(self._deliver, self._fatal),
                name=f"signal {self._ref}",
                daemon=True,
            ).start()

    def _deliver(self) -> None:
        backoff = Backoff(self._timing)
        while True:
            with self._changed:
                signal = self._signal
                if signal is None or self._over or self._closing:
                    self._delivering = False
                    return
            try:
                self._engine.signal(self._ref, signal)
            except EngineUnreachableError:
                with self._changed:
                    self._changed.wait_for(
                        lambda sent=signal: (  # type: ignore[misc]
                            self._closing or self._over or self._signal != sent
                        ),
                        backoff.pause(),
                    )
                continue
            except (GoneError, ForeignError):
                pass  # whoever follows the attempt finds that out
            with self._changed:
                if self._signal == signal:
                    self._signal = None

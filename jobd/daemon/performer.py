"""Carries out the core's effects: orders are built in the loop, everything else beside it.

One thread takes the effects in their order (a stop must not overtake the start it is for) and hands
them to the attempts' drivers, which have threads of their own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jobd.core.commands import Report, ReportRefused, ReportUnstarted
from jobd.core.effects import DiscardAttempt, Effect, SignalAttempt, StartAttempt
from jobd.core.entities import Attempt, Run
from jobd.core.state import State
from jobd.daemon import orders
from jobd.daemon.drivers import Drivers
from jobd.daemon.kernel import DaemonKernel
from jobd.daemon.workdir import Inputs
from jobd.engine.base import Order, StartRefusedError
from jobd.errors import QueueDamagedError, RefusedError
from jobd.intake.spool import Spool

#: seconds for which an attempt waits for the history to be readable
_PATIENCE = 30.0


class EffectPerformer:
    """The performer of the loop's effects. `perform`, `adopt_all` belong to the loop's thread."""

    def __init__(
        self,
        state: State,
        kernel: DaemonKernel,
        drivers: Drivers,
        *,
        store: bytes,
        work: Path,
        secrets: Path,
        spool: Spool,
        owner: tuple[int, int] | None,
        log_bytes: int,
        post: Callable[[Report], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._kernel = kernel
        self._drivers = drivers
        self._store = store
        self._work = work
        self._secrets = secrets
        self._spool = spool
        self._owner = owner
        #: as Drivers.log_limit; the engine's own copy is bounded in step with it
        self.log_bytes = log_bytes
        self._post = post
        self._fatal = fatal
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="performer", daemon=True)
        self._thread.start()

    def perform(self, effect: Effect) -> None:
        """Set the effect going."""
        if isinstance(effect, StartAttempt):
            self._start(effect)
        elif isinstance(effect, SignalAttempt):
            self._queue.put(lambda: self._drivers.stop(*effect))
        elif isinstance(effect, DiscardAttempt):
            self.discard(effect.run, effect.number)

    def discard(self, run: int, number: int) -> None:
        """Have what is left of an ended attempt removed."""
        ref = orders.reference(self._store, run, number)
        found = self._state.runs.get(run)
        image = (found.spec.image or "") if found is not None else ""
        self._queue.put(lambda: self._drivers.discard(run, number, ref, image))

    def adopt_all(self) -> None:
        """Take over the attempts that an earlier daemon left, whatever has become of them."""
        for run in list(self._state.active.values()):
            attempt = run.attempt
            if attempt is None:
                continue
            self._adopt(run, attempt)
            if attempt.stopping is not None:
                self.perform(SignalAttempt(run.id, attempt.number, run.spec.stop_signal))

    def close(self) -> None:
        """End the thread after what is queued; the drivers are closed by their owner."""
        self._queue.put(None)
        self._thread.join(5)

    def _start(self, effect: StartAttempt) -> None:
        run, attempt = self._find(effect.run, effect.number)
        order = self._order(run, attempt)
        parents = self._parents(run)

        def work() -> None:
            equipped = self._equip(run, order, parents)
            if equipped is not None:
                self._drivers.start(*equipped)

        self._queue.put(work)

    def _adopt(self, run: Run, attempt: Attempt) -> None:
        order = self._order(run, attempt)
        started = attempt.started is not None
        stopping = attempt.stopping is not None
        parents = self._parents(run)

        def work() -> None:
            if started:
                self._drivers.adopt(order, None, started=True, stopping=stopping)
                return
            equipped = self._equip(run, order, parents)
            if equipped is not None:
                self._drivers.adopt(*equipped, started=False, stopping=stopping)

        self._queue.put(work)

    def _order(self, run: Run, attempt: Attempt) -> Order:
        held = orders.held_payload(run, self._spool)
        return orders.build(self._store, run, attempt, self._work, self.log_bytes, held)

    def _parents(self, run: Run) -> list[Run]:
        """Its parents that are there; looked up in the loop's thread, as the table is its own."""
        found = (self._state.runs.get(number) for number, _ in run.option("after") or ())
        return [parent for parent in found if parent is not None]

    def _equip(self, run: Run, order: Order, parents: list[Run]) -> tuple[Order, Inputs] | None:
        """Secrets, payload, parents' results; None where some are not to be had: reported."""
        try:
            parents = [*parents, *self._archived(run, parents)]
            results = {parent.id: self._kernel.result_source(parent) for parent in parents}
            inputs = orders.inputs(
                run,
                lambda: order.payload or self._kernel.payload_source(run),
                self._secrets,
                self._owner,
                {number: result for number, result in results.items() if result is not None},
            )
            variables = orders.secret_variables(run, self._secrets)
        except StartRefusedError as error:
            self._post(ReportRefused(order.run, order.attempt, str(error), error.exit_code))
            return None
        except RefusedError as error:
            self._post(ReportUnstarted(order.run, order.attempt, str(error)))
            return None
        return replace(order, env={**order.env, **variables}), inputs

    def _archived(self, run: Run, parents: list[Run]) -> list[Run]:
        """Its parents that had left memory before it was queued. Raises RefusedError."""
        after = {number for number, _ in run.option("after") or ()}
        missing = sorted(after - {parent.id for parent in parents})
        if not missing:
            return []
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                found = self._kernel.history.runs(missing)
                for problem in found.values():
                    if isinstance(problem, QueueDamagedError):
                        raise StartRefusedError(f"not started: its parent's {problem}")
                return [one for one in found.values() if isinstance(one, Run)]
            except RefusedError:
                # after a start the index takes a moment; an attempt must not be given up for that
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _find(self, run_id: int, number: int) -> tuple[Run, Attempt]:
        run = self._state.runs.get(run_id)
        assert run is not None
        attempt = run.attempt
        assert attempt is not None
        assert attempt.number == number
        return run, attempt

    def _run(self) -> None:
        try:
            while True:
                work = self._queue.get()
                if work is None:
                    return
                work()
        except BaseException as error:
            self._fatal(error)
            raise

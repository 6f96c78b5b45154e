"""Follows one attempt's output into its log until it has ended, across every kind of break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobd.daemon.control import Control
from jobd.daemon.patience import Backoff, Losses, Timing
from jobd.engine.base import (
    Ending,
    Engine,
    EngineUnreachableError,
    ForeignError,
    GoneError,
    Line,
    OrphanedError,
    Phase,
    Progress,
)
from jobd.runlog.writer import LogWriter

#: passes over an ended attempt's output that may break before the known lines came again
_PASSES = 10


class LostError(Exception):
    """The attempt had started and is gone; nobody can tell how it ended."""


class Follower:
    """Brings an attempt's output into `log`, each line once, and finds out how it ends.

    An engine out of reach is asked again for as long as it takes: that says nothing about the
    attempt (DURABILITY, "engine unreachable 30 s -> jobs declared dead, run twice"). Methods raise
    ClosedError when the daemon stops.
    """

    def __init__(
        self,
        engine: Engine,
        ref: str,
        log: LogWriter,
        *,
        control: Control,
        losses: Losses,
        timing: Timing,
        progress: Progress,
        idle: float | None = None,
        quiet: Callable[[], None] = lambda: None,
    ) -> None:
        """`quiet` is called when no output has come for `idle` seconds, and again each so long.

        Only what is followed can be found silent: not where the log is full, or the engine away.
        """
        self._idle = idle
        self._quiet = quiet
        self._engine = engine
        self._ref = ref
        self._log = log
        self._control = control
        self._losses = losses
        self._timing = timing
        self._progress = progress
        self._backoff = Backoff(timing)
        self._gap = 0.0

    def until_ended(self) -> Ending:
        """Follow the output until the attempt has ended. Raises LostError."""
        while True:
            self._follow()
            ending = self._look()
            if ending is not None:
                return ending
            # the end of a stream proves nothing: it broke, or is not followed just now
            pause = self._timing.poll if self._log.full else self._backoff.pause()
            self._control.pause(pause)

    def _follow(self) -> None:
        log = self._log
        if log.full:
            return  # ARCHITECTURE, "Output": the tail is fetched when the attempt has ended
        since = log.resume()
        self._note_gap()
        try:
            if not log.stalled:
                self._take(self._engine.output(self._ref, since))
        except EngineUnreachableError:
            self._losses.lost()
        except (GoneError, ForeignError):
            pass  # the look that follows decides
        if log.stalled:
            self._progress(f"log not written, tried again soon: {log.trouble}")

    def _take(self, stream: Iterator[list[Line]]) -> None:
        log = self._log
        last = time.monotonic()
        with _closed(stream) as batches:
            for batch in batches:
                self._control.check_open()
                self._answered()
                if batch:
                    log.append(batch)
                    last = time.monotonic()
                elif self._idle is not None and time.monotonic() - last >= self._idle:
                    last = time.monotonic()
                    self._quiet()
                if log.full or log.stalled:
                    return
                if batch:
                    self._backoff.reset()

    def _look(self) -> Ending | None:
        """How it ended, or None while it runs; waits for the engine. Raises LostError.

        Gone is believed when it is said twice, some seconds apart (DURABILITY, "spurious
        NoSuchContainer").
        """
        first: float | None = None
        while True:
            try:
                ending = self._engine.ending(self._ref)
                if ending is not None or self._engine.phase(self._ref) is not Phase.CREATED:
                    self._answered()
                    return ending
                # starting it again could run it twice
                missing = "it had started, and the engine has it as never started"
            except OrphanedError as error:
                missing = str(error)
            except (GoneError, ForeignError):
                missing = "it had started and is gone: somebody removed it"
            except EngineUnreachableError as error:
                self._losses.lost()
                self._progress(f"waiting for the engine: {error}")
                self._control.pause(self._backoff.pause())
                continue
            self._answered()
            now = time.monotonic()
            if first is None:
                first = now
            elif now - first >= self._timing.gone_apart:
                raise LostError(missing)
            self._control.pause(self._timing.gone_apart)

    def _answered(self) -> None:
        away = self._losses.answered()
        if away > self._timing.notice:
            self._gap += away

    def _note_gap(self) -> None:
        if self._gap and not self._log.stalled:
            # lines written while the engine was away were seen to be missing, even with
            # live-restore (DURABILITY, finding 7)
            self._log.note(
                f"gap: the engine was out of reach for {self._gap:.1f} s; "
                "output may be missing here"
            )
            self._gap = 0.0

    def read_rest(self) -> None:
        """Read what the log lacks, until a pass over the last second's output brings nothing new.

        Always: a stream that ended whole looks like one that broke just before the end.
        """
        self._log.last_pass()
        until = time.monotonic() + self._timing.log_patience
        left = _PASSES
        while left:
            try:
                whole, fresh = self._pass_over()
                if whole:
                    return
                # the engine may have dropped known lines, and those never come again
                left -= not fresh
            except (GoneError, ForeignError):
                self._log.note("gap: the attempt was removed before its output was read")
                return
            except EngineUnreachableError as error:
                self._losses.lost()
                if time.monotonic() >= until:
                    self._log.note(f"gap: the engine did not give the rest of the output: {error}")
                    return
                self._control.pause(self._backoff.pause())
        self._log.note("gap: the engine does not give known lines again; the end may be missing")

    def _pass_over(self) -> tuple[bool, int]:
        """Whether that was all, and how many lines were new."""
        log = self._log
        since = log.resume()
        self._note_gap()
        fresh = 0
        with _closed(self._engine.output(self._ref, since)) as batches:
            for batch in batches:
                self._control.check_open()
                fresh += log.append(batch)
        whole = not fresh and not log.unmatched
        # a stream that broke ends as quietly as a whole one: an engine that is down says so here
        self._engine.phase(self._ref)
        self._answered()
        # a tail may be long to read: once has to do
        return whole or log.full or log.stalled, fresh


@contextmanager
def _closed(batches: Iterator[list[Line]]) -> Iterator[Iterator[list[Line]]]:
    """Lets go of the stream at once where it is left early, not when it is collected."""
    try:
        yield batches
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()

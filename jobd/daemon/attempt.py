"""The life of one attempt outside the core: started, followed into its log, its end reported.

One thread for each live attempt. The core decides; a driver finds out and does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jobd.core.commands import (
    Report,
    ReportEnded,
    ReportLost,
    ReportQuiet,
    ReportRefused,
    ReportStarted,
    ReportUnstarted,
)
from jobd.daemon.control import Control, guarded
from jobd.daemon.follow import Follower, LostError
from jobd.daemon.inside import Inside
from jobd.daemon.judge import Judge, Judgement
from jobd.daemon.patience import Backoff, Losses, Timing
from jobd.daemon.stdin import CUT, InputWatch
from jobd.daemon.workdir import Collected, Inputs, Output, Workdir
from jobd.engine.base import (
    CalledOffError,
    Ending,
    Engine,
    EngineUnreachableError,
    ForeignError,
    GoneError,
    Order,
    Phase,
    Progress,
    PullFailedError,
    Started,
    StartRefusedError,
    Usage,
)
from jobd.errors import DiskFailedError, QueueDamagedError, RefusedError
from jobd.runlog.writer import LogWriter

_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt, and what the journal knows of it.

    `started`: its start is recorded, so it is never started again. `recovered`: an earlier daemon
    had it. `stopping`: it was told to stop. `inputs` is None only for one that had started.
    """

    order: Order
    inputs: Inputs | None = None
    started: bool = False
    recovered: bool = False
    stopping: bool = False


class AttemptDriver:
    """Drives one attempt from its claim to its removal; see :class:`jobd.daemon.drivers.Drivers`.

    `post` takes reports for the core, `progress` short lines for people; both are called from the
    driver's thread. `fatal` is called with an error that nobody expected: the daemon must end.
    `boot_ms` is when the host was started (milliseconds UTC). What others ask goes through
    :attr:`control`.
    """

    def __init__(
        self,
        engine: Engine,
        assignment: Assignment,
        *,
        workdir: Workdir,
        open_log: Callable[[], LogWriter],
        post: Callable[[Report], None],
        progress: Progress,
        fatal: Callable[[Exception], None],
        timing: Timing,
        admit: Callable[[Order], Order] = lambda order: order,
        boot_ms: int = 0,
        inside: Inside | None = None,
    ) -> None:
        self._engine = engine
        self._assignment = assignment
        self._order = assignment.order
        self._id = (assignment.order.run, assignment.order.attempt)
        self.ref = assignment.order.ref
        self._workdir = workdir
        self._open_log = open_log
        self._report = post
        self._progress = progress
        self._fatal = fatal
        self._timing = timing
        self._admit = admit
        self._inside = inside
        self._backoff = Backoff(timing)
        self._losses = Losses()
        #: whether anything may have been made of it at the engine
        self._tried = assignment.recovered
        self._foreign = False
        self._begun = time.monotonic()
        self._told = ""
        self.control = Control(engine, self.ref, timing, fatal, assignment.stopping)
        self._judge = Judge(
            engine,
            assignment.order,
            self.control,
            self._losses,
            timing,
            boot_ms if assignment.recovered else None,
        )
        self._input = InputWatch(assignment.order.stdin, self.control)

    def run(self) -> None:
        """The thread's body: ends when the attempt is discarded or the daemon stops."""
        guarded(self._run, self._fatal)

    def usage(self) -> Usage:
        """What it has used so far, as its engine tells. Raises EngineError."""
        return self._engine.usage(self.ref)

    def _run(self) -> None:
        if self._assignment.started and self._inside is not None:
            self._inside.adopt()
        if self._assignment.started or self._begin():
            self.control.began()
            self._input.began()
            with self._open_log() as log:
                self._watch(log)
        self.control.ended()
        self._input.ended()
        if self._inside is not None:
            self._inside.over()
        self.control.wait_for_discard()
        engine = None if self._foreign else self._engine
        discard_patiently(engine, self.ref, self._workdir, self.control, self._timing)

    def _watch(self, log: LogWriter) -> None:
        follower = Follower(
            self._engine,
            self.ref,
            log,
            control=self.control,
            losses=self._losses,
            timing=self._timing,
            progress=self._progress,
            idle=self._order.idle,
            quiet=lambda: self._post(ReportQuiet(*self._id)),
        )
        if self._assignment.recovered and self._assignment.started:
            log.resume()
            log.note("adopted: jobd was started anew and follows the attempt on")
        try:
            ending = follower.until_ended()
        except LostError as lost:
            self._report_lost(log, str(lost))
            return
        self.control.ended()
        self._input.ended()
        follower.read_rest()
        self._report_end(log, ending)

    def _post(self, report: Report) -> None:
        self.control.check_open()
        self._report(report)

    # ---- the beginning

    def _begin(self) -> bool:
        """Start the attempt; False where it was reported as refused or unstarted instead."""
        if not self._prepared():
            return False
        while not self.control.told_to_stop():
            self._tried = True
            try:
                started = self._engine.start(self._admit(self._order), self._on_the_way)
            except CalledOffError:
                continue
            except StartRefusedError as error:
                self._post(ReportRefused(*self._id, str(error), error.exit_code))
                return False
            except ForeignError as error:
                return self._refuse_foreign(error)
            except PullFailedError as error:
                # nothing was made: what it holds of the host is others' until the registry answers
                if self._since_claim() >= self._timing.pull_patience:
                    self._post(ReportUnstarted(*self._id, str(error)))
                    return False
                self._progress(f"waiting for the registry: {error}")
                self.control.pause(self._backoff.pause(), wake_on_stop=True)
                continue
            except (EngineUnreachableError, GoneError) as error:
                # gone: somebody removed it while it was being started; made anew, it never ran
                self._progress(f"waiting for the engine: {error}")
                self.control.pause(self._backoff.pause(), wake_on_stop=True)
                continue
            self._backoff.reset()
            self._post_started(started)
            return True
        return self._call_off()

    def _on_the_way(self, text: str) -> None:
        """Tell how far a pull is; raises CalledOffError once the attempt is told to stop."""
        if self.control.told_to_stop():
            raise CalledOffError(f"{self.ref}: told to stop")
        if text != self._told:
            self._told = text
            self._progress(text)

    def _since_claim(self) -> float:
        return time.monotonic() - self._begun

    def _post_started(self, at: Started) -> None:
        self._post(ReportStarted(*self._id, at.engine_id, at.image_id, at.at, at.pull_ms))

    def _prepared(self) -> bool:
        inputs = self._assignment.inputs
        while inputs is not None and not self.control.told_to_stop():
            try:
                self._workdir.prepare(inputs)
                if self._inside is not None:
                    self._inside.open()
            except QueueDamagedError as error:
                self._post(ReportRefused(*self._id, str(error)))
                return False
            except (OSError, DiskFailedError) as error:
                self._progress(f"waiting for the disk: files of the attempt not made: {error}")
                self.control.pause(self._backoff.pause(), wake_on_stop=True)
                continue
            break
        self._backoff.reset()
        return True

    def _call_off(self) -> bool:
        """Told to stop before it was known to run; True where it turns out that it runs."""
        while self._tried:
            try:
                phase = self._phase_or_none()
                if phase in (Phase.RUNNING, Phase.EXITED):
                    started = self._engine.start(self._order, self._progress)  # finds it
                    self._post_started(started)
                    return True
                if phase is not Phase.UNCLEAR:
                    # also where the engine says that there is nothing: that may be a moment's word
                    self._engine.discard(self.ref)
                    break
            except ForeignError:
                self._foreign = True
                break
            except StartRefusedError:
                break  # it vanished between two calls, and cannot be made again
            except EngineUnreachableError as error:
                self._progress(f"waiting for the engine to be sure that nothing runs: {error}")
            self.control.pause(self._backoff.pause())
        self._post(ReportUnstarted(*self._id, "told to stop before it began", cancelled=True))
        return False

    def _phase_or_none(self) -> Phase | None:
        try:
            return self._engine.phase(self.ref)
        except GoneError:
            return None

    def _refuse_foreign(self, error: ForeignError) -> bool:
        self._foreign = True
        self._post(
            ReportRefused(
                *self._id, f"{error}; it was not touched: rename or remove it, then retry the run"
            )
        )
        return False

    # ---- the end

    def _report_end(self, log: LogWriter, ending: Ending) -> None:
        # jobd cut its input: the host's fault, however it ended
        cut = self._input.cut and not self.control.asked
        judgement = Judgement(ending, CUT) if cut else self._judge.judge(ending)
        if judgement.removed:
            self._report_lost(log, "it was killed and removed by somebody")
            return
        ending, fault = judgement.ending, judgement.fault
        self._close_inside(log)
        collected, output = self._collect(), self._collect_output()
        # of bounded length: room for it was kept in the queue when the attempt was claimed
        note = "; ".join(text for text in (collected.note, output.note) if text)[:1000] or None
        for each in (*ending.notes, *([note] if note else [])):
            log.note(each)
        log.finish(*ending.cut)
        self._post(
            ReportEnded(
                *self._id,
                exit_code=ending.exit_code,
                at=ending.finished_at,
                oom=ending.oom,
                host_fault=fault is not None,
                error="; ".join(dict.fromkeys(t for t in (fault, ending.error) if t)) or None,
                **_receipt(ending.usage),
                log_bytes=log.log_bytes,
                log_truncated=log.truncated,
                log_tail=log.last_words(),
                result=collected.result,
                output=output.body,
                output_files=output.files,
                note=note,
                progress=None if self._inside is None else self._inside.last_word,
            )
        )

    def _report_lost(self, log: LogWriter, how: str) -> None:
        self._close_inside(log)
        log.note(f"lost: {how}")
        log.finish()
        self._post(ReportLost(*self._id, how))

    def _close_inside(self, log: LogWriter) -> None:
        if self._inside is not None:
            for note in self._inside.close(self.control, self._progress, self._timing):
                log.note(note)

    def _collect(self) -> Collected:
        kept = self._patiently("result", self._workdir.collect_result)
        return Collected(note=kept) if isinstance(kept, str) else kept

    def _collect_output(self) -> Output:
        kept = self._patiently("output", self._workdir.collect_output)
        return Output(note=kept) if isinstance(kept, str) else kept

    def _patiently(self, what: str, collect: Callable[[], _Kept]) -> _Kept | str:
        """What `collect` gives, or a note where the disk had no room for it for too long."""
        until = time.monotonic() + self._timing.result_patience
        while True:
            try:
                return collect()
            except RefusedError as error:
                if time.monotonic() >= until:
                    return f"{what} lost: {error}"
                self._progress(f"waiting for room for the {what}: {error}")
                self.control.pause(self._backoff.pause())


def _receipt(usage: Usage) -> dict[str, Any]:
    """What it used, by the report's names; what it uses now is over."""
    return {each.name: getattr(usage, each.name) for each in fields(usage) if each.name in _USED}


_USED = frozenset(each.name for each in fields(ReportEnded))


def discard_patiently(
    engine: Engine | None, ref: str, workdir: Workdir, control: Control, timing: Timing
) -> None:
    """Remove what is left of an attempt, at the engine and on the disk; tried until it is gone.

    `engine` is None where what bears the attempt's name is not ours. Raises ClosedError.
    """
    backoff = Backoff(timing)
    while True:
        try:
            if engine is not None:
                engine.discard(ref)
            workdir.remove()
            return
        except ForeignError:
            engine = None  # not ours: not touched
        except (EngineUnreachableError, OSError):
            control.pause(backoff.pause())

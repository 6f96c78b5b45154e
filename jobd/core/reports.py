"""What follows from what the workers found out about an attempt.

A report may come late or twice (after a restart both ends start afresh): one that no longer fits
the state changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import breaker
from jobd.core import events as e
from jobd.core.changes import stop
from jobd.core.commands import (
    Body,
    ReportEnded,
    ReportLost,
    ReportQuiet,
    ReportRefused,
    ReportStarted,
    ReportUnstarted,
)
from jobd.core.effects import DiscardAttempt, Effect, SignalAttempt
from jobd.core.entities import Attempt, Run
from jobd.core.model import Now
from jobd.core.policy import after_end, outcome_of
from jobd.core.state import State
from jobd.core.states import AttemptState, Outcome, RunState
from jobd.units import duration_text

#: events and effects
Consequence = tuple[list[e.Event], list[Effect]]


def _live(state: State, run_id: int, number: int) -> tuple[Run, Attempt] | None:
    run = state.runs.get(run_id)
    if run is None or run.state is not RunState.ACTIVE:
        return None
    attempt = run.attempt
    if attempt is None or attempt.number != number or attempt.state is AttemptState.ENDED:
        return None
    return run, attempt


def _end(state: State, run: Run, end: e.AttemptEnded) -> Consequence:
    events: list[e.Event] = [end, after_end(run, end), *breaker.after_end(state, run, end)]
    return events, [DiscardAttempt(run.id, end.number)]


def _started(state: State, report: ReportStarted, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    if found is None or found[1].started is not None:
        return [], []
    run, attempt = found
    event = e.AttemptStarted(
        run.id,
        attempt.number,
        now.wall,
        report.at,
        report.engine_id,
        report.image_id,
        report.pull_ms,
    )
    effects: list[Effect] = []
    if attempt.stopping is not None:
        effects.append(SignalAttempt(run.id, attempt.number, run.spec.stop_signal))
    return [event], effects


def _ended(state: State, report: ReportEnded, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    if found is None:
        return [], []
    run, attempt = found
    outcome = outcome_of(attempt, report)
    end = e.AttemptEnded(
        run.id,
        attempt.number,
        now.wall,
        outcome,
        outcome is not Outcome.INTERRUPTED,
        report.exit_code,
        _error(report, outcome),
        report.at,
        report.oom,
        report.cpu_seconds,
        report.memory_peak,
        report.memory_peak_source,
        report.log_bytes,
        report.log_truncated,
        _recorded(report.result),
        report.log_tail,
        report.cpu_source,
        report.block_read,
        report.block_written,
        report.block_source,
        report.throttled_ms,
        report.throttled_periods,
        report.periods,
        report.throttle_source,
        _recorded(report.output),
        report.output_files,
        report.note,
        None if report.progress is None else [*report.progress],
    )
    return _end(state, run, end)


def _error(report: ReportEnded, outcome: Outcome) -> str | None:
    """Kept where it tells of the host's fault, or that the command could not be executed.

    All else of the job's own is told by its exit status.
    """
    unexecuted = outcome is Outcome.FAILED and report.exit_code in (126, 127)
    return report.error if unexecuted or outcome is Outcome.INTERRUPTED else None


def _recorded(body: bytes | Body | None) -> Any:
    """Bytes as they are; a body file by its name."""
    return [body.name, body.size, body.crc] if isinstance(body, Body) else body


def _refused(state: State, report: ReportRefused, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    if found is None:
        return [], []
    run, attempt = found
    stopping = attempt.stopping
    outcome = Outcome(stopping.why) if stopping else Outcome.FAILED
    end = e.AttemptEnded(
        run.id, attempt.number, now.wall, outcome, True, report.exit_code, report.error
    )
    return _end(state, run, end)


def _quiet(state: State, report: ReportQuiet, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    idle = found[0].spec.idle_timeout if found is not None else None
    if found is None or idle is None or found[1].state is not AttemptState.RUNNING:
        return [], []
    text = f"gave no output for {duration_text(idle)} (idle_timeout)"
    told = stop(found[0], now, "timed-out", None, text)
    return told.events, told.effects


def _lost(state: State, report: ReportLost, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    if found is None:
        return [], []
    run, attempt = found
    stopping = attempt.stopping
    outcome = Outcome(stopping.why) if stopping else Outcome.LOST
    end = e.AttemptEnded(run.id, attempt.number, now.wall, outcome, True, None, report.error)
    return _end(state, run, end)


def _unstarted(state: State, report: ReportUnstarted, now: Now) -> Consequence:
    found = _live(state, report.run, report.attempt)
    if found is None:
        return [], []
    run, attempt = found
    stopping = attempt.stopping
    outcome = Outcome(stopping.why) if stopping else Outcome.INTERRUPTED
    charged = outcome is not Outcome.INTERRUPTED
    end = e.AttemptEnded(run.id, attempt.number, now.wall, outcome, charged, None, report.error)
    return _end(state, run, end)


TAKERS: dict[type[Any], Callable[[State, Any, Now], Consequence]] = {
    ReportStarted: _started,
    ReportEnded: _ended,
    ReportRefused: _refused,
    ReportQuiet: _quiet,
    ReportLost: _lost,
    ReportUnstarted: _unstarted,
}

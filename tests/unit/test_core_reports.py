"""What the workers found out is taken once, whenever it comes; else it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobd.core.commands import (
    CancelRun,
    Report,
    ReportEnded,
    ReportLost,
    ReportRefused,
    ReportStarted,
    ReportUnstarted,
)
from jobd.core.effects import DiscardAttempt, SignalAttempt
from jobd.core.states import AttemptState, RunState
from jobd.core.status import status
from tests.support.core import START, Bench, dump_all, problems
from tests.support.situations import SITUATIONS, claimed, running

LIVE = {"claimed", "running", "stopping"}


def reports(run: int, attempt: int) -> list[Report]:
    """One report of each kind."""
    at = START.wall + 10
    return [
        ReportStarted(run, attempt, "engine", "image", at, 7),
        ReportRefused(run, attempt, "no such image"),
        ReportEnded(run, attempt, 0, at),
        ReportLost(run, attempt, "gone"),
        ReportUnstarted(run, attempt, "not begun"),
    ]


KINDS = pytest.mark.parametrize("kind", range(5), ids=[type(r).__name__ for r in reports(1, 1)])


@KINDS
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_a_report_is_taken_where_it_fits_and_nowhere_else(
    situation: Callable[[Bench], Any], kind: int
) -> None:
    bench = Bench()
    bench.register(retry={"attempts": 5})
    run, name = situation(bench), situation.__name__
    report = reports(run.id, 1)[kind]
    fits = name in LIVE and not (isinstance(report, ReportStarted) and name != "claimed")
    before = dump_all(bench.state)
    decision = bench.do(report)
    if name == "ended":
        assert (decision.events, decision.effects) == ([], [])
        return
    assert list(problems(bench.state)) == []
    if not fits:
        assert (decision.events, decision.effects) == ([], [])
        assert dump_all(bench.state) == before
        return
    attempt = run.attempts[0] if run.attempts else None
    assert attempt is not None
    if isinstance(report, ReportStarted):
        assert (run.state, attempt.state) == (RunState.ACTIVE, AttemptState.RUNNING)
        assert attempt.started is not None
        assert attempt.started[1:] == (1, bench.now.wall, report.at, "engine", "image", 7)
    else:
        assert attempt.state is AttemptState.ENDED
        assert run.state is not RunState.ACTIVE
        assert decision.effects == [DiscardAttempt(run.id, 1)]
        assert len(decision.events) == 2, "the end and what follows are one decision"
    # the same again
    before = dump_all(bench.state)
    again = bench.do(report)
    assert (again.events, again.effects) == ([], [])
    assert dump_all(bench.state) == before


@KINDS
@pytest.mark.parametrize(("run", "attempt"), [(9, 1), (1, 0), (1, 2)])
def test_a_report_of_something_that_is_not_there(run: int, attempt: int, kind: int) -> None:
    bench = Bench()
    bench.register()
    running(bench)
    before = dump_all(bench.state)
    decision = bench.do(reports(run, attempt)[kind])
    assert (decision.events, decision.effects) == ([], [])
    assert dump_all(bench.state) == before


@KINDS
def test_a_report_of_the_attempt_before(kind: int) -> None:
    bench = Bench()
    bench.register(retry={"attempts": 3, "delay": 0})
    run = running(bench)
    bench.do(ReportEnded(run.id, 1, 1, bench.now.wall))
    assert bench.claim() == [run.id]
    before = dump_all(bench.state)
    assert bench.do(reports(run.id, 1)[kind]).events == []
    assert dump_all(bench.state) == before


def test_an_end_that_is_told_before_the_start_counts() -> None:
    bench = Bench()
    bench.register()
    run = claimed(bench)
    bench.do(ReportEnded(run.id, 1, 0, bench.now.wall))
    assert status(run) == "succeeded"
    assert bench.do(ReportStarted(run.id, 1, "e", "i", bench.now.wall)).events == []
    assert list(problems(bench.state)) == []


def test_what_turns_out_to_have_started_is_told_to_stop_again() -> None:
    bench = Bench()
    bench.register(stop_signal="SIGINT")
    run = claimed(bench)
    assert bench.do(CancelRun(run.id)).effects == [SignalAttempt(run.id, 1, "SIGINT")]
    decision = bench.do(ReportStarted(run.id, 1, "e", "i", bench.now.wall))
    assert decision.effects == [SignalAttempt(run.id, 1, "SIGINT")]
    assert status(run) == "stopping"
    bench.do(ReportEnded(run.id, 1, 0, bench.now.wall))
    assert status(run) == "cancelled"


def test_an_interrupted_start_is_not_charged_and_a_told_one_is() -> None:
    bench = Bench()
    bench.register()
    one, two = bench.queue(), bench.queue()
    bench.claim()
    bench.do(CancelRun(two.id))
    for run in (one, two):
        bench.do(ReportUnstarted(run.id, 1, "why", cancelled=run is two))
    assert (one.charged, two.charged) == (0, 1)


@pytest.mark.parametrize(("code", "told"), [(127, True), (126, True), (1, False)])
def test_a_command_that_cannot_be_executed_is_told_and_not_tried_again(
    code: int, told: bool
) -> None:
    """An init starts, and only then finds no program: the next attempt would end alike."""
    bench = Bench()
    bench.register(retry={"attempts": 5})
    run = running(bench)
    bench.do(ReportEnded(run.id, 1, code, bench.now.wall, error="cannot execute 'x': not there"))
    assert (run.state is RunState.DONE) is told
    if told:
        assert run.note is not None
        assert "cannot execute 'x'" in run.note.text

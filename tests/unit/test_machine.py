"""The table of transitions, tried on the state: what is not in it raises, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobd.core import events as e
from jobd.core import machine
from jobd.core.entities import Run
from jobd.core.states import AttemptState, RunState
from tests.support.core import Bench, dump_all, problems
from tests.support.situations import (
    ATTEMPT_EVENTS,
    RUN_EVENTS,
    SITUATIONS,
    WHO,
    event_for,
    running,
    waiting,
)


def allowed(run: Run, cls: type) -> RunState | None:
    """The state that the tables lead to, or None."""
    after = machine.RUN.get((run.state, cls))
    attempt = run.attempt
    if cls in ATTEMPT_EVENTS:
        if attempt is None or (attempt.state, cls) not in machine.ATTEMPT:
            return None
    elif after is RunState.ACTIVE:
        return after
    elif run.state is RunState.ACTIVE and attempt and attempt.state is not AttemptState.ENDED:
        return None  # a run does not leave before its attempt has ended
    return after


@pytest.mark.parametrize("cls", RUN_EVENTS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_every_pair(situation: Callable[[Bench], Run], cls: type) -> None:
    bench = Bench()
    bench.register(retry={"attempts": 5})
    run = situation(bench)
    rev, wanted = run.rev, allowed(run, cls)
    event = event_for(bench, run.id, cls)
    before = dump_all(bench.state)
    if wanted is None:
        with pytest.raises(machine.TransitionError, match=rf"\brun {run.id}\b"):
            bench.state.apply(event)
        assert dump_all(bench.state) == before
    else:
        assert bench.state.apply(event) == rev + 1
        assert run.state is wanted
        if wanted is not RunState.ACTIVE or run.attempt is None or run.attempt.end is None:
            assert list(problems(bench.state)) == []


def test_the_situations_cover_both_tables() -> None:
    runs, attempts = {None}, {None}
    for situation in SITUATIONS:
        bench = Bench()
        bench.register()
        run = situation(bench)
        runs.add(run.state)
        attempts.add(run.attempt.state if run.attempt else None)
    assert runs == {state for state, _ in machine.RUN} | {RunState.DONE}
    assert attempts == {state for state, _ in machine.ATTEMPT} | {AttemptState.ENDED}


@pytest.mark.parametrize("cls", RUN_EVENTS, ids=lambda cls: cls.__name__)
def test_an_unknown_run_can_only_be_queued(cls: type) -> None:
    bench = Bench()
    bench.register()
    before = dump_all(bench.state)
    if cls is e.RunQueued:
        assert bench.state.apply(event_for(bench, 7, cls)) == 1
        assert bench.state.next_run == 8
        return
    with pytest.raises(machine.TransitionError):
        bench.state.apply(event_for(bench, 7, cls))
    assert dump_all(bench.state) == before


@pytest.mark.parametrize(
    "event",
    [
        e.JobPaused(9, 0, WHO),
        e.JobResumed(9, 0, WHO),
        e.JobRemoved(9, 0, WHO),
        e.RunQueued(1, 9, 1, 0, "cli", WHO, b""),  # of a job that is not known
        e.RunQueued(1, 1, 2, 0, "cli", WHO, b""),  # of a revision that is not known
    ],
)
def test_what_is_not_known_raises_and_changes_nothing(event: e.Event) -> None:
    bench = Bench()
    bench.register()
    before = dump_all(bench.state)
    with pytest.raises(machine.TransitionError):
        bench.state.apply(event)
    assert dump_all(bench.state) == before


def test_a_definition_that_cannot_be_read_changes_nothing() -> None:
    bench = Bench()
    before = dump_all(bench.state)
    with pytest.raises(machine.TransitionError, match="job 1: "):
        # any table is read, whatever is refused today (core/stored.py)
        bench.state.apply(e.JobRegistered(1, "x", 1, "no table", 0, WHO))  # type: ignore[arg-type]
    assert dump_all(bench.state) == before


def test_an_outcome_that_is_not_known_changes_nothing() -> None:
    bench = Bench()
    bench.register()
    run = waiting(bench)
    before = dump_all(bench.state)
    with pytest.raises(machine.TransitionError, match="run 1: "):
        bench.state.apply(e.RunFinished(run.id, 0, "no-such", "code", "text"))
    assert dump_all(bench.state) == before


@pytest.mark.parametrize("number", [0, 2, 7])
def test_attempts_are_claimed_in_their_order(number: int) -> None:
    bench = Bench()
    bench.register()
    run = waiting(bench)
    before = dump_all(bench.state)
    with pytest.raises(machine.TransitionError):
        bench.state.apply(e.AttemptClaimed(run.id, number, 0))
    assert dump_all(bench.state) == before


@pytest.mark.parametrize("cls", ATTEMPT_EVENTS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("number", [0, -1, 2])
def test_an_event_of_another_attempt_raises(cls: type, number: int) -> None:
    bench = Bench()
    bench.register()
    run = running(bench)
    before = dump_all(bench.state)
    with pytest.raises(machine.TransitionError):
        bench.state.apply(event_for(bench, run.id, cls)._replace(number=number))  # type: ignore[call-arg]
    assert dump_all(bench.state) == before


def test_the_diagram_has_every_line_of_the_tables() -> None:
    text = machine.diagram()
    assert text.startswith("stateDiagram-v2\n")
    assert text.count(" --> ") == len(machine.RUN) + len(machine.ATTEMPT)
    assert "Run_WAITING --> Run_ACTIVE: AttemptClaimed" in text
    assert "[*] --> Attempt_CLAIMED: AttemptClaimed" in text

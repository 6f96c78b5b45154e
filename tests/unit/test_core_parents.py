"""Runs that wait for others: every end of a parent, every order, and over restarts."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    CancelRun,
    CancelRuns,
    HoldRun,
    MoveRunFirst,
    ReleaseRun,
    ReportEnded,
    RetryRuns,
)
from jobd.core.entities import Run
from jobd.core.machine import TransitionError
from jobd.core.states import Outcome
from jobd.core.status import reason, status
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from tests.support.core import Bench, dump, problems, queueing, refused
from tests.support.situations import WHO, event_for


@pytest.fixture
def bench() -> Bench:
    """A core with one job."""
    bench = Bench()
    bench.register()
    return bench


@pytest.fixture(autouse=True)
def sound(bench: Bench) -> Any:
    """Whatever a test did: counts and indexes are right, and a restart finds the same."""
    yield
    assert list(problems(bench.state)) == []
    before = dump(bench.state)
    bench.restart()
    assert dump(bench.state) == before
    assert list(problems(bench.state)) == []


def after(bench: Bench, *parents: int | tuple[int, str], **more: Any) -> Run:
    """A run that waits for others, to succeed where nothing else is said."""
    pairs = tuple((p, "ok") if isinstance(p, int) else p for p in parents)
    return bench.queue(after=pairs, **more)


def finish(bench: Bench, run: Run, exit_code: int = 0) -> None:
    """The run's attempt runs and ends."""
    if run.id not in bench.state.active:
        bench.claim()
    assert run.attempt is not None
    if run.attempt.started is None:
        bench.apply(event_for(bench, run.id, e.AttemptStarted))
    bench.do(ReportEnded(run.id, run.attempt.number, exit_code, bench.now.wall))


def word(run: Run) -> str:
    return str(status(run))


def test_a_run_waits_for_its_parent(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id)
    assert (word(child), bench.claim()) == ("blocked", [parent.id])
    assert reason(child, bench.now, None) == ("parents", "waits for run 1 to succeed")
    finish(bench, parent)
    assert (word(child), bench.state.dirty, bench.claim()) == ("queued", True, [child.id])


@pytest.mark.parametrize("condition", ["ok", "any", "fail"])
@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.INTERRUPTED])
@pytest.mark.parametrize("ended", [False, True], ids=["ends later", "had ended"])
def test_every_end_of_a_parent(bench: Bench, outcome: Outcome, condition: str, ended: bool) -> None:
    parent = bench.queue()
    end = e.RunFinished(parent.id, bench.now.wall, outcome, "code", "text")
    if ended:
        bench.apply(end)
        child = after(bench, (parent.id, condition))
    else:
        child = after(bench, (parent.id, condition))
        bench.apply(end, *skips(bench, end))
    good = condition == "any" or (condition == "ok") is (outcome == "succeeded")
    assert word(child) == ("queued" if good else "skipped")
    if not good:
        wish = {"ok": "succeed", "fail": "fail"}[condition]
        told = reason(child, bench.now, None)
        assert told == ("parent", f"run 1 was to {wish} and is {outcome}")


def skips(bench: Bench, *events: e.Event) -> list[e.Event]:
    """What `decide` adds to events that it has made."""
    from jobd.core.skips import skipped_by

    return skipped_by(bench.state, events, bench.now.wall)


def test_all_parents_have_to_end_and_one_can_let_it_down(bench: Bench) -> None:
    one, two, three = (bench.queue() for _ in range(3))
    child = after(bench, one.id, (two.id, "fail"), (three.id, "any"))
    bench.claim()
    finish(bench, one)
    assert reason(child, bench.now, None) == ("parents", "waits for run 2 to fail, and for 1 more")
    finish(bench, three, 1)
    assert word(child) == "blocked"
    finish(bench, two)
    assert word(child) == "skipped"


def test_a_parent_that_is_tried_again_has_not_ended(bench: Bench) -> None:
    bench.register(retry={"attempts": 2})
    parent = bench.queue()
    child = after(bench, parent.id)
    finish(bench, parent, 1)
    assert (word(parent), word(child)) == ("retrying", "blocked")
    bench.later(60_000)
    finish(bench, parent)
    assert (word(parent), word(child)) == ("succeeded", "queued")


def test_the_parent_run_counts_and_not_the_one_that_does_it_again(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id)
    finish(bench, parent, 1)
    assert word(child) == "skipped"
    (again,) = bench.do(RetryRuns([(parent.id, b"")])).answer
    finish(bench, bench.run(again[1]))
    assert word(child) == "skipped"
    assert bench.do(RetryRuns([(child.id, b"")])).answer
    assert word(bench.run(4)) == "queued", "a retried child waits for nobody"


def test_it_goes_on_down_the_line(bench: Bench) -> None:
    first = bench.queue()
    second = after(bench, first.id)
    third = after(bench, second.id)
    cleanup = after(bench, (third.id, "fail"))
    last = after(bench, (cleanup.id, "any"), first.id)
    bench.do(CancelRun(first.id))
    assert [word(run) for run in (second, third, cleanup, last)] == [
        "skipped", "skipped", "queued", "skipped",
    ]  # fmt: skip
    assert bench.claim() == [cleanup.id]


def test_many_parents_cancelled_by_one_record(bench: Bench) -> None:
    bench.register("other")
    bench.do(queueing(*[b""] * 20))
    child = after(bench, 7, job="other")
    either = after(bench, (8, "any"), job="other")
    inside = after(bench, 9)
    bench.do(CancelRuns([*range(1, 21), inside.id]))
    assert isinstance(bench.events[-2], e.JobRunsCancelled)
    assert [word(run) for run in (child, either, inside)] == ["skipped", "queued", "cancelled"]


def test_a_date_and_parents_both_have_to_pass(bench: Bench) -> None:
    parent = bench.queue()
    late = bench.now.wall + 10_000
    one, two = after(bench, parent.id, not_before=late), after(bench, parent.id, not_before=late)
    assert word(one) == "delayed", "blocked is for parents and for nothing else"
    bench.later(10_000)
    assert word(one) == "blocked"
    finish(bench, parent)
    assert (word(one), word(two)) == ("queued", "queued")
    assert bench.claim() == [one.id, two.id]


def test_parents_that_end_before_the_date(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id, not_before=bench.now.wall + 10_000)
    finish(bench, parent)
    assert word(child) == "delayed"
    bench.later(10_000)
    assert bench.claim() == [child.id]


def test_held_while_its_parents_end(bench: Bench) -> None:
    parent = bench.queue()
    child, other = after(bench, parent.id), after(bench, (parent.id, "fail"))
    for run in (child, other):
        bench.do(HoldRun(run.id))
    finish(bench, parent)
    assert (word(child), word(other)) == ("held", "skipped")
    bench.do(ReleaseRun(child.id))
    assert bench.claim() == [child.id]


def test_released_before_its_parents_end(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id)
    bench.do(HoldRun(child.id))
    bench.do(ReleaseRun(child.id))
    assert (word(child), bench.claim()) == ("blocked", [parent.id])


def test_blocked_for_too_long(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id, expires=5_000)
    grandchild = after(bench, child.id)
    bench.claim()
    bench.later(5_000)
    assert (word(child), word(grandchild)) == ("expired", "skipped")


def test_over_a_restart(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id)
    bench.restart()
    assert word(bench.run(child.id)) == "blocked"
    finish(bench, bench.run(parent.id))
    bench.restart()
    assert bench.claim() == [child.id]


def test_several_children_of_one_request_are_let_down_together(bench: Bench) -> None:
    parent = bench.queue()
    bench.do(CancelRun(parent.id))
    runs = bench.do(queueing(b"", b"", after=((parent.id, "ok"),))).answer[0]
    assert [word(bench.run(number)) for number, _ in runs] == ["skipped", "skipped"]


@pytest.mark.parametrize(
    ("pairs", "error", "match"),
    [
        (((9, "ok"),), NotFoundError, "run 9"),
        (((1, "sometimes"),), InvalidError, "expected one of ok, any, fail"),
        (((1, "ok"),) * 1001, InvalidError, "1000 at most"),
    ],
)
def test_parents_that_are_refused(bench: Bench, pairs: Any, error: Any, match: str) -> None:
    bench.queue()
    refused(bench, queueing(after=pairs), error, match)


def test_no_more_wait_than_one_batch_can_tell(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobd.core.queueing.MOST_PAIRS", 5)
    one, two = bench.queue(), bench.queue()
    pairs = ((one.id, "ok"), (two.id, "ok"))
    bench.do(queueing(b"", b"", after=pairs))
    refused(bench, queueing(after=pairs), RefusedError, "4 times a run waits")
    bench.do(CancelRun(one.id))
    assert bench.state.children.pairs == 2
    bench.do(queueing(after=pairs[1:]))


def test_a_blocked_run_is_neither_claimed_nor_moved(bench: Bench) -> None:
    parent = bench.queue()
    child = after(bench, parent.id)
    refused(bench, MoveRunFirst(child.id), ConflictError, "is blocked")
    for event in (
        e.AttemptClaimed(child.id, 1, bench.now.wall),
        e.RunMovedFirst(child.id, bench.now.wall, WHO),
    ):
        with pytest.raises(TransitionError):
            bench.state.apply(event)


# -- as the submitter asked ------------------------------------------------------------------


def chain(bench: Bench, unmet: str) -> None:
    """Run 2 waits for 1 as asked, run 3 for the end of 2 (`any`), 4 for its success."""
    bench.queue()
    bench.queue(after=((1, "ok"),), unmet=unmet)
    bench.queue(after=((2, "any"),))
    bench.queue(after=((2, "ok"),))


@pytest.mark.parametrize(
    ("unmet", "states"),
    [
        ("skip", ["cancelled", "skipped", "queued", "skipped"]),
        ("fail", ["cancelled", "failed", "queued", "skipped"]),
        ("hold", ["cancelled", "held", "blocked", "blocked"]),
    ],
)
def test_what_becomes_of_one_whose_parent_ended_otherwise(
    bench: Bench, unmet: str, states: list[str]
) -> None:
    chain(bench, unmet)
    bench.do(CancelRun(1))
    assert [str(status(run)) for run in bench.state.runs.oldest_first()] == states
    assert list(problems(bench.state)) == []
    bench.restart()
    assert [str(status(run)) for run in bench.state.runs.oldest_first()] == states


def test_one_that_is_held_so_starts_when_it_is_released(bench: Bench) -> None:
    chain(bench, "hold")
    bench.do(CancelRun(1))
    note = bench.run(2).note
    assert note is not None
    assert note.text == "run 1 was to succeed and is cancelled; release or cancel it"
    bench.do(ReleaseRun(2))
    assert bench.claim() == [2]


def test_several_parents_let_it_down_at_once_and_it_is_held_once(bench: Bench) -> None:
    for _ in range(6):
        bench.queue()
    bench.queue(after=tuple((n, "ok") for n in range(1, 7)), unmet="hold")
    bench.do(CancelRuns([1, 2, 3, 4, 5]))
    assert status(bench.run(7)) == "held"
    bench.do(CancelRun(6))
    assert status(bench.run(7)) == "held"
    bench.do(ReleaseRun(7))
    assert bench.claim() == [7]


@pytest.mark.parametrize(("unmet", "word"), [("fail", "failed"), ("hold", "held")])
def test_queued_behind_one_that_has_failed_already(bench: Bench, unmet: str, word: str) -> None:
    bench.queue()
    bench.do(CancelRun(1))
    run = bench.queue(after=((1, "ok"),), unmet=unmet)
    assert status(run) == word
    assert list(problems(bench.state)) == []


def test_a_parent_is_needed_until_its_last_child_is_over(bench: Bench) -> None:
    bench.queue()
    bench.queue(after=((1, "any"),))
    bench.queue(after=((1, "any"),))
    bench.do(CancelRun(1))
    assert bench.state.children.needed(1)
    bench.do(CancelRun(2))
    bench.restart()
    assert bench.state.children.needed(1)
    bench.do(CancelRun(3))
    assert not bench.state.children.needed(1)

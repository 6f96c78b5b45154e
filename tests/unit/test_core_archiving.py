"""Finished runs leave memory: which, when, and what is still right without them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core import events as e
from jobd.core.archiving import Window, leaving, ranges_of, stay
from jobd.core.commands import ArchiveRuns, CancelRun, QueueRun, RetryRuns
from jobd.core.gone import Gone
from jobd.core.machine import TransitionError
from jobd.core.requests import KEEP_MS
from jobd.core.states import RunState
from jobd.errors import NotFoundError
from tests.support.core import ANN, SYSTEM, Bench, dump_all, problems, queueing, replay
from tests.support.simarchive import ArchivingLife
from tests.support.stating import restore, told

HOUR = 3_600_000


def ended(bench: Bench, count: int, **more: object) -> list[int]:
    """So many runs that were cancelled before they began, one a second."""
    runs = []
    for _ in range(count):
        run = bench.queue(**more)
        bench.do(CancelRun(run.id))
        bench.later(1_000)
        runs.append(run.id)
    return runs


def leave(bench: Bench, window: Window = Window(0, 0), most: int = 100) -> list[int]:  # noqa: B008
    """What leaves by the window."""
    ids = [run.id for run in leaving(bench.state, window, bench.now.wall, most)]
    bench.do(ArchiveRuns(ids), SYSTEM)
    stay(bench.state, ids)
    return ids


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.register()
    return made


@pytest.mark.parametrize("part", range(4))
def test_whole_lives(part: int) -> None:
    """Every index stays right, a replay makes the same, and the archive has what has left."""
    left = 0
    for seed in range(part * 6, part * 6 + 6):
        life = ArchivingLife(seed)
        for _ in range(150):
            life.step()
        life.settle()
        left += life.left
        assert dump_all(replay(life.events))["runs"] == dump_all(life.state)["runs"]
    assert left > 50


def test_the_window_is_by_number_and_by_age(bench: Bench) -> None:
    runs = ended(bench, 10)
    assert leave(bench, Window(8, HOUR)) == runs[:2]
    assert leave(bench, Window(8, HOUR)) == []
    assert leave(bench, Window(0, HOUR), most=3) == runs[2:5]
    bench.later(HOUR - 3_000)
    assert leave(bench, Window(100, HOUR)) == runs[5:7]
    assert [run.id for run in bench.state.runs.oldest_first()] == runs[7:]
    assert bench.state.ended == 3
    assert list(problems(bench.state)) == []


def test_one_that_could_not_leave_is_tried_again_first(bench: Bench) -> None:
    runs = ended(bench, 5)
    first = [run.id for run in leaving(bench.state, Window(0, 0), bench.now.wall, 2)]
    assert first == runs[:2]
    stay(bench.state, first)
    assert leave(bench) == runs


def test_live_runs_stay(bench: Bench) -> None:
    runs = ended(bench, 2)
    live = bench.queue()
    assert leave(bench) == runs
    bench.do(ArchiveRuns([live.id, 77]), SYSTEM)
    assert bench.run(live.id).state is RunState.WAITING
    with pytest.raises(TransitionError):
        bench.state.apply(e.HostRunsArchived(1, 0, [[live.id, live.id]]))


def test_a_parent_stays_while_its_child_is_not_over(bench: Bench) -> None:
    parent = bench.queue()
    child = bench.queue(after=((parent.id, "any"),))
    bench.do(CancelRun(parent.id))
    assert leave(bench) == []
    with pytest.raises(TransitionError):
        bench.state.apply(e.HostRunsArchived(1, 0, [[parent.id, parent.id]]))
    bench.restart()
    assert leave(bench) == []
    bench.do(CancelRun(child.id))
    assert sorted(leave(bench)) == [parent.id, child.id]


@pytest.mark.parametrize(("condition", "outcome", "state"), [
    ("ok", "succeeded", RunState.WAITING), ("fail", "succeeded", RunState.DONE),
    ("any", "lost", RunState.WAITING), ("ok", "lost", RunState.DONE),
])  # fmt: skip
def test_behind_a_run_that_has_left(
    bench: Bench, condition: str, outcome: str, state: RunState
) -> None:
    (parent,) = ended(bench, 1)
    leave(bench)
    with pytest.raises(NotFoundError):
        bench.do(queueing(after=((parent, condition),)))
    made = bench.do(queueing(after=((parent, condition),), past={parent: outcome}))
    run = bench.run(made.answer[0][0][0])
    assert run.state is state
    assert bench.state.children.needed(parent) == (state is RunState.WAITING)
    bench.restart()
    assert bench.run(run.id).state is state


def test_a_key_that_has_left_is_known_by_what_the_archive_says(bench: Bench) -> None:
    (old,) = ended(bench, 1, key="k", payload=b"x")
    crc = bench.run(old).option("key_crc")
    leave(bench)
    assert bench.state.jobs["job"].keys.get("k") is None
    again = bench.do(queueing(b"x", key="k", known=(old, crc)))
    assert (again.events, again.answer) == ([], ([(old, True)], []))
    assert "another payload" in bench.do(queueing(b"y", key="k", known=(old, crc))).answer[1][0]
    new = bench.queue(key="k")
    assert bench.state.jobs["job"].keys.get("k") == new.id


def test_the_key_of_a_newer_run_is_not_lost_with_an_older_one(bench: Bench) -> None:
    (old,) = ended(bench, 1, key="k")
    bench.state.jobs["job"].keys["k"] = 99
    leave(bench)
    assert bench.state.runs.get(old) is None
    assert bench.state.jobs["job"].keys.get("k") == 99


def test_a_run_that_has_left_is_done_again(bench: Bench) -> None:
    run = bench.queue(payload=b"old", labels={"a": "b"}, priority=7)
    bench.do(CancelRun(run.id))
    leave(bench)
    with pytest.raises(NotFoundError):
        bench.do(RetryRuns([(run.id, b"old")]))
    made = bench.do(RetryRuns([(run.id, b"old")], past={run.id: run})).answer
    new = bench.run(made[0][1])
    assert (made[0][0], new.option("retry_of"), new.priority) == (run.id, run.id, 7)
    assert new.option("labels") == {"a": "b"}


def test_a_request_is_known_for_a_day_whatever_has_left(bench: Bench) -> None:
    request = b"r" * 16
    command = QueueRun("job", [b"", b""], "cli", ANN, request)
    first = bench.do(command).answer
    for number, _ in first[0]:
        bench.do(CancelRun(number))
    leave(bench)
    again = bench.do(command)
    assert (again.events, again.answer) == ([], first)
    state = bench.state
    bench.later(KEEP_MS - 1)
    state.requests.expire(state.queued_at, bench.now.wall - KEEP_MS)
    assert state.requests.find(request)
    bench.later(2)
    state.requests.expire(state.queued_at, bench.now.wall - KEEP_MS)
    assert not state.requests.find(request)


def test_asked_again_a_retry_that_has_left_is_answered_alike(bench: Bench) -> None:
    (old,) = ended(bench, 1)
    command = RetryRuns([(old, b"")], request=b"q" * 16)
    first = bench.do(command).answer
    bench.do(CancelRun(first[0][1]))
    leave(bench)
    again = bench.do(RetryRuns([(old, b"")], request=b"q" * 16, past={old: bench.queue()}))
    assert (again.events, again.answer) == ([], first)


def test_a_snapshot_keeps_what_outlives_runs(bench: Bench) -> None:
    from jobd.core.statements import statements

    ended(bench, 30, request=None)
    leave(bench)
    ended(bench, 3)
    kept = {run.id: e.RunQueued for run in bench.state.runs.oldest_first()}
    assert len(kept) == 3

    def read(where: int, run: int) -> tuple[int, bytes]:
        event = next(one for one in bench.events if type(one) is e.RunQueued and one.run == run)
        return e.TYPE_OF[e.RunQueued], e.encode(event)

    assert told(restore(list(statements(bench.state, read)))) == told(bench.state)
    assert bench.state.gone.marks()


# -- small parts ---------------------------------------------------------------------------


@given(st.sets(st.integers(1, 60)))
def test_ranges_hold_these_numbers_and_no_other(numbers: set[int]) -> None:
    ranges = ranges_of(numbers)
    assert {n for first, last in ranges for n in range(first, last + 1)} == numbers
    assert all(b[0] > a[1] + 1 for a, b in pairwise(ranges))


@given(st.permutations(range(1, 60)), st.integers(1, 200))
def test_marks_are_few_and_never_early(order: list[int], step: int) -> None:
    gone = Gone()
    for number in order:
        gone.add(number * step, number * 10)
    for number in order:
        at = gone.queued_at(number * step)
        assert at is not None
        assert number * 10 <= at <= number * 10 + 10 * (2_000 // step + 2)
    assert gone.queued_at(60 * step) is None
    again = Gone()
    again.restore(gone.marks())
    assert again.marks() == gone.marks()
    gone.expire(10_000)
    assert gone.marks() == []


def test_a_million_that_leave_cost_a_thousand_marks() -> None:
    gone = Gone()
    for number in range(1, 200_001):
        gone.add(number, number)
    assert len(gone.marks()) <= 401

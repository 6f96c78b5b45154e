"""Changes to runs that are there, and to the host: what follows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    CancelRuns,
    DrainHost,
    EditRun,
    HoldRun,
    MoveRunFirst,
    ReleaseRun,
    TimeOver,
)
from jobd.core.entities import Run
from jobd.core.policy import Rules
from jobd.core.states import RunState
from jobd.core.status import draining, reason, status
from jobd.errors import ConflictError, InvalidError, NotFoundError
from jobd.units import MAX_MS
from tests.support.core import Bench, dump, problems, queueing, refused
from tests.support.situations import SITUATIONS, done, event_for, held, requeued, running, stopping

WHO = [1000, "ann", 4711, ""]


@pytest.fixture
def bench() -> Bench:
    """A core with one job."""
    bench = Bench()
    bench.register(retry={"attempts": 3})
    return bench


@pytest.fixture(autouse=True)
def sound(bench: Bench) -> Any:
    """Whatever a test did: counts and indexes are right, and a restart finds the same."""
    yield
    assert list(problems(bench.state)) == []
    before = dump(bench.state)
    bench.restart()
    assert dump(bench.state) == before
    bench.due()
    assert list(problems(bench.state)) == []


def words(bench: Bench) -> list[str]:
    """The status of each run."""
    return [str(status(run)) for run in bench.state.runs.oldest_first()]


# -- cancelling many -----------------------------------------------------------------------


def test_many_are_cancelled_by_one_record(bench: Bench) -> None:
    bench.register("other")
    bench.do(queueing(*[b""] * 50))
    bench.queue("other")
    bench.do(queueing(*[b""] * 50))
    bench.do(HoldRun(3))
    bench.later(0)
    decision = bench.do(CancelRuns([run.id for run in bench.state.live_runs() if run.id != 51]))
    assert decision.events == [e.JobRunsCancelled(1, [[1, 101]], bench.now.wall, WHO)]
    job = bench.state.jobs["job"]
    assert (job.waiting, job.held, job.done) == (0, 0, {"cancelled": 100})
    assert (bench.state.waiting, bench.state.held) == (1, 0)
    told = reason(bench.run(3), bench.now, None)
    assert told == ("cancelled", "was cancelled by ann")
    assert bench.claim() == [51]


def test_those_between_that_are_not_meant_stay(bench: Bench) -> None:
    bench.do(queueing(*[b""] * 12))
    bench.do(queueing(b"", not_before=bench.now.wall + 60_000))
    bench.do(CancelRuns([1, 2, 3, 5, 6, 7, 13]))
    assert bench.events[-1] == e.JobRunsCancelled(
        1, [[1, 3], [5, 7], [13, 13]], bench.now.wall, WHO
    )
    assert [run.id for run in bench.state.live_runs()] == [12, 11, 10, 9, 8, 4]
    assert bench.later(60_000) == []
    assert bench.claim() == [4, 8, 9, 10, 11, 12]


def test_active_ones_among_many_are_told_to_stop(bench: Bench) -> None:
    one = running(bench)
    bench.do(queueing(*[b""] * 10))
    ended = bench.queue()
    bench.do(CancelRuns([ended.id]))
    decision = bench.do(CancelRuns(range(1, 13)))
    assert [type(event) for event in decision.events] == [e.AttemptStopping, e.JobRunsCancelled]
    assert [effect.run for effect in decision.effects] == [one.id]
    assert words(bench) == ["stopping"] + ["cancelled"] * 11


def test_few_are_cancelled_by_a_record_each(bench: Bench) -> None:
    bench.do(queueing(b"", b""))
    decision = bench.do(CancelRuns([1, 2, 1]))
    assert [type(event) for event in decision.events] == [e.RunFinished] * 2
    refused(bench, CancelRuns([1, 9]), NotFoundError, "run 9")
    assert bench.do(CancelRuns([1, 2])).events == []


def test_so_many_ranges_that_they_are_several_records(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobd.core.changes._RANGES", 3)
    bench.do(queueing(*[b""] * 20))
    decision = bench.do(CancelRuns(range(1, 21, 2)))
    assert [len(event.ranges) for event in decision.events] == [3, 3, 3, 1]  # type: ignore[union-attr]
    assert words(bench) == ["cancelled", "queued"] * 10


# -- next ----------------------------------------------------------------------------------


def test_next_goes_before_all_of_its_job_and_priority(bench: Bench) -> None:
    bench.register("other")
    for _ in range(4):
        bench.queue()
    bench.queue(priority=5)
    bench.queue("other")
    assert bench.do(MoveRunFirst(4)).events == [e.RunMovedFirst(4, bench.now.wall, WHO)]
    bench.do(MoveRunFirst(3))
    assert bench.do(MoveRunFirst(3)).events == [], "it is the next already"
    assert bench.claim() == [5, 3, 6, 4, 1, 2]


def test_next_is_kept_over_a_restart(bench: Bench) -> None:
    bench.queue()
    late = bench.queue(not_before=bench.now.wall + 5_000)
    bench.later(5_000)
    bench.do(MoveRunFirst(late.id))
    bench.restart()
    assert status(bench.run(late.id)) == "queued"
    assert bench.claim() == [late.id, 1]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_only_a_queued_run_can_be_the_next(bench: Bench, situation: Callable[[Bench], Run]) -> None:
    bench.queue()
    bench.claim()
    run = situation(bench)
    if situation.__name__ == "ended":
        bench.apply(event_for(bench, run.id, e.RunFinished))
    if status(run) == "queued":
        bench.do(MoveRunFirst(run.id))
    else:
        refused(bench, MoveRunFirst(run.id), ConflictError, f"run {run.id}: is {status(run)}")


# -- edit ----------------------------------------------------------------------------------


def test_a_priority_is_changed(bench: Bench) -> None:
    first, second, third = (bench.queue() for _ in range(3))
    bench.do(EditRun(third.id, priority=5))
    bench.do(EditRun(first.id, priority=-5))
    assert bench.claim() == [third.id, second.id, first.id]


def test_what_is_not_another_changes_nothing(bench: Bench) -> None:
    run = bench.queue(labels={"a": "1"}, timeout=5_000)
    same = EditRun(run.id, priority=0, timeout=5_000, labels={"a": "1"})
    assert bench.do(same).events == []
    bench.do(EditRun(run.id, labels={"b": "2"}))
    assert run.option("labels") == {"a": "1", "b": "2"}


def test_runs_of_one_request_are_edited_alone(bench: Bench) -> None:
    bench.do(queueing(b"", b"", labels={"a": "1"}))
    bench.do(EditRun(1, timeout=7_000, labels={"a": "2"}))
    assert (bench.run(1).timeout, bench.run(1).option("labels")) == (7_000, {"a": "2"})
    assert (bench.run(2).timeout, bench.run(2).option("labels")) == (3_600_000, {"a": "1"})


def test_its_place_is_kept_where_only_labels_change(bench: Bench) -> None:
    first, second = bench.queue(), bench.queue()
    bench.do(EditRun(first.id, timeout=5_000, labels={"x": "y"}))
    assert bench.claim() == [first.id, second.id]


def test_a_date_is_moved_on_and_back(bench: Bench) -> None:
    run = bench.queue(not_before=bench.now.wall + 10_000)
    bench.do(EditRun(run.id, not_before=bench.now.wall + 30_000))
    bench.later(10_000)
    assert (status(run), bench.claim()) == ("delayed", [])
    bench.later(20_000)
    assert status(run) == "queued"
    bench.do(EditRun(run.id, not_before=bench.now.wall + 5_000))
    assert (status(run), bench.claim()) == ("delayed", [])
    bench.do(EditRun(run.id, not_before=0))
    assert run.option("not_before") == bench.now.wall
    assert bench.claim() == [run.id]


def test_a_retrying_run_gets_a_date(bench: Bench) -> None:
    run = requeued(bench)
    bench.do(EditRun(run.id, not_before=bench.now.wall + 60_000))
    bench.later(30_000)
    assert status(run) == "retrying", "the wait it had before is over, and is no longer its"
    bench.set_clock(40_000)
    bench.due()
    assert status(run) == "queued", "a date is the wall's"


def test_a_retrying_run_need_not_wait(bench: Bench) -> None:
    run = requeued(bench)
    bench.do(EditRun(run.id, not_before=0))
    assert (status(run), bench.claim()) == ("queued", [run.id])
    assert bench.later(60_000) == []


def test_a_held_run_gets_a_date(bench: Bench) -> None:
    run = held(bench)
    bench.do(EditRun(run.id, not_before=bench.now.wall + 10_000, priority=3))
    bench.do(ReleaseRun(run.id))
    assert status(run) == "delayed"
    bench.later(10_000)
    assert bench.claim() == [run.id]


def test_the_time_to_start_in_moves_with_the_date(bench: Bench) -> None:
    run = bench.queue(expires=10_000)
    bench.do(EditRun(run.id, not_before=bench.now.wall + 60_000))
    bench.later(10_000)
    assert status(run) == "delayed"
    bench.later(59_999)
    assert status(run) == "queued"
    assert [type(event) for event in bench.later(1)] == [e.RunFinished]
    assert status(run) == "expired"


def test_of_an_active_run_only_labels_change(bench: Bench) -> None:
    run = running(bench)
    bench.do(EditRun(run.id, labels={"a": "1"}))
    assert run.option("labels") == {"a": "1"}
    for command in (EditRun(run.id, priority=1), EditRun(run.id, timeout=1)):
        refused(bench, command, ConflictError, "while it waits")
    refused(
        bench, EditRun(run.id, not_before=0), ConflictError, f"run {run.id}: is running: its at"
    )


def test_a_timeout_is_of_the_attempts_to_come(bench: Bench) -> None:
    run = bench.queue()
    bench.do(EditRun(run.id, timeout=2_000))
    bench.claim()
    bench.apply(event_for(bench, run.id, e.AttemptStarted))
    assert [type(event) for event in bench.later(2_000)] == [e.AttemptStopping]
    bench.apply(event_for(bench, run.id, e.AttemptEnded))
    bench.apply(event_for(bench, run.id, e.RunFinished))


@pytest.mark.parametrize(
    ("command", "match"),
    [
        (EditRun(1, priority=1001), "priority: 1001"),
        (EditRun(1, timeout=0), "timeout: 0 ms"),
        (EditRun(1, timeout=60_001), "1m at most"),
        (EditRun(1, not_before=1 << 62), "within the next 100 years"),
        (EditRun(1, labels={str(n): "" for n in range(65)}), "64 at most"),
    ],
)
def test_edits_out_of_bounds(bench: Bench, command: EditRun, match: str) -> None:
    bench.rules = Rules(max_timeout=60_000)
    bench.register(timeout="30s")
    bench.queue()
    refused(bench, command, InvalidError, match)


def test_an_ended_run_is_not_edited(bench: Bench) -> None:
    run = done(bench)
    refused(bench, EditRun(run.id, labels={"a": "b"}), ConflictError, "jobctl retry")
    refused(bench, EditRun(99, priority=1), NotFoundError, "run 99")


# -- drain ---------------------------------------------------------------------------------


def test_a_drained_host_starts_nothing_also_after_a_restart(bench: Bench) -> None:
    run = bench.queue()
    assert bench.do(DrainHost(True)).answer is True
    assert bench.do(DrainHost(True)) == ([], [], False)
    assert bench.claim() == []
    bench.restart()
    assert bench.claim() == []
    why = draining(bench.state)
    assert why == ("draining", "ann drains this host: jobctl undrain")
    assert reason(bench.run(run.id), bench.now, why) == why
    assert bench.do(DrainHost(False)).answer is True
    assert (bench.state.dirty, bench.claim(), draining(bench.state)) == (True, [run.id], None)


def test_what_runs_goes_on_while_the_host_drains(bench: Bench) -> None:
    run = running(bench)
    bench.do(DrainHost(True))
    bench.apply(event_for(bench, run.id, e.AttemptEnded))
    bench.apply(event_for(bench, run.id, e.RunRequeued))
    bench.later(5_000)
    assert (status(run), bench.claim()) == ("queued", [])


def test_the_longest_date_fits_a_record(bench: Bench) -> None:
    run = bench.queue()
    bench.do(EditRun(run.id, not_before=bench.now.wall + MAX_MS))
    assert bench.do(TimeOver("expires", run.id, 0)).events
    assert run.state is RunState.DONE


def test_a_stopping_run_is_not_the_next(bench: Bench) -> None:
    refused(bench, MoveRunFirst(stopping(bench).id), ConflictError, "is stopping")

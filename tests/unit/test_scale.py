"""What must not grow with the number of waiting runs: what is looked at, and what is kept."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.access import Policy
from jobd.core.commands import Caller, CancelJob, CancelRuns, EditRun, HoldRun, QueueRun
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.restoring import Restoring
from jobd.core.runs import PIECE, RunTable
from jobd.core.state import State
from jobd.core.statements import statements
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.server import runs as verbs
from jobd.server.choosing import Choice
from jobd.server.kernel import Later, Request
from jobd.server.parking import _within
from jobd.server.selectors import resolve
from tests.support.core import ANN, START, Bench, dump, problems, queueing

MANY, FEW = 10 * PIECE, 40
WHO = [1000, "ann", 4711, ""]
BOB = Caller(1001, "bob", 4712)


class Looked(RunTable):
    """A table that counts the runs that are looked at."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def get(self, run: int) -> Run | None:
        self.at += 1
        return super().get(run)

    def _in(self, number: int, first: int, last: int, states: Sequence[RunState]) -> list[Run]:
        self.at += PIECE
        return super()._in(number, first, last, states)

    def newest_first(self, below: int | None = None) -> Iterator[Run]:
        for run in super().newest_first(below):
            self.at += 1
            yield run


def event(number: int, job: int = 1, options: dict[str, Any] | None = None) -> e.RunQueued:
    key = os.urandom(16)
    return e.RunQueued(number, job, 1, START.wall, "cli", WHO, b"x" * 300, 0, options, key, 0)


@pytest.fixture
def large() -> Iterator[Bench]:
    """Job `many` with ten pieces of the table full of runs, and `few` with one in each thousand."""
    bench = Bench()
    bench.state.runs = bench.state.ready._runs = Looked()
    bench.register("many")
    bench.register("few")
    for number in range(1, MANY + 1):
        bench.state.apply(event(number, 2 if number % (MANY // FEW) == 0 else 1))
    gc.collect()
    bench.state.runs.at = 0
    yield bench
    assert list(problems(bench.state)) == []


def kernel(bench: Bench) -> Any:
    """As much of a kernel as the searches ask for; everybody is an administrator."""
    rules = Rules(access=Policy())
    return SimpleNamespace(
        state=bench.state,
        rules=rules,
        now=bench.now,
        is_admin=lambda caller: True,
        hold_reason=lambda kind: None,
        progress=lambda run: None,
        reported=lambda run: None,
        history=SimpleNamespace(any=False),
    )


def request(verb: str = "run.list", **arguments: Any) -> Request:
    return Request(1, 1, verb, arguments, None, Caller(0, "root", 1))


def found(bench: Bench, final: bool = False, **arguments: Any) -> list[int]:
    choice = Choice(kernel(bench), request(**arguments))
    return [run.id for part in choice.parts(final) for run in part]


def looked(bench: Bench) -> int:
    table = bench.state.runs
    assert isinstance(table, Looked)
    at, table.at = table.at, 0
    return at


@pytest.mark.parametrize(
    "words", [["running", "starting"], ["held"], ["delayed", "retrying", "blocked"], ["failed"]]
)
def test_a_list_of_what_there_is_not_looks_at_nothing(large: Bench, words: list[str]) -> None:
    assert found(large, status=words) == []
    assert found(large, final=True, status=[*words, "dead"]) == []
    assert looked(large) == 0


def test_a_search_looks_at_the_pieces_and_runs_that_can_be_meant(large: Bench) -> None:
    step = MANY // FEW
    assert found(large, job="few") == [step * n for n in range(FEW, 0, -1)]
    assert looked(large) <= FEW
    large.do(HoldRun(5))
    large.do(HoldRun(6))
    looked(large)
    assert found(large, status=["held"]) == [6, 5]
    assert found(large, status=["held"], job="many") == [6, 5]
    assert looked(large) <= 2 * PIECE
    large.claim(TakeOne())
    looked(large)
    assert len(found(large, status=["starting"])) == 1
    assert looked(large) <= 1
    large.do(CancelRuns([7]))
    looked(large)
    assert found(large, final=True) == [7]
    assert found(large, final=True, since=START.wall, status=["cancelled"]) == [7]
    assert looked(large) <= 2 * PIECE


class TakeOne:
    """Lets one run start."""

    def closed(self, kind: Any) -> None:
        return None

    def shortfall(self, needs: Any, reserved: Any, running: int) -> Any:
        return None if not running else SimpleNamespace(code="capacity", text="full")


def test_the_newest_of_a_list_are_found_in_one_piece(large: Bench) -> None:
    parts = chain.from_iterable(Choice(kernel(large), request()).parts(False))
    assert [next(parts).id for _ in range(50)] == list(range(MANY, MANY - 50, -1))
    assert looked(large) <= 2 * PIECE


def test_a_long_search_lets_the_loop_have_its_turn_after_each_piece(large: Bench) -> None:
    parts = list(Choice(kernel(large), request(job="many")).parts(False))
    assert len(parts) == MANY // PIECE + 1
    assert sum(len(list(part)) for part in parts) == MANY - FEW


def test_a_search_by_label_or_date_passes_the_pieces_without(large: Bench) -> None:
    assert found(large, labels={"a": "b"}) == []
    assert found(large, since=START.wall + 1) == []
    assert looked(large) == 0
    large.do(EditRun(5, None, None, None, {"a": "b"}))
    large.now = Now(START.wall + 60_000, START.mono + 60_000)
    large.do(CancelRuns([6, PIECE + 1]))
    large.do(CancelRuns(range(3 * PIECE, 3 * PIECE + 9)))
    looked(large)
    assert found(large, labels={"a": "b"}) == [5]
    assert found(large, labels={"a": "c"}) == []
    assert looked(large) <= 3 * PIECE
    ended = [*range(3 * PIECE + 8, 3 * PIECE - 1, -1), PIECE + 1, 6]
    assert found(large, final=True, since=large.now.wall) == ended
    assert looked(large) <= 5 * PIECE


def test_the_last_run_of_a_job_is_found_at_once(large: Bench) -> None:
    runs, _ = resolve(kernel(large), request("run.show"), ["last:few"])
    assert [run.id for run in runs] == [MANY]
    resolve(kernel(large), request("run.show"), ["last"])
    assert looked(large) <= 8


def test_a_place_is_counted_so_far_and_no_further(large: Bench) -> None:
    run = large.run(MANY - 1)
    ahead, own = large.state.ready.ahead(run, 100, lambda job: True)
    assert (len(ahead), own) == (100, 100)
    assert looked(large) <= 400


def test_to_wait_for_many_is_to_wait_for_one_after_the_other(large: Bench) -> None:
    asked = request("run.wait", runs=["1-100"])
    with pytest.raises(Later) as parked:
        verbs.wait(kernel(large), asked)
    assert parked.value.runs == {1}
    large.do(CancelRuns([1, 2, 3]))
    looked(large)
    with pytest.raises(Later) as parked:
        verbs.wait(kernel(large), asked)
    assert parked.value.runs == {4}
    assert looked(large) <= 4, "those that are over are not asked for again"
    large.do(CancelJob("many"))
    assert verbs.wait(kernel(large), asked)["ready"]


def test_ranges_wake_those_that_wait_for_a_run_in_one(large: Bench) -> None:
    ranges = [[5, 9], [1, 2], [7, 20], [30, 30]]
    assert _within([1, 3, 4, 6, 15, 20, 21, 30, 31], ranges) == {1, 6, 15, 20, 30}
    assert _within([1], []) == set()


def test_cancel_of_a_job_is_one_short_record(large: Bench) -> None:
    large.do(HoldRun(3))
    large.claim(TakeOne())
    looked(large)
    decision = large.do(CancelJob("many"))
    assert [type(one) for one in decision.events] == [e.AttemptStopping, e.JobRunsCancelled]
    assert len(e.encode(decision.events[1])) < 100
    assert looked(large) <= 2 * MANY + 10, "once by state"
    assert large.state.waiting == FEW
    assert not large.state.jobs["many"].ready
    assert sum(map(len, (job.ready.get(0, ()) for job in large.state.jobs.values()))) == FEW


def test_cancelling_a_job_is_what_cancelling_each_of_its_runs_is() -> None:
    def made() -> Bench:
        bench = Bench()
        bench.register("job", retry={"attempts": 3})
        bench.register("other")
        bench.queue()
        bench.queue(not_before=START.wall + 60_000)
        bench.queue(after=((1, "any"),))
        bench.queue("other", after=((1, "any"), (2, "fail")))
        bench.queue(after=((4, "ok"),))
        bench.do(queueing(*[b""] * 5))
        bench.queue(mutex="k")
        other = bench.queue("other", mutex="k")
        bench.do(QueueRun("job", [b""], "cli", BOB))
        bench.do(HoldRun(2))
        bench.do(HoldRun(7))
        assert other.id == 12
        return bench

    whole, each = made(), made()
    whole.do(CancelJob("job"))
    for run in list(each.state.live_runs()):
        if run.job.name == "job" and run.state is not RunState.DONE:
            each.do(CancelRuns([run.id]))

    def words(bench: Bench) -> list[str]:
        return [str(status(run)) for run in bench.state.runs.oldest_first()]

    assert words(whole) == words(each)
    for bench in (whole, each):
        assert list(problems(bench.state)) == []
        before = dump(bench.state)
        bench.restart()
        assert dump(bench.state) == before
        assert bench.state.waiting_of == {ANN.uid: 2}
        assert bench.claim() == [12, 4]


def test_cancelled_ones_are_nowhere_among_those_that_wait_for_something() -> None:
    bench = Bench()
    bench.register("job")
    bench.register("new", overlap="replace")
    bench.queue(mutex="k")
    assert bench.claim() == [1]
    second = bench.queue(mutex="k")
    bench.queue("new")
    assert bench.claim() == [3]
    assert second.id in bench.state.mutexes
    bench.do(CancelJob("job"))
    assert second.id not in bench.state.mutexes
    third = bench.queue("new")
    new = bench.state.jobs["new"]
    assert third.id in bench.state.replaceable[new.id]
    bench.do(CancelJob("new"))
    assert third.id not in bench.state.replaceable[new.id]


def test_a_run_takes_less_than_400_bytes_with_its_request() -> None:
    count = 50_000
    bench = Bench()
    bench.register("job")
    state: State = bench.state
    before = bytes_of(lambda: None)
    taken = bytes_of(lambda: deque(map(state.apply, map(event, range(1, count + 1))), maxlen=0))
    assert (taken - before) / count < 400


def from_snapshot(state: State) -> State:
    """The state after a way through its statements; payloads are left out."""
    body = e.encode(event(1))
    restoring = Restoring()
    for type_, _, id_, revision, said in statements(state, lambda where, run: (16, body)):
        restoring.take(type_, id_, revision, said)
    return restoring.state


def bytes_of(work: Any) -> int:
    """Bytes that are kept of what the work allocates."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_those_of_one_request_share_what_few_have() -> None:
    bench = Bench()
    bench.register("job")
    bench.do(queueing(b"a", b"b", labels={"a": "b"}))
    assert bench.run(1).options is bench.run(2).options
    bench.restart()
    assert bench.run(1).options is bench.run(2).options, "in a replay too"
    assert bench.run(1).origin is bench.run(2).origin
    state = from_snapshot(bench.state)
    first, second = state.runs.between(1, 2)
    assert first.options is second.options, "in a snapshot too"
    assert first.queued_at is second.queued_at
    assert first.size is second.size
    assert state.jobs["job"].ready[0][0] is first.id

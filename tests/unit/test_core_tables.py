"""The ready index, the table of runs, the table of requests, and events in their form on disk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.codec import pack, unpack
from jobd.core import events as e
from jobd.core.commands import CancelRun, HoldRun, ReleaseRun
from jobd.core.entities import Job, Run
from jobd.core.model import JobSpec
from jobd.core.ready import Ready
from jobd.core.requests import KEEP_MS, Requests
from jobd.core.runs import RunTable
from jobd.core.states import RunState
from tests.support.core import Bench, problems

# -- runs that could start -----------------------------------------------------------------


class Counted:
    """Runs by id; counts how often it is asked."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.asked = 0

    def get(self, run: int) -> Run | None:
        self.asked += 1
        return self.runs.get(run)


def job(number: int = 1) -> Job:
    made = Job(number, f"job{number}")
    made.revisions[1] = JobSpec(made.name, "busybox")
    made.revision = 1
    return made


def run(id_: int, of: Job, priority: int = 0) -> Run:
    made = Run(id_, of, 1)
    made.state, made.priority = RunState.WAITING, priority
    return made


def filled(counted: Counted, of: Job, count: int) -> Ready:
    ready = Ready(counted)
    for id_ in range(1, count + 1):
        counted.runs[id_] = run(id_, of)
        ready.push(counted.runs[id_])
    return ready


def test_a_long_queue_costs_no_more_than_a_short_one() -> None:
    counted, of = Counted(), job()
    ready = filled(counted, of, 100_000)
    assert counted.asked == 0
    for id_ in range(1, 101):
        head = ready.head(of, 0)
        assert head is not None
        assert head.id == id_
        ready.take(head)
    assert counted.asked == 100


def test_stale_entries_are_met_once() -> None:
    counted, of = Counted(), job()
    ready = filled(counted, of, 10_000)
    for id_ in range(1, 10_000):
        counted.runs[id_].state = RunState.DONE
    assert [one.id for one in ready.heads(0)] == [10_000]
    assert counted.asked == 10_000
    assert [one.id for one in ready.heads(0)] == [10_000]
    assert counted.asked == 10_001


def test_what_is_stale() -> None:
    counted, of = Counted(), job()
    ready = filled(counted, of, 6)
    counted.runs[1].state = RunState.HELD
    counted.runs[2].due = 5
    counted.runs[3].priority = 7
    del counted.runs[4]
    counted.runs[5].state = RunState.ACTIVE
    head = ready.head(of, 0)
    assert head is counted.runs[6]
    ready.take(head)
    assert (ready.priorities(), of.ready) == ([], {})


def test_where_all_is_stale_nothing_is_left() -> None:
    counted, one, two = Counted(), job(1), job(2)
    ready = filled(counted, one, 3)
    other = counted.runs[9] = run(9, two)
    ready.push(other)
    for id_ in (1, 2, 3):
        counted.runs[id_].state = RunState.DONE
    assert list(ready.heads(0)) == [other]
    assert one.ready == {}
    other.state = RunState.DONE
    assert list(ready.heads(0)) == []
    assert ready.priorities() == []
    assert ready.head(two, 0) is None


def test_only_the_head_can_be_taken() -> None:
    counted, of = Counted(), job()
    ready = filled(counted, of, 2)
    with pytest.raises(ValueError, match="run 2 is not the next of job job1"):
        ready.take(counted.runs[2])


def test_priorities_are_apart_and_highest_first() -> None:
    counted, of = Counted(), job()
    ready = Ready(counted)
    for id_, priority in enumerate((0, -1000, 1000, 0), 1):
        counted.runs[id_] = run(id_, of, priority)
        ready.push(counted.runs[id_])
    assert ready.priorities() == [1000, 0, -1000]
    assert [next(ready.heads(p)).id for p in ready.priorities()] == [3, 1, 2]
    assert list(ready.heads(7)) == []


def test_holding_and_releasing_again_and_again_starts_a_run_once() -> None:
    bench = Bench()
    bench.register()
    one, two = bench.queue(), bench.queue()
    for _ in range(20):
        bench.do(HoldRun(one.id))
        bench.do(ReleaseRun(one.id))
    assert bench.claim() == [one.id, two.id]
    assert bench.claim() == []
    assert list(problems(bench.state)) == []


# -- runs by id ----------------------------------------------------------------------------


def test_the_table_of_runs() -> None:
    table, of = RunTable(), job()
    ids = [1, 2, 4095, 4096, 4097, 20_000]
    for id_ in ids:
        table.add(run(id_, of))
    assert len(table) == 6
    assert [one.id for one in table.oldest_first()] == ids
    assert [one.id for one in table.newest_first()] == ids[::-1]
    assert [one.id for one in table.newest_first(below=4097)] == [4096, 4095, 2, 1]
    assert [one.id for one in table.newest_first(below=4096)] == [4095, 2, 1]
    assert list(table.newest_first(below=0)) == []
    for id_ in (0, -1, 3, 5000, 1 << 60):
        assert table.get(id_) is None
    with pytest.raises(ValueError, match="run 4096 is already there"):
        table.add(run(4096, of))
    table.remove(20_000)
    assert table.get(20_000) is None
    assert [one.id for one in table.newest_first()] == ids[-2::-1]
    assert len(table) == 5


@pytest.mark.parametrize("absent", [3, 50_000])
def test_what_is_not_in_the_table_cannot_be_removed(absent: int) -> None:
    table, of = RunTable(), job()
    table.add(run(1, of))
    with pytest.raises(KeyError):
        table.remove(absent)
    assert len(table) == 1
    table.remove(1)
    assert len(table) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12_000)), max_size=60))
def test_the_table_is_like_a_dict(steps: list[tuple[bool, int]]) -> None:
    table, model, of = RunTable(), dict[int, Run](), job()
    for add, id_ in steps:
        if add and id_ not in model:
            model[id_] = run(id_, of)
            table.add(model[id_])
        elif not add and id_ in model:
            del model[id_]
            table.remove(id_)
        assert table.get(id_) is model.get(id_)
    assert list(table.oldest_first()) == [model[id_] for id_ in sorted(model)]
    assert len(table) == len(model)
    if not model:
        assert table._pieces == {}, "a piece without runs goes too"


# -- requests ------------------------------------------------------------------------------


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")[::-1]


def test_a_request_and_its_runs() -> None:
    requests = Requests()
    assert list(requests.find(key(1))) == []
    requests.add(key(1), 7, 0)
    assert list(requests.find(key(1))) == [7]
    for index in range(3):
        requests.add(key(2), 10 + index, index)
    assert list(requests.find(key(2))) == [10, 11, 12]


def test_requests_are_forgotten_after_their_time() -> None:
    requests, queued = Requests(), {n: n * 100 for n in range(1, 6)}
    for number in queued:
        requests.add(key(number), number, 0)
    requests.expire(queued.get, 300)
    assert [number for number in range(1, 6) if requests.find(key(number))] == [3, 4, 5]
    del queued[3]  # its run is forgotten
    requests.expire(queued.get, 300)
    assert [number for number in range(1, 6) if requests.find(key(number))] == [4, 5]
    requests.expire(queued.get, 10_000)
    assert [number for number in range(1, 6) if requests.find(key(number))] == []
    assert not any(requests._parts)
    requests.expire(queued.get, 10_000)


def test_a_request_from_a_time_to_come_keeps_no_other() -> None:
    # the case: the clock was a year ahead for a minute; what was asked then stays for a year, and
    # nothing that was asked after it was ever forgotten
    requests, queued = Requests(), {1: 365 * KEEP_MS, 2: 100, 3: 200}
    for number in queued:
        requests.add(key(number), number, 0)
    requests.expire(queued.get, 150)
    assert not requests.find(key(2))
    assert requests.find(key(3))
    assert requests.find(key(1))


# -- events on disk ------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "int": 7, "str": "text", "bool": True, "bytes": b"bytes", "Any": b"any", "list[Any]": [0, "u"],
    "dict[str, Any]": {"name": "x"},
}  # fmt: skip


def example(cls: type[Any]) -> Any:
    """An event with a value in each field."""
    values = []
    for kind in cls.__annotations__.values():
        word = str(kind.__forward_arg__).split(" | ")[0]
        values.append(VALUES.get(word, 1.5))
    return cls(*values)


@pytest.mark.parametrize("cls", e.BY_TYPE.values(), ids=lambda cls: cls.__name__)
def test_an_event_is_read_as_it_was_written(cls: type[Any]) -> None:
    event = example(cls)
    again = e.decode(e.TYPE_OF[cls], event[0], e.encode(event))
    assert (type(again), again) == (cls, event)


@pytest.mark.parametrize("cls", e.BY_TYPE.values(), ids=lambda cls: cls.__name__)
def test_what_a_later_version_added_is_left_out(cls: type[Any]) -> None:
    event = example(cls)
    body = pack([*unpack(e.encode(event)), "new", {"more": 1}])
    assert e.decode(e.TYPE_OF[cls], event[0], body) == event


@pytest.mark.parametrize("cls", e.BY_TYPE.values(), ids=lambda cls: cls.__name__)
def test_what_an_earlier_version_did_not_have_has_its_default(cls: type[Any]) -> None:
    event, defaults = example(cls), cls._field_defaults
    body = pack(unpack(e.encode(event))[: len(cls._fields) - 1 - len(defaults)])
    again = e.decode(e.TYPE_OF[cls], event[0], body)
    assert again == event._replace(**defaults)


def test_the_numbers_on_disk_are_for_ever() -> None:
    assert {number: cls.__name__ for number, cls in e.BY_TYPE.items()} == {
        1: "JobRegistered", 2: "JobRemoved", 3: "JobPaused", 4: "JobResumed",
        5: "JobRunsCancelled", 21: "RunEdited", 22: "RunMovedFirst",
        6: "ScheduleAdded", 7: "ScheduleRemoved", 8: "SchedulePaused", 9: "ScheduleResumed",
        10: "ScheduleFired", 11: "JobBreakerOpened", 12: "JobBreakerClosed",
        40: "ReactionRefused", 41: "JoinReached", 42: "JoinEnded", 43: "TopicEmitted",
        48: "HostDrainStarted", 49: "HostDrainEnded", 50: "HostSalvaged", 51: "HostGroupsSet",
        60: "HostRunsArchived",
        16: "RunQueued", 17: "RunRequeued", 18: "RunFinished", 19: "RunHeld", 20: "RunReleased",
        23: "AlertRaised", 24: "AlertRepeated", 25: "AlertResolved", 26: "AlertTried",
        27: "AlertsSnoozed",
        32: "AttemptClaimed", 33: "AttemptStarted", 34: "AttemptStopping", 35: "AttemptEnded",
        36: "DropSettled", 37: "WatchMoved",
    }  # fmt: skip
    assert {cls for cls, kind in e.KIND_OF.items() if kind == e.JOB} == {
        e.JobRegistered, e.JobRemoved, e.JobPaused, e.JobResumed, e.JobRunsCancelled,
        e.ScheduleAdded, e.ScheduleRemoved, e.SchedulePaused, e.ScheduleResumed, e.ScheduleFired,
        e.JobBreakerOpened, e.JobBreakerClosed, e.ReactionRefused, e.JoinReached, e.JoinEnded,
        e.WatchMoved,
    }  # fmt: skip


def test_where_a_record_lies_is_noted_for_what_stays_on_disk() -> None:
    bench = Bench()
    bench.register()
    one = bench.queue()
    bench.claim()
    bench.state.placed(bench.events[-2], 77)
    assert one.where == 77
    bench.do(CancelRun(one.id))
    bench.apply(e.AttemptEnded(one.id, 1, 0, "cancelled", True))
    bench.state.placed(bench.events[-1], 99)
    assert one.attempt is not None
    assert (one.where, one.attempt.where) == (77, 99)
    bench.state.placed(bench.events[0], 5)

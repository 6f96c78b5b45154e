"""Dropped files and watched paths in the core: once each, whatever is asked again."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.arrivals import Drop, QueueDrop, SettleDrop, TakeChanges
from jobd.core.commands import CancelJob, CancelRun, QueueRun, UnregisterJob
from jobd.core.drops import drop_of, held_name
from jobd.core.entities import Run
from jobd.core.machine import TransitionError
from jobd.core.on import read_all
from jobd.core.requests import KEEP_MS
from jobd.core.state import State
from jobd.core.watching import parse, to_mapping
from jobd.errors import InvalidError, RefusedError
from tests.support.core import ANN, Bench
from tests.support.stating import Kept, told

ON = {"path": "/srv/in", "pattern": "*.csv"}


def drop(bench: Bench, key: str, job: str = "job", held: int | None = None, **more: Any) -> Run:
    run = QueueRun(job, [b"data"], "drop", ANN, sources=[("file", None)], **more)
    return bench.run(bench.do(QueueDrop(run, Drop(key, ".", "file", held))).answer)


def again(bench: Bench) -> State:
    """The state that a snapshot makes of it."""
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    restored, _ = kept.through(state)
    assert told(restored) == told(state)
    return restored


def test_a_file_is_queued_once_for_ever() -> None:
    bench = Bench()
    bench.register()
    run = drop(bench, "k1")
    assert run.origin[0] == "drop"
    assert run.option("source") == ["file", None]
    assert drop(bench, "k1") is run
    # longer than a request's key is known, and also from a snapshot
    bench.later(10 * KEEP_MS)
    bench.state.requests.expire(lambda number: None, bench.now.wall)
    assert drop(bench, "k1") is run
    assert again(bench).drops.find("k1") == run.id
    assert drop(bench, "k2") is not run


def test_it_may_be_asked_again_until_its_end_was_told() -> None:
    bench = Bench()
    bench.register()
    run = drop(bench, "k1", held=7)
    assert bench.do(SettleDrop(run.id)).events == []
    bench.do(CancelRun(run.id))
    assert bench.state.drops.over == [run.id]
    assert again(bench).drops.over == [run.id]
    assert drop(bench, "k1") is run
    bench.do(SettleDrop(run.id))
    assert (drop_of(run), held_name(run)) == (None, "file")
    assert bench.state.drops.runs() == again(bench).drops.runs() == []
    assert bench.do(SettleDrop(run.id)).events == []
    assert bench.do(SettleDrop(99)).events == []


def test_those_that_are_cancelled_together_are_over_too() -> None:
    bench = Bench()
    bench.register()
    runs = [drop(bench, f"k{number}").id for number in range(3)]
    bench.queue()
    bench.do(CancelJob("job"))
    assert sorted(bench.state.drops.over) == runs


def test_what_is_refused_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.register(limits={"queue": 1})
    drop(bench, "k1")
    with pytest.raises(RefusedError):
        drop(bench, "k2")
    assert bench.state.drops.find("k2") is None


def test_a_request_that_was_queued_before_makes_no_second_run() -> None:
    bench = Bench()
    bench.register()
    run = bench.queue(request=b"r" * 16)
    assert drop(bench, "k1", request=b"r" * 16) is run
    assert bench.state.drops.find("k1") is None


# -- watched paths -------------------------------------------------------------------------


def changes(bench: Bench, *payloads: bytes, mark: int = 5, name: str = "/srv/in") -> int:
    job = bench.state.jobs["job"].id
    answer: int = bench.do(TakeChanges(job, name, payloads, mark, [1, 2])).answer
    return answer


def test_changes_and_the_mark_are_one_decision() -> None:
    bench = Bench()
    bench.register(on=[ON])
    (watch,) = bench.state.watches.every()
    assert (watch.mark, watch.seen) == (bench.now.wall * 1_000_000, [])
    mark = watch.mark + 9
    assert changes(bench, b"a", b"b", mark=mark) == 2
    assert (watch.mark, watch.seen) == (mark, [1, 2])
    runs = list(bench.state.runs.oldest_first())
    assert [run.origin[:3] for run in runs] == [("path", ANN.uid, ANN.user)] * 2
    assert runs[0].option("source") == ["/srv/in", None]
    restored = again(bench)
    found = restored.watches.get(1, "/srv/in")
    assert found is not None
    assert (found.mark, found.seen, found.spec) == (mark, [1, 2], watch.spec)


def test_changes_that_make_no_run_are_dealt_with_or_wait() -> None:
    bench = Bench()
    bench.register(on=[ON], limits={"queue": 1})
    before = bench.state.watches.every()[0].mark
    with pytest.raises(RefusedError):
        changes(bench, b"a", b"b")
    assert bench.state.watches.every()[0].mark == before
    assert changes(bench, b"x" * (17 << 20), mark=before + 1) == 0
    moved = bench.events[-1]
    assert isinstance(moved, e.WatchMoved)
    assert "maxima.payload" in moved.refused


def test_a_new_revision_leaves_a_mark_where_it_stood_if_it_means_the_same_files() -> None:
    bench = Bench()
    bench.register(on=[ON])
    mark = bench.state.watches.every()[0].mark
    bench.later(1000)
    bench.register(on=[{**ON, "debounce": "9s", "batch": True}], priority=3)
    (watch,) = bench.state.watches.every()
    assert (watch.mark, watch.spec.batch, watch.spec.debounce) == (mark, True, 9000)
    bench.register(on=[{**ON, "pattern": "*.tsv"}])
    (watch,) = bench.state.watches.every()
    assert watch.mark == bench.now.wall * 1_000_000 > mark
    again(bench)
    bench.register()
    assert bench.state.watches.every() == []
    # what was still on its way finds nobody
    assert changes(bench, b"a") == 0


def test_a_job_that_is_gone_watches_nothing() -> None:
    bench = Bench()
    bench.register(on=[ON])
    bench.do(UnregisterJob("job"))
    assert bench.state.watches.every() == []
    again(bench)
    bench.register(on=[ON])
    assert len(bench.state.watches) == 1
    with pytest.raises(TransitionError, match="no watched path 'other'"):
        bench.state.apply(e.WatchMoved(1, "other", 0, 0, []))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "on[0]: expected one of run, path, topic, got none"),
        ({"hook": "x"}, "on[0].hook: not supported by this version"),
        ({"path": "in"}, "on[0].path: 'in': expected a folder's whole path"),
        ({"path": "/a/../b"}, "on[0].path: "),
        ({"path": "/"}, "on[0].path: "),
        ({"path": "/proc/1"}, "on[0].path: '/proc/1': nothing is told of the kernel's own"),
        ({"path": "/a", "event": "opened"}, "on[0].event: 'opened': expected one or more of"),
        ({"path": "/a", "event": []}, "on[0].event: "),
        ({"path": "/a", "event": 3}, "on[0].event: "),
        ({"path": "/a", "pattern": "b/*"}, "on[0].pattern: 'b/*': of a file's name"),
        ({"path": "/a", "recursiv": True}, "on[0].recursiv: unknown key; did you mean recursive?"),
        ({"path": "/a", "debounce": "soon"}, "on[0].debounce"),
        ("/a", "on[0]: expected a table"),
    ],
)
def test_what_is_refused_names_its_key(given: Any, why: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        read_all([given], "on")
    assert str(refusal.value).startswith(why)


def test_names_are_apart_and_not_too_many() -> None:
    with pytest.raises(InvalidError, match=r"on\[1\].name: '/a' is there twice"):
        read_all([{"path": "/a"}, {"path": "/a/"}], "on")
    with pytest.raises(InvalidError, match="at most 20"):
        read_all([{"path": f"/a{number}"} for number in range(21)], "on")


@pytest.mark.parametrize(
    "given",
    [
        {"path": "/a"},
        {"path": "//a/./b/", "name": "n", "event": ["moved", "closed"], "recursive": True},
        {"path": "/a", "event": "deleted | created", "debounce": 0, "batch": True, "pattern": "?"},
    ],
)
def test_what_is_written_back_reads_the_same(given: dict[str, Any]) -> None:
    spec = parse(given, "on")
    assert parse(to_mapping(spec), "on") == spec
    assert "//" not in spec.path

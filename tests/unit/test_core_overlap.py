"""What becomes of runs where a new one comes: overlap, --latest, --debounce."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core.commands import (
    AddSchedule,
    FireSchedule,
    HoldRun,
    ReportEnded,
    ReportStarted,
    RetryRuns,
    SetJob,
)
from jobd.core.effects import SignalAttempt
from jobd.core.status import dead, reason, status
from jobd.errors import InvalidError
from tests.support.core import Bench, dump, live, problems, queueing, refused


def overlapping(how: str, **more: Any) -> Bench:
    bench = Bench()
    bench.register(overlap=how, **more)
    return bench


def words(bench: Bench) -> list[str]:
    assert list(problems(bench.state)) == []
    assert dump(bench.state) == dump(live(bench.events))
    return [str(status(run)) for run in bench.state.runs.oldest_first()]


def end(bench: Bench, run: int, exit_code: int = 0) -> None:
    bench.do(ReportEnded(run, len(bench.run(run).attempts or ()), exit_code, bench.now.wall))


def test_allow_starts_side_by_side() -> None:
    bench = overlapping("allow")
    bench.queue()
    bench.queue()
    assert bench.claim() == [1, 2]


def test_queue_is_one_at_a_time() -> None:
    bench = overlapping("queue", limits={"concurrency": 5})
    for _ in range(2):
        bench.queue()
    assert bench.claim() == [1]
    found = reason(bench.run(2), bench.now, None, bench.state)
    assert found is not None
    assert found.text == "job job has 1 of 1 runs at once, overlap = queue (run 1)"
    end(bench, 1)
    assert bench.claim() == [2]


@pytest.mark.parametrize("first", ["waiting", "active", "retrying"])
def test_skip_skips_the_new_one_and_says_why(first: str) -> None:
    bench = overlapping("skip", retry={"attempts": 2, "delay": "10s"})
    bench.queue()
    if first != "waiting":
        bench.claim()
    if first == "retrying":
        end(bench, 1, 1)
    bench.queue()
    assert words(bench)[1] == "skipped"
    note = bench.run(2).note
    assert note is not None
    assert note.text.endswith("of job job is there already (overlap = skip)")
    assert not dead(bench.run(2))


def test_skip_lets_the_first_of_several_stay() -> None:
    bench = overlapping("skip")
    bench.do(queueing(b"1", b"2", b"3"))
    assert words(bench) == ["queued", "skipped", "skipped"]


@pytest.mark.parametrize("first", ["held", "delayed", "blocked", "over"])
def test_what_cannot_start_yet_is_in_nobodys_way(first: str) -> None:
    bench = overlapping("skip")
    parent = bench.queue()
    if first == "held":
        bench.do(HoldRun(1))
    elif first == "over":
        bench.claim()
        end(bench, 1)
    else:
        bench.do(HoldRun(1))
        later = bench.now.wall + 60_000
        more: dict[str, Any] = {"not_before": later} if first == "delayed" else {}
        bench.queue(after=() if more else ((parent.id, "ok"),), **more)
    run = bench.queue()
    assert status(run) == "queued"


def test_one_for_later_is_not_skipped_and_waits_its_turn() -> None:
    bench = overlapping("skip")
    bench.queue()
    bench.claim()
    bench.queue(not_before=bench.now.wall + 1_000)
    bench.later(1_000)
    assert bench.claim() == []
    end(bench, 1)
    assert bench.claim() == [2]


def test_replace_skips_who_waits_and_stops_who_runs() -> None:
    bench = overlapping("replace")
    bench.queue()
    bench.claim()
    bench.do(ReportStarted(1, 1, "e", "i", bench.now.wall))
    bench.queue()
    assert words(bench) == ["stopping", "queued"]
    assert SignalAttempt(1, 1, "SIGTERM") in bench.effects
    bench.queue()
    assert words(bench) == ["stopping", "skipped", "queued"]
    assert bench.claim() == []
    end(bench, 1, 143)
    assert words(bench) == ["cancelled", "skipped", "queued"]
    assert bench.claim() == [3]


def test_replace_counts_for_runs_that_are_queued_again() -> None:
    bench = overlapping("replace")
    bench.queue()
    bench.claim()
    end(bench, 1, 1)
    bench.queue()
    bench.do(RetryRuns([(1, b"")]))
    assert words(bench) == ["failed", "skipped", "queued"]


def test_replace_holds_over_a_restart_and_a_change() -> None:
    bench = overlapping("replace")
    bench.queue()
    bench.restart()
    bench.queue()
    assert words(bench) == ["skipped", "queued"]
    bench.do(SetJob("job", {"overlap": "allow"}))
    bench.queue()
    assert words(bench) == ["skipped", "queued", "queued"]


# -- the latest of a key -----------------------------------------------------------------------


def test_latest_skips_those_that_wait_with_the_key() -> None:
    bench = overlapping("allow")
    bench.queue(key="a")
    bench.queue(key="b")
    bench.queue(key="a", latest=True)
    assert words(bench) == ["skipped", "queued", "queued"]
    note = bench.run(1).note
    assert note is not None
    assert note.text == "run 3 came after it with the key 'a' (--latest)"
    keys = bench.state.jobs["job"].keys
    assert (keys.get("a"), keys.get("b")) == (3, 2)


def test_latest_leaves_who_runs_and_finds_it_when_it_waits_again() -> None:
    bench = overlapping("allow", retry={"attempts": 3, "delay": "10s"})
    bench.queue(key="a")
    bench.claim()
    bench.queue(key="a", latest=True)
    assert words(bench) == ["starting", "queued"]
    end(bench, 1, 1)
    assert words(bench) == ["retrying", "queued"]
    bench.queue(key="a", latest=True)
    assert words(bench) == ["skipped", "skipped", "queued"]


def test_latest_spares_its_own_parent() -> None:
    bench = overlapping("allow")
    bench.queue(key="a")
    bench.queue(after=((1, "ok"),))
    bench.queue(key="a", latest=True, after=((1, "ok"),))
    assert words(bench) == ["queued", "blocked", "blocked"]
    bench.queue(key="a", latest=True, after=((2, "ok"),))
    assert words(bench) == ["skipped"] * 4, "it ended what its own parent waited for"


def test_debounce_waits_until_none_has_come_for_so_long() -> None:
    bench = overlapping("allow")
    for _ in range(3):
        bench.queue(key="a", debounce=30_000)
        bench.later(20_000)
    assert words(bench) == ["skipped", "skipped", "delayed"]
    bench.later(9_999)
    assert bench.claim() == []
    bench.later(1)
    assert bench.claim() == [3]


def test_debounce_does_not_put_off_for_ever() -> None:
    bench = overlapping("allow")
    start = bench.now.wall
    while not bench.claim():
        bench.queue(key="a", debounce=30_000)
        bench.later(20_000)
        assert bench.now.wall - start <= 320_000
    assert bench.now.wall - start == 300_000


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"latest": True}, "they go with a key"),
        ({"debounce": 5}, "they go with a key"),
        ({"debounce": 0, "key": "a"}, "more than nothing"),
        ({"debounce": 5, "key": "a", "not_before": 1}, "not with a date"),
    ],
)
def test_wrong_words_are_refused(more: dict[str, Any], match: str) -> None:
    refused(overlapping("allow"), queueing(b"", **more), InvalidError, match)


# -- a schedule's own word -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words_", "claimed"),
    [
        ("skip", ["starting", "skipped"], []),
        ("queue", ["starting", "queued"], []),
        ("allow", ["starting", "queued"], [2]),
    ],
)
def test_a_schedules_overlap_counts_for_what_it_queues(
    how: str, words_: list[str], claimed: list[int]
) -> None:
    bench = overlapping("queue" if how == "allow" else "allow")
    bench.queue()
    bench.claim()
    bench.do(AddSchedule("job", {"name": "s", "every": "1h", "overlap": how}))
    bench.do(FireSchedule("job", "s"))
    assert words(bench) == words_
    assert bench.claim() == claimed

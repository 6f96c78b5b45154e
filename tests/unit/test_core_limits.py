"""Limits that runs share: rates, groups, keys of which one is active, users, the host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core.commands import (
    CancelRun,
    EditRun,
    HoldRun,
    PauseJob,
    QueueRun,
    RegisterJob,
    ReportEnded,
    SetGroups,
    SetJob,
)
from jobd.core.dispatch import picks
from jobd.core.events import AttemptClaimed
from jobd.core.groups import groups_mapping, read_groups
from jobd.core.limits import Pace
from jobd.core.mutexes import check_template, fill
from jobd.core.policy import Rules
from jobd.core.rates import Bucket, Rate, rate_text, read_rate
from jobd.core.status import reason
from jobd.errors import InvalidError, RefusedError
from tests.support.core import ANN, Bench, Open, dump, live, problems, queueing, refused


def end(bench: Bench, run: int, exit_code: int = 0) -> None:
    attempts = bench.run(run).attempts
    assert attempts is not None
    bench.do(ReportEnded(run, len(attempts), exit_code, bench.now.wall))


def why(bench: Bench, run: int) -> tuple[str, str]:
    found = reason(bench.run(run), bench.now, None, bench.state)
    assert found is not None
    return found.code, found.text


def settle(bench: Bench) -> list[int]:
    """Dispatch as the loop does: only where something may have changed."""
    return bench.claim() if bench.state.dirty else []


# -- rates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["100/h", "5/s", "3/10m", "1/d", "2/36h"])
def test_a_rate_reads_as_it_is_written(text: str) -> None:
    assert read_rate(rate_text(read_rate(text, "rate")), "rate") == read_rate(text, "rate")


@pytest.mark.parametrize("wrong", ["100", "0/s", "1/", "1/0s", "x/h", "1/w", 5, None, "-1/s"])
def test_what_is_no_rate_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(InvalidError, match=r"^limits.rate: .*100/h"):
        read_rate(wrong, "limits.rate")


@given(
    st.integers(1, 200),
    st.sampled_from([1_000, 60_000, 3_600_000]),
    st.integers(1, 50) | st.none(),
    st.lists(st.integers(0, 100_000), max_size=60),
)
def test_no_window_has_more_than_burst_and_rate(
    number: int, period: int, burst: int | None, waits: list[int]
) -> None:
    rate, bucket, at, taken = Rate(number, period), Bucket(), 1_000_000, []
    for wait in waits:
        at += wait
        if bucket.wait(rate, burst, at):
            at += bucket.wait(rate, burst, at)
            assert not bucket.wait(rate, burst, at), "what it says is what it takes"
        bucket.take(rate, burst, at)
        taken.append(at)
        for place, first in enumerate(taken):
            allowed = (burst or number) + (at - first) * number / period
            assert len(taken) - place <= allowed + 0.01


def test_a_clock_set_back_empties_the_bucket_at_most() -> None:
    rate, bucket = Rate(2, 10_000), Bucket()
    bucket.take(rate, None, 10_000_000)
    assert bucket.wait(rate, None, 1_000_000) == 5_000
    assert bucket.wait(rate, None, 1_004_000) == 1_000, "it does not wait for the old time"
    assert bucket.wait(rate, None, 1_005_000) == 0
    bucket.take(rate, None, 1_005_000)
    assert bucket.wait(rate, None, 1_005_000) == 5_000


def test_a_jobs_rate_lets_go_on_when_time_has_passed() -> None:
    bench = Bench()
    bench.register(limits={"rate": "2/10s"})
    for _ in range(4):
        bench.queue()
    assert settle(bench) == [1, 2]
    assert why(bench, 3) == ("rate", "job job may start 2/10s: the next one in 5s")
    wait = bench.timers.wait_ms(bench.now, bench.state.look_at)
    assert wait == 5_000, "the loop sleeps until then and no longer"
    bench.later(4_999)
    assert settle(bench) == []
    bench.later(1)
    assert settle(bench) == [3]


def test_a_rate_holds_over_a_restart() -> None:
    bench = Bench()
    bench.register(limits={"rate": "1/m"})
    bench.queue()
    bench.queue()
    assert settle(bench) == [1]
    bench.restart()
    assert settle(bench) == []
    bench.later(60_000)
    assert settle(bench) == [2]


def test_one_that_waits_for_its_rate_holds_up_no_other_job() -> None:
    bench = Bench()
    bench.register("a", limits={"rate": "1/h"}, priority=9)
    bench.register("b")
    for name in "aab":
        bench.queue(name)
    assert settle(bench) == [1, 3]


# -- groups --------------------------------------------------------------------------------


def grouped(**groups: dict[str, Any]) -> Bench:
    bench = Bench()
    bench.do(SetGroups(groups))
    return bench


def test_a_group_is_shared_by_jobs() -> None:
    bench = grouped(g={"concurrency": 2})
    for name in "abc":
        bench.register(name, limits={"group": "g"})
        bench.queue(name)
    assert settle(bench) == [1, 2]
    assert why(bench, 3) == ("limits", "group g has 2 of 2 runs at once (run 1, run 2)")
    end(bench, 1)
    assert settle(bench) == [3]


def test_a_groups_rate_is_shared_too() -> None:
    bench = grouped(g={"rate": "1/s", "burst": 2})
    for name in "ab":
        bench.register(name, limits={"group": "g"})
        bench.queue(name)
        bench.queue(name)
    assert len(settle(bench)) == 2
    assert why(bench, 4)[0] == "rate"
    bench.later(1_000)
    assert len(settle(bench)) == 1


def test_a_group_that_is_not_there_is_refused_and_one_that_went_lets_nothing_start() -> None:
    bench = grouped(g={"concurrency": 2})
    spec = {"name": "job", "image": "x", "limits": {"group": "other"}}
    refused(bench, RegisterJob(spec), InvalidError, "^limits.group: no group 'other'.*known are g")
    bench.register(limits={"group": "g"})
    bench.queue()
    bench.do(SetGroups({}))
    assert settle(bench) == []
    assert why(bench, 1)[1].startswith("group g is not in jobd.toml")
    bench.do(SetGroups({"g": {}}))
    assert settle(bench) == [1]


def test_who_is_active_in_a_group_counts_over_changes_and_a_restart() -> None:
    bench = grouped(g={"concurrency": 1})
    bench.register(limits={"group": "g"})
    bench.queue()
    bench.queue()
    assert settle(bench) == [1]
    bench.do(SetJob("job", {"limits.group": None}))
    bench.do(SetGroups({"g": {"concurrency": 3}}))
    assert dump(bench.state) == dump(live(bench.events))
    bench.restart()
    assert bench.state.groups.named["g"].active == {1}
    end(bench, 1)
    assert bench.state.groups.named["g"].active == set()


def test_groups_said_again_are_no_event() -> None:
    bench = grouped(g={"concurrency": 1, "rate": "5/s", "burst": 9})
    assert bench.do(SetGroups({"g": {"concurrency": 1, "rate": "5/s", "burst": 9}})).events == []


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"g": 1}, "^groups.g: expected a table"),
        ({"g": {"concurrency": 0}}, "^groups.g.concurrency:"),
        ({"g": {"rate": "x"}}, "^groups.g.rate:"),
        ({"g": {"burst": 3}}, "^groups.g.burst: goes with a rate"),
        ({"g": {"size": 3}}, "^groups.g.size: unknown key; known are concurrency, rate, burst"),
        ([], "^groups: expected a table"),
    ],
)
def test_wrong_groups_are_refused_by_name(wrong: Any, match: str) -> None:
    with pytest.raises(InvalidError, match=match):
        read_groups(wrong)


def test_groups_read_as_they_are_written() -> None:
    given_ = {"a": {"concurrency": 2}, "b": {"rate": "5/s", "burst": 2}, "c": {}}
    assert groups_mapping(read_groups(given_)) == given_


# -- keys of which one is active -----------------------------------------------------------


def keyed(*jobs: str) -> Bench:
    bench = Bench()
    for name in jobs or ("job",):
        bench.register(name)
    return bench


def test_one_of_a_key_is_active_and_the_others_hold_up_nobody() -> None:
    bench = keyed()
    for key in ("a", "a", "b", "a", None):
        bench.queue(mutex=key)
    assert settle(bench) == [1, 3, 5]
    assert why(bench, 2) == ("limits", "run 1 holds 'a'")
    assert list(problems(bench.state)) == []
    end(bench, 1)
    assert settle(bench) == [2]
    end(bench, 2)
    assert settle(bench) == [4]


def test_a_key_goes_by_priority_then_age_and_over_jobs() -> None:
    bench = keyed("a", "b")
    for name, priority in (("a", 0), ("a", 0), ("b", 0), ("b", 7), ("a", 3)):
        bench.queue(name, mutex="k", priority=priority)
    order = []
    for _ in range(5):
        (run,) = settle(bench)
        order.append(run)
        end(bench, run)
    assert order[0] == 4
    assert order[1] == 5
    assert sorted(order) == [1, 2, 3, 4, 5]
    assert order.index(1) < order.index(2)


@pytest.mark.parametrize("how", ["cancel", "hold", "put off", "pause", "restart"])
def test_a_key_is_never_lost(how: str) -> None:
    bench = keyed("a", "b")
    for name in ("a", "a", "b"):
        bench.queue(name, mutex="k")
    bench.queue("b", mutex="other")
    assert settle(bench) == [1, 4]
    end(bench, 1)
    if how == "cancel":
        bench.do(CancelRun(2))
    elif how == "hold":
        bench.do(HoldRun(2))
    elif how == "put off":
        bench.do(EditRun(2, not_before=bench.now.wall + 60_000))
    elif how == "pause":
        bench.do(PauseJob("a", True))
    else:
        bench.restart()
    assert list(problems(bench.state)) == []
    assert settle(bench) in ([[2], [3]] if how == "restart" else [[3]])


def test_between_two_attempts_the_key_is_free() -> None:
    bench = Bench()
    bench.register(retry={"attempts": 2, "delay": "10s", "jitter": 0})
    bench.queue(mutex="k")
    bench.queue(mutex="k")
    assert settle(bench) == [1]
    end(bench, 1, 1)
    assert settle(bench) == [2]
    bench.later(10_000)
    assert settle(bench) == []
    end(bench, 2)
    assert settle(bench) == [1]


def test_many_with_a_held_key_are_set_aside_over_passes() -> None:
    bench = keyed()
    bench.queue(mutex="k")
    bench.do(QueueRun("job", [b""] * 2_500, "cli", ANN, mutex="k"))
    last = bench.queue()
    assert settle(bench) == [1]
    claimed = []
    for _ in range(3):
        bench.later(0)
        claimed += settle(bench)
    assert claimed == [last.id]
    assert list(problems(bench.state)) == []


def test_a_template_makes_a_key_of_each_run() -> None:
    bench = Bench()
    bench.register(limits={"mutex": "{job}-{payload.account}"})
    for account in (b'{"account": 7}', b'{"account": 7}', b'{"account": "x"}'):
        bench.queue(payload=account)
    assert [bench.run(n).option("mutex") for n in (1, 2, 3)] == ["job-7", "job-7", "job-x"]
    assert settle(bench) == [1, 3]
    refused(bench, queueing(b"{}"), InvalidError, "needs payload.account")
    refused(bench, queueing(b"\xff", mutex="k"), InvalidError, "job job makes its own")


def test_templates() -> None:
    known = {"job": "j", "user": "ann", "key": None, "label": {"a": "b"}, "env": {"C": "d"}}
    assert fill("{user}/{label.a}/{env.C}/x", known, b"") == "ann/b/d/x"
    for wrong in ("{key}", "{label.z}", "{payload.a}", "{label}"):
        with pytest.raises(InvalidError, match="which this run does not have"):
            fill(wrong, known, b"[1]")
    with pytest.raises(InvalidError, match=r"^limits.mutex: \{nothing\}: expected"):
        check_template("{nothing}", "limits.mutex")


# -- users and the host ----------------------------------------------------------------------


def test_a_user_has_so_many_waiting_over_all_jobs() -> None:
    bench = Bench(Rules(max_user_queue=3))
    bench.register("a")
    bench.register("b")
    bench.do(queueing(b"", b"", job="a"))
    refused(bench, queueing(b"", b"", job="b"), RefusedError, "^user ann: 2 of 3 runs wait already")
    bench.claim()
    bench.do(queueing(b"", b"", b"", job="b"))


def test_the_host_and_its_engines_take_so_many_at_once() -> None:
    bench = Bench()
    bench.register("a")
    bench.do(RegisterJob({"name": "p", "command": ["true"]}))
    bench.do(queueing(b"", b"", b"", job="a"))
    bench.do(queueing(b"", b"", b"", job="p"))
    pace = Pace(at_once=4, processes=1)
    claimed = []
    for run in picks(bench.state, Open(), bench.now, pace):
        claimed.append(run.id)
        number = len(run.attempts or ()) + 1
        bench.apply(AttemptClaimed(run.id, number, bench.now.wall))
    assert sorted(claimed) == [1, 2, 3, 4]
    assert why(bench, 5) == ("limits", "1 of 1 at once: process runs (process.concurrency)")

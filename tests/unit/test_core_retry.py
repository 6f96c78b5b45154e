"""Ended runs queued again, and single settings of jobs: what follows, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core.commands import (
    Body,
    CancelRuns,
    RegisterJob,
    RetryRuns,
    SetJob,
    UnregisterJob,
)
from jobd.core.policy import Rules
from jobd.core.settings import differences
from jobd.core.status import status
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from tests.support.core import Bench, dump, problems, queueing, refused
from tests.support.situations import done

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


# -- retry ---------------------------------------------------------------------------------


def test_a_retry_is_a_new_run_of_the_newest_revision(bench: Bench) -> None:
    old = bench.queue(
        payload=b"one",
        priority=4,
        env={"A": "1"},
        labels={"l": "m"},
        args=("x",),
        timeout=9_000,
        key="k",
        expires=5_000,
        not_before=bench.now.wall + 1_000,
    )
    bench.later(6_000)
    assert status(old) == "expired"
    bench.register(command=["again"], retry={"attempts": 3})
    decision = bench.do(RetryRuns([(old.id, b"one")], request=b"k" * 16))
    assert decision.answer == [(old.id, 2)]
    run = bench.run(2)
    assert (run.revision, run.priority, run.origin[0]) == (2, 4, "retry")
    assert run.options == {
        "env": {"A": "1"}, "labels": {"l": "m"}, "args": ["x"], "timeout": 9_000,
        "expires_at": bench.now.wall + 5_000, "retry_of": old.id,
    }  # fmt: skip
    assert dict(bench.state.jobs["job"].keys) == {"k": old.id}, "its key is the first one's"
    assert bench.do(RetryRuns([(old.id, b"one")], request=b"k" * 16)) == ([], [], [(old.id, 2)])


def test_several_are_retried_all_or_none(bench: Bench) -> None:
    for _ in range(3):
        done(bench)
    bench.queue()
    refused(bench, RetryRuns([(1, b""), (4, b"")]), ConflictError, "run 4: is queued")
    refused(bench, RetryRuns([(1, b""), (99, b"")]), NotFoundError, "run 99")
    body = Body("f", 9, 1)
    answer = bench.do(RetryRuns([(1, b"x"), (3, body)], request=b"r" * 16)).answer
    assert answer == [(1, 5), (3, 6)]
    assert (bench.run(5).size, bench.run(6).body) == (1, body)


def test_a_retry_keeps_its_place_in_its_batch(bench: Bench) -> None:
    bench.do(queueing(b"", b"", b"", request=b"r" * 16))
    bench.do(CancelRuns([2, 3]))
    bench.do(RetryRuns([(2, b""), (3, b"")]))
    batch = (b"r" * 16).hex()
    # the index is the run's id less the second one
    assert [bench.run(n).option("batch") for n in (4, 5)] == [[batch, 3], [batch, 3]]


def test_what_may_not_be_queued_may_not_be_retried(bench: Bench) -> None:
    done(bench)
    bench.register(limits={"queue": 1})
    refused(bench, RetryRuns([(1, b""), (1, b"")]), RefusedError, "its queue is full")
    bench.rules = Rules(max_payload=3)
    refused(bench, RetryRuns([(1, b"four")]), InvalidError, "4 bytes")
    bench.do(UnregisterJob("job"))
    refused(bench, RetryRuns([(1, b"")]), NotFoundError, "job job")


# -- set -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        ("timeout", "10m", ["timeout", "1h", "10m"]),
        ("timeout", 90, ["timeout", "1h", "1m30s"]),
        ("limits.concurrency", "4", ["limits.concurrency", None, 4]),
        ("resources.memory", "1.5G", ["resources.memory", "512M", "1536M"]),
        ("resources.cpus", "0.5", ["resources.cpus", 1.0, 0.5]),
        ("env.PORT", "8080", ["env.PORT", None, "8080"]),
        ("env.EMPTY", "", ["env.EMPTY", None, ""]),
        ("env", '{"B": "2"}', ["env.B", None, "2"]),
        ("secrets.TOKEN", "token", ["secrets.TOKEN", None, "token"]),
        ("command", 'sh -c "a b"', ["command", None, ["sh", "-c", "a b"]]),
        ("command", '["a", "b c"]', ["command", None, ["a", "b c"]]),
        ("retry.on", "lost, 75", ["retry.on", ["failed", "oom-killed", "timed-out"], ["lost", 75]]),
        ("image", "alpine:3", ["image", "busybox", "alpine:3"]),
        ("retry.attempts", None, ["retry.attempts", 3, 1]),
    ],
)
def test_one_setting(bench: Bench, path: str, value: Any, changed: list[Any]) -> None:
    before = bench.state.jobs["job"].spec
    assert bench.do(SetJob("job", {path: value})).answer == (2, True)
    rows = differences(before, bench.state.jobs["job"].spec)
    assert [list(row.values()) for row in rows if row["key"] != "retry.interrupted"] == [changed]


def test_what_is_set_again_is_no_revision(bench: Bench) -> None:
    assert bench.do(SetJob("job", {"timeout": "1h"})).answer == (1, False)


def test_a_default_of_the_host_is_taken_again(bench: Bench) -> None:
    bench.rules = Rules(defaults={"timeout": "5m"})
    bench.do(SetJob("job", {"timeout": "7m"}))
    bench.do(SetJob("job", {"timeout": None}))
    assert bench.state.jobs["job"].spec.timeout == 300_000


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"limits.concurrency": "abc"}, r"limits\.concurrency: 'abc': expected a whole number"),
        ({"resources.cpus": "-1"}, r"resources\.cpus"),
        ({"tiemout": "1h"}, "did you mean timeout"),
        ({"env.9": "x"}, "'9' is not the name of a variable"),
        ({"limits": "x"}, "limits"),
        ({"a.b.c": "x"}, "unknown key"),
        ({"name": "other"}, "keeps its name"),
        ({"command": "'open"}, "command: "),
        ({"timeout": "2h", "network": "host"}, "network 'host' is not allowed"),
        ({}, "nothing to set"),
    ],
)
def test_settings_that_are_refused(bench: Bench, settings: dict[str, Any], match: str) -> None:
    refused(bench, SetJob("job", settings), InvalidError, match)
    refused(bench, SetJob("no", {"timeout": "1h"}), NotFoundError, "job no")


def test_each_revision_knows_who_made_it(bench: Bench) -> None:
    bench.do(SetJob("job", {"timeout": "2h"}))
    bench.do(RegisterJob({"name": "job", "image": "other"}))
    job = bench.state.jobs["job"]
    assert {number: caller for number, (_, caller) in job.made.items()} == dict.fromkeys(
        (1, 2, 3), WHO
    )

"""Queueing: what a run is made of, what is refused, and asking twice."""

from __future__ import annotations

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    Body,
    CancelRun,
    Command,
    QueueRun,
    UnregisterJob,
)
from jobd.core.policy import Rules
from jobd.core.status import status
from jobd.errors import InvalidError, JobdError, NotFoundError, RefusedError
from jobd.units import MAX_MS
from tests.support.core import (
    ANN,
    START,
    Bench,
    queueing,
    refused,
    replay,
)

WHO = [1000, "ann", 4711, ""]
KEY = bytes(range(16))


@pytest.fixture
def bench() -> Bench:
    """A core with one job."""
    bench = Bench()
    bench.register(retry={"attempts": 3})
    return bench


# -- queueing ------------------------------------------------------------------------------


def test_queueing_with_everything(bench: Bench) -> None:
    wall = bench.now.wall
    run = bench.queue(
        payload=b"abc",
        priority=7,
        not_before=wall + 1_000,
        expires=500,
        timeout=60_000,
        env={"A": "b"},
        labels={"l": "m"},
        args=("x", "y"),
        key="k",
    )
    assert (run.priority, run.due, run.size, run.timeout) == (7, wall + 1_000, 3, 60_000)
    assert run.expires_at == wall + 1_500, "counted from when it could have started"
    assert run.options == {
        "not_before": wall + 1_000,
        "env": {"A": "b"},
        "labels": {"l": "m"},
        "args": ["x", "y"],
        "timeout": 60_000,
        "expires_at": wall + 1_500,
        "key": "k",
        "key_crc": 891568578,
    }
    assert run.origin == ("cli", *WHO)
    assert status(run) == "delayed"


def test_a_plain_run_is_small(bench: Bench) -> None:
    run, other = bench.queue(), bench.queue()
    assert run.options is None
    assert run.attempts is None
    assert run.origin is other.origin
    assert (run.timeout, run.expires_at, run.attempt) == (3_600_000, None, None)
    assert run.option("env") is None


def test_a_date_that_is_over_is_none(bench: Bench) -> None:
    run = bench.queue(not_before=bench.now.wall)
    assert run.due is None
    assert run.options is None


def test_the_jobs_own_expiry() -> None:
    bench = Bench()
    bench.register(expires="1m")
    assert bench.queue().expires_at == bench.now.wall + 60_000
    assert bench.queue(expires=0).expires_at == bench.now.wall


def test_many_at_once_follow_each_other(bench: Bench) -> None:
    bench.queue()
    answer = bench.do(queueing(b"a", b"b", b"c", request=KEY)).answer
    assert answer == ([(2, False), (3, False), (4, False)], [])
    assert [bench.run(id_).size for id_ in (2, 3, 4)] == [1, 1, 1]
    assert bench.run(3).option("batch") == [KEY.hex(), 2]
    assert [event.batch_index for event in bench.events[-3:] if type(event) is e.RunQueued] == [
        0,
        1,
        2,
    ]


def test_a_payload_that_is_a_file(bench: Bench) -> None:
    bench.do(queueing(Body("aa", 5_000, 99)))
    assert (bench.run(1).size, bench.run(1).body) == (5_000, Body("aa", 5_000, 99))
    again = replay(bench.events).runs.get(1)
    assert again is not None
    assert again.body == Body("aa", 5_000, 99)


@pytest.mark.parametrize(
    ("command", "error", "match"),
    [
        (queueing(job="nope"), NotFoundError, "^job nope: no such job"),
        (queueing(b"x" * 101), InvalidError, "^job job: a payload of 101 bytes: 100 at most"),
        (queueing(Body("a", 101, 0)), InvalidError, "a payload of 101 bytes"),
        (queueing(b"a", b"x" * 101), InvalidError, "a payload of 101 bytes"),
        (queueing(b"", b"", key="k"), InvalidError, "a key names one run, not 2"),
        (QueueRun("job", [], "cli", ANN), InvalidError, "^job job: nothing to queue"),
        (QueueRun("job", [], "cli", ANN, key="k"), InvalidError, "a key names one run, not 0"),
        (queueing(priority=1001), InvalidError, "^priority: 1001"),
        (queueing(priority=-1001), InvalidError, "^priority: -1001"),
        (queueing(timeout=0), InvalidError, "^timeout: "),
        (queueing(timeout=-1), InvalidError, "^timeout: "),
        (queueing(timeout=MAX_MS + 1), InvalidError, "^timeout: "),
        (queueing(expires=-1), InvalidError, "^expires: "),
        (queueing(expires=MAX_MS + 1), InvalidError, "^expires: "),
        # such a number is none that the queue on disk can hold
        (queueing(not_before=1 << 70), InvalidError, "^not_before: "),
        (queueing(not_before=START.wall + MAX_MS + 1), InvalidError, "^not_before: "),
    ],
)
def test_what_is_not_queued(command: Command, error: type[JobdError], match: str) -> None:
    bench = Bench(Rules(max_payload=100))
    bench.register()
    refused(bench, command, error, match)


def test_the_longest_timeout_of_this_host_binds_a_submitter(bench: Bench) -> None:
    bench.rules = Rules(max_timeout=3_600_000)
    bench.queue(timeout=3_600_000)
    refused(bench, queueing(timeout=3_600_001), InvalidError, "^timeout: .* 1h at most")


def test_the_queue_of_a_job_can_be_full() -> None:
    bench = Bench()
    bench.register(limits={"queue": 3})
    bench.do(queueing(b"", b""))
    refused(bench, queueing(b"", b""), RefusedError, "its queue is full: 2 of 3 runs wait")
    bench.queue()
    refused(bench, queueing(), RefusedError, "3 of 3")
    bench.claim()
    bench.queue()


# -- asking twice --------------------------------------------------------------------------


def test_a_request_that_is_sent_twice_queues_once(bench: Bench) -> None:
    first = bench.do(queueing(b"a", b"b", request=KEY))
    again = bench.do(queueing(b"a", b"b", request=KEY))
    assert again.events == []
    assert again.answer == first.answer == ([(1, False), (2, False)], [])
    assert bench.do(queueing(b"a", request=bytes(16))).answer == ([(3, False)], [])


def test_a_request_is_known_after_a_restart_and_a_removal(bench: Bench) -> None:
    bench.do(queueing(b"a", b"b", request=KEY))
    bench.do(CancelRun(1))
    bench.do(CancelRun(2))
    bench.do(UnregisterJob("job"))
    bench.restart()
    assert bench.do(queueing(b"a", b"b", request=KEY)).answer == ([(1, False), (2, False)], [])


def test_a_key_names_one_run_of_its_job(bench: Bench) -> None:
    bench.register("other")
    run = bench.queue(payload=b"a", key="k")
    same = bench.do(queueing(b"a", key="k"))
    assert (same.events, same.answer) == ([], ([(run.id, True)], []))
    differs = bench.do(queueing(b"b", key="k"))
    assert differs.events == []
    assert differs.answer[0] == [(run.id, True)]
    assert "has key 'k' and another payload" in differs.answer[1][0]
    refused(bench, queueing(b"a", b"b", key="k"), InvalidError, "a key names one run")
    assert bench.queue("other", key="k").id == 2, "keys are per job"


def test_a_key_counts_as_long_as_its_run_is_kept(bench: Bench) -> None:
    run = bench.queue(key="k")
    bench.do(CancelRun(run.id))
    assert bench.do(queueing(key="k")).answer == ([(run.id, True)], [])
    bench.restart()
    run = bench.run(run.id)
    assert bench.do(queueing(key="k")).answer == ([(run.id, True)], [])
    bench.state.forget(run)
    assert bench.state.runs.get(run.id) is None
    assert bench.do(queueing(key="k")).answer == ([(2, False)], [])


def test_a_key_with_a_payload_in_a_file(bench: Bench) -> None:
    run = bench.do(queueing(Body("a", 9, 1), key="k")).answer[0][0][0]
    assert bench.do(queueing(Body("b", 9, 1), key="k")).answer == ([(run, True)], [])
    assert bench.do(queueing(Body("b", 9, 2), key="k")).answer[1] != []


def test_forgetting_leaves_the_key_of_another_run(bench: Bench) -> None:
    first, second = bench.queue(key="k"), bench.queue()
    bench.state.jobs["job"].keys["k"] = second.id
    bench.state.forget(first)
    assert dict(bench.state.jobs["job"].keys) == {"k": second.id}
    bench.state.forget(second)

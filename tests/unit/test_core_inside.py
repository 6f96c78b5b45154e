"""What a run may do from inside: by its job's word, so many, so deep, and as itself alone."""

from __future__ import annotations

import pytest

from jobd.core import events as e
from jobd.core.access import Policy, is_admin, may, owns
from jobd.core.commands import Caller, QueueRun, ReportEnded, RetryRuns, SetJob
from jobd.core.entities import Run
from jobd.core.inside import caller_of, may_emit
from jobd.core.model import Access, Api
from jobd.core.policy import Rules
from jobd.core.principals import behind, of_run
from jobd.core.spec import parse, to_mapping
from jobd.errors import ConflictError, ForbiddenError, InvalidError, RefusedError
from tests.support.core import ANN, Bench, refused

ALL = {"queue": ["child", "job"], "emit": ["orders"], "children": 3, "depth": 2}


@pytest.fixture
def bench() -> Bench:
    one = Bench()
    one.register("job", api=ALL)
    one.register("child", api=ALL)
    one.register("other")
    return one


def started(bench: Bench, run: Run) -> Run:
    """The run, with an attempt that is live."""
    bench.claim()
    assert run.attempt is not None
    return run


def command(run: Run, job: str = "child", count: int = 1, attempt: int = 1) -> QueueRun:
    caller = caller_of(run, attempt)
    return QueueRun(job, [b""] * count, "api", caller, within=(run.id, attempt))


def queue(bench: Bench, run: Run, job: str = "child") -> Run:
    made = command(run, job)
    return bench.run(bench.do(made, made.caller).answer[0][0][0])


def test_a_child_is_linked_and_counted(bench: Bench) -> None:
    run = started(bench, bench.queue())
    child = queue(bench, run)
    assert child.option("made_by") == [run.id, 1]
    assert child.origin == ("api", ANN.uid, ANN.user, 0, f"run:{run.id}")
    assert list(bench.state.made.of(run.id)) == [child.id]
    assert child.user == ANN.uid, "what it queues is counted to who queued it"
    bench.restart()
    assert list(bench.state.made.of(run.id)) == [child.id]
    bench.state.forget(bench.run(run.id))
    assert list(bench.state.made.of(run.id)) == []


def test_what_its_job_does_not_name(bench: Bench) -> None:
    run = started(bench, bench.queue())
    refused(bench, command(run, "other"), ForbiddenError, "may not queue runs of other")


def test_what_is_taken_away_is_gone(bench: Bench) -> None:
    run = started(bench, bench.queue())
    queue(bench, run)
    bench.do(SetJob("job", {"api": True}))
    refused(bench, command(run), ForbiddenError, "may not queue")
    bench.do(SetJob("job", {"api": {"queue": ["*"]}}))
    queue(bench, run, "other")


def test_so_many_and_no_more(bench: Bench) -> None:
    run = started(bench, bench.queue())
    queue(bench, run)
    refused(bench, command(run, count=3), ConflictError, "has queued 1 runs, 3 at most")
    made = command(run, count=2)
    bench.do(made, made.caller)
    refused(bench, command(run), ConflictError, r"3 at most \(api.children of job job\)")


def test_so_deep_and_no_deeper(bench: Bench) -> None:
    run = started(bench, bench.queue())
    child = started(bench, queue(bench, run))
    grandchild = started(bench, queue(bench, child, "job"))
    assert grandchild.option("made_by") == [child.id, 2]
    refused(bench, command(grandchild), ConflictError, "3 runs stand one above the other, 2 at")


def test_over_is_over(bench: Bench) -> None:
    run = started(bench, bench.queue())
    refused(bench, command(run, attempt=2), ConflictError, "its attempt 2 is over")
    bench.do(ReportEnded(run.id, 1, 0, bench.now.wall))
    refused(bench, command(run), ConflictError, "its attempt 1 is over")


def test_the_queue_limit_of_the_user_counts() -> None:
    bench = Bench(Rules(max_user_queue=2))
    bench.register("job", api=ALL)
    bench.register("child", api=ALL)
    run = started(bench, bench.queue())
    bench.queue("child")
    queue(bench, run)
    refused(bench, command(run), RefusedError, "user ann: 2 of 2 runs wait already")


def test_done_again_by_a_person_it_is_the_persons(bench: Bench) -> None:
    run = started(bench, bench.queue())
    child = started(bench, queue(bench, run))
    bench.do(ReportEnded(child.id, 1, 1, bench.now.wall))
    (pair,) = bench.do(RetryRuns([(child.id, b"")])).answer
    again = bench.run(pair[1])
    assert again.option("made_by") is None
    assert again.origin[4] == ""


# -- who it is -----------------------------------------------------------------------------


def test_it_is_no_administrator_whoever_queued_it(bench: Bench) -> None:
    for uid in (0, 1000):
        caller = Caller(uid, "root", 0, "run:5", within=(5, 1))
        policy = Policy(admin=("root", "@jobd-admin", "*"), owner=1000)
        assert not is_admin(caller, policy)
        anybody = Access(submit=("*",), read=("*",), manage=("*", "root"))
        assert not may(caller, "read", policy, anybody)  # type: ignore[arg-type]


def test_it_owns_its_own_and_nobody_elses(bench: Bench) -> None:
    first, second = bench.queue(), bench.queue()
    bench.claim()
    mine, theirs = queue(bench, first), queue(bench, second)
    caller = caller_of(first, 1)
    assert owns(caller, mine)
    assert owns(caller, first)
    assert not owns(caller, theirs)
    assert not owns(caller, second)
    below = queue(bench, started(bench, mine), "job")
    assert not owns(caller, below), "its children, not what these queue"
    assert owns(ANN, below), "who queued the first owns what comes of it"
    assert not owns(Caller(ANN.uid, "ann", 1, "token:ci"), mine)
    assert not owns(Caller(1001, "bob", 1), mine)


def test_a_gateways_caller_stays_behind_it() -> None:
    assert of_run(4, "") == "run:4"
    assert of_run(4, "token:ci") == "run:4/token:ci"
    assert of_run(5, of_run(4, "token:ci")) == "run:5/token:ci"
    assert of_run(5, of_run(4, "")) == "run:5"
    assert [behind(p) for p in ("", "token:ci", "run:4", "run:4/token:ci")] == [
        "",
        "token:ci",
        "",
        "token:ci",
    ]
    bench = Bench()
    bench.register("job", api=ALL)
    bench.register("child")
    gateway = Caller(33, "www-data", 1, "token:ci")
    (made,) = bench.do(QueueRun("job", [b""], "api", gateway), gateway).answer[0]
    child = queue(bench, started(bench, bench.run(made[0])))
    assert child.user == "token:ci"
    assert owns(gateway, child)
    assert not owns(Caller(33, "www-data", 1), child), "the gateway's own uid has no rights"


def test_topics_are_named_one_by_one(bench: Bench) -> None:
    run = bench.queue()
    assert may_emit(run, "orders")
    assert not may_emit(run, "other")
    assert not may_emit(bench.queue("other"), "orders")


def test_the_last_word_is_in_the_end(bench: Bench) -> None:
    run = started(bench, bench.queue())
    bench.do(ReportEnded(run.id, 1, 0, bench.now.wall, progress=(70, "almost")))
    assert run.attempt is not None
    assert run.attempt.end is not None
    assert run.attempt.end.progress == [70, "almost"]
    old = e.encode(run.attempt.end)
    assert e.decode(35, run.id, old) == run.attempt.end


@pytest.mark.parametrize(
    ("api", "path"),
    [
        (1, "api"),
        ({"que": []}, "api.que"),
        ({"queue": "a"}, "api.queue"),
        ({"queue": ["last"]}, "api.queue"),
        ({"queue": ["../x"]}, "api.queue"),
        ({"emit": [""]}, "api.emit"),
        ({"children": 0}, "api.children"),
        ({"children": 10_001}, "api.children"),
        ({"depth": True}, "api.depth"),
    ],
)
def test_what_is_refused_names_its_key(api: object, path: str) -> None:
    with pytest.raises(InvalidError, match=f"^{path}: "):
        parse({"name": "job", "image": "i", "api": api})


def test_a_table_is_as_good_as_true() -> None:
    made = parse({"name": "job", "image": "i", "api": {}})
    assert made.api == parse({"name": "job", "image": "i", "api": True}).api
    assert to_mapping(made)["api"] is True
    assert to_mapping(parse({"name": "job", "image": "i"}))["api"] is False


def test_single_keys_of_the_table_can_be_set(bench: Bench) -> None:
    bench.do(SetJob("other", {"api": "true"}))
    assert bench.state.jobs["other"].spec.api == Api(on=True)
    bench.do(SetJob("other", {"api.queue": "child, job", "api.children": "7"}))
    assert bench.state.jobs["other"].spec.api == Api(True, ("child", "job"), (), 7)
    bench.do(SetJob("other", {"api.children": None}))
    assert bench.state.jobs["other"].spec.api == Api(True, ("child", "job"))
    refused(bench, SetJob("other", {"api.que": "x"}), InvalidError, "api.que: unknown key")
    bench.do(SetJob("other", {"api": "false"}))
    assert bench.state.jobs["other"].spec.api == Api()


def test_the_same_file_again_is_the_same_run(bench: Bench) -> None:
    """A crash between the run's being on disk and the file's being let go of."""
    run = started(bench, bench.queue())
    first = command(run)._replace(key="1.1/abc")
    made = bench.do(first, first.caller).answer[0]
    assert bench.do(first, first.caller).answer[0] == [(made[0][0], True)]
    bench.do(ReportEnded(run.id, 1, 0, bench.now.wall))
    bench.restart()
    assert bench.do(first, first.caller).answer[0] == [(made[0][0], True)], "and when it is over"
    assert list(bench.state.made.of(run.id)) == [made[0][0]]

"""Runs that ends and notifications make: chains, fan-out and fan-in, exactly once each."""

from __future__ import annotations

import json
from random import Random
from typing import Any, cast

import pytest

from jobd.core.commands import (
    ApplyJobs,
    Body,
    CancelRun,
    PauseJob,
    RegisterJob,
    RetryRuns,
    UnregisterJob,
)
from jobd.core.policy import Rules
from jobd.core.states import RunState
from jobd.core.topics import Chain
from jobd.daemon.room import REACTION_ROOM, Room
from jobd.errors import ConflictError, InvalidError
from tests.support.core import SYSTEM, problems, refused, replay
from tests.support.line import Line, jobs_of, payload_of
from tests.support.stating import Kept, told

# -- finished runs ----------------------------------------------------------------------------


def test_the_next_job_gets_the_result() -> None:
    line = Line()
    line.register("etl")
    line.on("load", {"run": "etl"})
    first = line.queue("etl", labels={"day": "mon"})
    (made,) = line.end(first.id, result=b"rows")
    assert made.job.name == "load"
    assert payload_of(line, made) == b"rows"
    assert made.origin[0] == "run"
    assert made.option("source") == ["etl", None]
    assert made.option("chain") == [1, first.id, first.id, "succeeded", False]
    assert made.option("labels") == {"day": "mon"}
    assert made.origin[2] == "ann", "in the name of who registered the job that listens"


def test_a_large_result_is_the_same_file() -> None:
    line = Line()
    line.register("etl")
    line.on("load", {"run": "etl"})
    body = Body("b-1", 1 << 20, 7)
    (made,) = line.end(line.queue("etl").id, result=body)
    assert made.body == body


@pytest.mark.parametrize(
    ("outcome", "code", "made"),
    [
        ("succeeded", 0, True),
        ("succeeded", 3, False),
        ("failed", 0, False),
        ("failed", 3, True),
        ("any", 0, True),
        ("any", 3, True),
    ],
)
def test_an_outcome_is_asked_for(outcome: str, code: int, made: bool) -> None:
    line = Line()
    line.register("etl")
    line.on("next", {"run": "etl", "outcome": outcome})
    assert bool(line.end(line.queue("etl").id, code)) is made


def test_a_failure_that_is_retried_is_no_end() -> None:
    line = Line()
    line.register("etl", retry={"attempts": 2, "delay": "1s"})
    line.on("alarm", {"run": "etl", "outcome": "failed"})
    run = line.queue("etl")
    assert line.end(run.id, 3) == []
    line.later(5_000)
    assert jobs_of(line.end(run.id, 3)) == ["alarm"]


def test_what_never_ran_makes_nothing_and_a_stopped_one_is_an_end() -> None:
    line = Line()
    line.register("etl")
    line.on("after", {"run": "etl", "outcome": "any"})
    line.on("alarm", {"run": "etl", "outcome": "failed"})
    waiting = line.queue("etl")
    line.do(CancelRun(waiting.id))
    assert line.state.next_run == waiting.id + 1
    active = line.queue("etl")
    line.claim()
    line.do(CancelRun(active.id))
    assert jobs_of(line.end(active.id, 143)) == ["after"]


def test_one_end_makes_many_and_each_job_gets_one() -> None:
    line = Line()
    line.register("a")
    for name in ("b", "c", "d"):
        line.on(name, {"run": "a"}, {"run": "a", "outcome": "any"})
    made = line.end(line.queue("a").id)
    assert jobs_of(made) == ["b", "c", "d"]
    assert [run.id for run in made] == [2, 3, 4]
    assert not list(problems(line.state))


def test_a_filter_is_met_or_nothing_is_made() -> None:
    line = Line()
    line.register("a")
    line.on("b", {"run": "a", "labels": {"region": ["eu", "us"]}, "payload": {"n.k": 1}})
    ok = json.dumps({"n": {"k": 1}}).encode()
    assert line.end(line.queue("a", labels={"region": "eu"}).id, result=ok)
    assert not line.end(line.queue("a", labels={"region": "asia"}).id, result=ok)
    assert not line.end(line.queue("a", labels={"region": "us"}).id, result=b'{"n": {"k": true}}')
    assert not line.end(line.queue("a", labels={"region": "us"}).id, result=b"no json")
    assert not line.end(line.queue("a", labels={"region": "us"}).id, result=b"[" * 100_000)


def test_every_policy_applies() -> None:
    line = Line()
    line.register("a")
    line.on("skips", {"run": "a"}, overlap="skip")
    line.on("full", {"run": "a"}, limits={"queue": 1})
    line.do(PauseJob("full", True))
    line.queue("skips")
    line.queue("full")
    made = line.end(line.queue("a").id)
    assert jobs_of(made) == ["skips"]
    assert made[0].state is RunState.DONE
    assert made[0].note is not None
    assert made[0].note.code == "overlap"
    refusal = line.state.reactions.refused[line.state.jobs["full"].id]
    assert "queue is full" in refusal.text
    assert (refusal.trigger, refusal.name, refusal.times) == ("run", "a", 1)


def test_the_users_limit_counts_all_of_one_decision() -> None:
    line = Line(Rules(max_user_queue=2))
    line.register("a")
    for name in ("b", "c", "d"):
        line.on(name, {"run": "a"})
    assert jobs_of(line.end(line.queue("a").id)) == ["b", "c"]
    assert "wait already" in line.state.reactions.refused[line.state.jobs["d"].id].text


def test_room_is_kept_for_what_an_end_makes() -> None:
    """What an end makes is written with it: a full disk must not come in between."""
    line = Line()
    line.register("a")
    line.queue("a")
    line.claim()
    room = Room(cast("Any", None), line.state)
    before = room.promised()
    for name in ("b", "c"):
        line.on(name, {"run": "a"})
    assert room.promised() == before + 2 * REACTION_ROOM


# -- loops and depth ---------------------------------------------------------------------------


def test_a_loop_is_refused_and_named() -> None:
    line = Line()
    spec = {"name": "a", "image": "i", "on": [{"run": "a"}]}
    refused(line, RegisterJob(spec), InvalidError, "a loop: a -> a")
    line.on("b", {"run": "a"})
    line.on("c", {"run": ["b", "x"], "outcome": "any"})
    spec["on"] = [{"run": "c", "outcome": "failed"}]
    refused(line, RegisterJob(spec), InvalidError, "a loop: a -> b -> c -> a")
    line.do(UnregisterJob("c"))
    line.do(RegisterJob(spec))


def test_a_loop_among_jobs_of_one_command() -> None:
    line = Line()
    one = {"name": "a", "image": "i", "on": [{"run": "b"}]}
    two = {"name": "b", "image": "i", "on": [{"run": "a"}]}
    refused(line, ApplyJobs([(one, ""), (two, "")]), InvalidError, "a loop: a -> b -> a")
    line.do(ApplyJobs([(one, ""), ({**two, "on": []}, "")]))
    # the other way round, both at once
    line.do(ApplyJobs([({**one, "on": []}, ""), (two, "")]))
    assert line.state.jobs["b"].spec.on


def test_a_chain_that_makes_itself_is_cut() -> None:
    line = Line(Rules(max_chain=3))
    line.on("a", {"topic": "again"})
    ((first, _),) = line.emit("again").runs
    runs = [line.run(first)]
    for _ in range(3):
        last = runs[-1]
        depth, root, *_ = last.option("chain")
        ((number, _),) = line.emit("again", chain=Chain(depth, root, last.id)).runs
        runs.append(line.run(number))
    assert [run.option("chain")[:2] for run in runs] == [[n, first] for n in range(4)]
    depth, root, *_ = runs[-1].option("chain")
    with pytest.raises(ConflictError, match="cut after 3 steps"):
        line.emit("again", chain=Chain(depth, root, runs[-1].id))


def test_a_long_chain_of_ends_is_cut_and_told() -> None:
    line = Line(Rules(max_chain=2))
    line.register("a")
    for before, name in ("ab", "bc", "cd"):
        line.on(name, {"run": before})
    run = line.queue("a")
    (run,) = line.end(run.id)
    (run,) = line.end(run.id)
    assert run.job.name == "c"
    assert line.end(run.id) == []
    assert "cut after 2 steps" in line.state.reactions.refused[line.state.jobs["d"].id].text


# -- fan-in ------------------------------------------------------------------------------------


def diamond(line: Line, outcome: str = "succeeded", **settings: Any) -> None:
    line.register("a")
    line.on("left", {"run": "a"})
    line.on("right", {"run": "a"})
    line.on("both", {"run": ["left", "right"], "outcome": outcome}, **settings)


def test_a_fan_in_waits_for_all() -> None:
    line = Line()
    diamond(line)
    left, right = line.end(line.queue("a", labels={"day": "mon"}).id)
    other_left, other_right = line.end(line.queue("a").id)
    assert line.end(left.id, result=b"l") == []
    assert line.end(other_right.id) == []
    assert line.state.children.needed(left.id), "its result is kept for the one that reads it"
    (both,) = line.end(right.id, result=b"r")
    assert json.loads(payload_of(line, both)) == {
        "left": {"run": left.id, "outcome": "succeeded"},
        "right": {"run": right.id, "outcome": "succeeded"},
    }
    assert both.option("after") == [[left.id, "any"], [right.id, "any"]]
    assert both.option("source") == ["left+right", None]
    assert both.option("labels") == {"day": "mon"}
    assert not both.parents
    (other,) = line.end(other_left.id)
    assert other.option("chain")[0] == 2
    assert line.state.reactions.joins == {}
    line.end(both.id)
    line.end(other.id)
    assert not line.state.children.needed(left.id)
    assert not list(problems(line.state))


def test_a_retried_part_of_a_fan_in_counts() -> None:
    line = Line()
    diamond(line)
    left, right = line.end(line.queue("a").id)
    line.end(left.id)
    assert line.end(right.id, 1) == []
    line.do(RetryRuns([(right.id, b"")]))
    (both,) = line.end(line.state.next_run - 1)
    assert both.job.name == "both"
    line.end(both.id, 1)
    line.do(RetryRuns([(both.id, b"{}")]))
    again = line.run(line.state.next_run - 1)
    assert again.option("after") == both.option("after"), "it reads the same results"
    assert not again.parents


def test_an_overlap_is_settled_for_a_fan_in() -> None:
    line = Line()
    diamond(line, overlap="skip")
    for _ in range(2):
        left, right = line.end(line.queue("a").id)
        line.end(left.id)
        made = line.end(right.id)
        line.claim()
    assert made[0].state is RunState.DONE


def test_a_gathering_is_dropped_with_its_entry_and_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("jobd.core.reacting.MOST_JOINS", 2)
    line = Line()
    diamond(line)
    for _ in range(3):
        left, _ = line.end(line.queue("a").id)
        line.end(left.id)
    ((key, open_),) = line.state.reactions.joins.items()
    assert key[1] == "left+right"
    assert list(open_) == [4, 7]
    refusal = line.state.reactions.refused[line.state.jobs["both"].id]
    assert "gave up waiting for right in the chain that began with run 1" in refusal.text
    line.on("both", {"run": "left"})
    assert line.state.reactions.joins == {}
    assert not line.state.children.needed(left.id)


# -- the way through the disk ------------------------------------------------------------------


def test_crashed_at_each_batch_each_end_makes_its_runs_once() -> None:
    """A start from any number of whole decisions goes on to the same runs, none twice."""
    for seed in range(12):
        random = Random(seed)
        line = Line()
        diamond(line, "any")
        line.on("mail", {"topic": "t"}, {"run": "both", "outcome": "any"})
        cuts = [len(line.events)]
        for _ in range(25):
            if random.random() < 0.3:
                line.queue("a") if random.random() < 0.5 else line.emit("t")
            live = [run.id for run in line.state.live_runs()]
            if live:
                line.end(random.choice(live), random.choice([0, 0, 1]))
            cuts.append(len(line.events))
            assert not list(problems(line.state)), seed
        causes = [
            (run.job.name, run.option("chain")[2])
            for run in line.state.runs.oldest_first()
            if run.origin[0] == "run"
        ]
        assert len(causes) == len(set(causes)), seed
        kept, state, start = Kept(), replay([]), 0
        for cut in sorted({*random.sample(cuts, 5), cuts[-1]}):
            kept.apply(state, line.events[start:cut])
            start = cut
            state, _ = kept.through(state)
            again = replay(line.events[:cut])
            assert told(state) == told(again), seed
        _goes_on_alike(line, state)


def _goes_on_alike(line: Line, state: Any) -> None:
    """The state from disk decides on the next end as the one that never crashed does."""
    other = Line(now=line.now)
    other.state = state
    other.events = list(line.events)
    for run in [run.id for run in line.state.live_runs()][:3]:
        assert jobs_of(line.end(run)) == jobs_of(other.end(run))
    assert told(line.state) == told(other.state)


def test_a_removed_job_listens_no_more() -> None:
    line = Line()
    line.register("a")
    line.on("b", {"run": "a"}, {"topic": "t"})
    line.do(UnregisterJob("b"), SYSTEM)
    assert line.end(line.queue("a").id) == []
    assert line.emit("t").runs == []
    assert line.state.reactions.most == 0

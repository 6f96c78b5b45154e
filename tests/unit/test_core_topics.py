"""Notifications: who gets a run of them, in whose name; and what an `[[on]]` may say."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.access import Policy
from jobd.core.commands import Caller, RegisterJob
from jobd.core.policy import Rules
from jobd.errors import ForbiddenError, InvalidError
from tests.support.core import Bench, problems, refused
from tests.support.line import Line

BOB = Caller(2000, "bob", 12)


# -- topics ------------------------------------------------------------------------------------


def test_each_job_that_listens_gets_a_run_in_one_decision() -> None:
    line = Line()
    line.on("mail", {"topic": "orders"})
    line.on("book", {"topic": "orders", "payload": {"kind": "new"}})
    line.on("eu", {"topic": "orders", "labels": {"region": "eu"}})
    line.on("other", {"topic": "refunds"})
    before = len(line.events)
    answer = line.emit("orders", b'{"kind": "new"}', labels={"region": "us"}, request=b"k" * 16)
    assert [name for _, name in answer.runs] == ["mail", "book"]
    made = line.events[before:]
    assert [type(event).__name__ for event in made] == ["RunQueued", "RunQueued", "TopicEmitted"]
    run = line.run(answer.runs[1][0])
    assert run.origin[0] == "topic"
    assert run.option("source") == ["orders", None]
    assert run.option("labels") == {"region": "us"}
    again = line.emit("orders", b"", request=b"k" * 16)
    assert again.runs == answer.runs
    assert len(line.events) == before + 3


def test_a_topic_that_nobody_listens_to() -> None:
    line = Line()
    assert line.emit("nothing") == ([], [], [])
    assert isinstance(line.events[-1], e.TopicEmitted)
    with pytest.raises(InvalidError, match="is not a topic"):
        line.emit("no spaces")


def test_what_one_job_refuses_is_told_and_keeps_no_other() -> None:
    line = Line()
    line.on("full", {"topic": "t"}, limits={"queue": 1})
    line.on("open", {"topic": "t"})
    line.queue("full")
    answer = line.emit("t")
    assert [name for _, name in answer.runs] == ["open"]
    assert [name for name, _ in answer.refused] == ["full"]
    assert "queue is full" in answer.refused[0][1]
    assert not list(problems(line.state))


def test_who_may_emit_to_whom() -> None:
    line = Line(Rules(access=Policy(submit=("nobody",))))
    line.on("his", {"topic": "t"}, access={"submit": ["bob"]})
    line.on("seen", {"topic": "t"}, access={"read": ["bob"]})
    line.on("hidden", {"topic": "t"})
    answer = line.emit("t", caller=BOB)
    assert [name for _, name in answer.runs] == ["his"]
    assert (answer.refused, answer.forbidden) == ([], ["seen"])
    assert line.run(answer.runs[0][0]).origin[2] == "bob"


def test_results_are_not_to_be_had_by_listening() -> None:
    line = Line(Rules(access=Policy(submit=("nobody",))))
    line.register("secret")
    line.register("mine", access={"manage": ["bob"]})
    for name in ("secret", "nothere"):
        spec = {"name": "mine", "image": "busybox", "access": {"manage": ["bob"]}}
        with pytest.raises(ForbiddenError, match="only who may read"):
            line.do(RegisterJob({**spec, "on": [{"run": name}]}), BOB)
    line.register("secret", access={"read": ["bob"]})
    line.do(RegisterJob({**spec, "on": [{"run": "secret"}]}), BOB)


# -- the table in a job file -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({}, r"on\[0\]: expected one of run, path, topic, got none"),
        ({"run": "a", "topic": "b"}, "got run, topic"),
        ({"run": "1"}, r"on\[0\].run: '1' is not a job name"),
        ({"run": []}, "expected a job, or up to"),
        ({"run": ["a", "a"]}, "a is there twice"),
        ({"run": "a", "outcome": "ok"}, "expected one of succeeded, failed, any"),
        ({"run": "a", "outcom": "any"}, r"on\[0\].outcom: unknown key; did you mean outcome"),
        ({"topic": "a b"}, "is not a topic"),
        ({"topic": "a", "outcome": "any"}, "unknown key"),
        ({"topic": "a", "labels": {"x": 1}}, r"on\[0\].labels.x: 1: expected text"),
        ({"topic": "a", "payload": {"x": None}}, "expected text, a number"),
        ({"topic": "a", "payload": "x"}, "expected a table, got text"),
        ({"hook": "x"}, "not supported by this version"),
    ],
)
def test_what_is_refused(entry: dict[str, Any], match: str) -> None:
    spec = {"name": "job", "image": "i", "on": [entry]}
    refused(Bench(), RegisterJob(spec), InvalidError, match)

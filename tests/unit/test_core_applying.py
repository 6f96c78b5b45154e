"""Many jobs at once: all or none, what differs, and who may change what comes from a file."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import (
    APPLIED,
    FOLDER,
    ApplyJobs,
    Caller,
    PauseJob,
    RegisterJob,
    SetJob,
    UnregisterJob,
)
from jobd.core.decision import caller_fields
from jobd.core.masking import MASK
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.errors import ConflictError, ForbiddenError, InvalidError
from tests.support.core import ANN, START, Bench, queueing, refused, replay

WHO = caller_fields(ANN)


@pytest.fixture
def bench() -> Bench:
    """A core without jobs."""
    return Bench()


def job(name: str, **more: Any) -> dict[str, Any]:
    """A job file's mapping."""
    return {"name": name, "image": "img", **more}


def apply(bench: Bench, *specs: dict[str, Any], origin: str = APPLIED, **options: Any) -> Any:
    """The rows that applying answers, without empty `changes`."""
    rows = bench.do(ApplyJobs([(spec, origin) for spec in specs], **options)).answer
    return [
        (row["job"], row["action"], [list(one.values()) for one in row.get("changes") or ()])
        for row in rows
    ]


def test_all_are_registered_and_only_differences_are_changed(bench: Bench) -> None:
    assert apply(bench, job("a"), job("b")) == [("a", "created", []), ("b", "created", [])]
    assert [bench.state.jobs[name].id for name in "ab"] == [1, 2]
    rows = apply(bench, job("a", env={"X": "1"}, retry={"attempts": 3}), job("b"), job("c"))
    assert rows[1:] == [("b", "unchanged", []), ("c", "created", [])]
    assert rows[0] == (
        "a",
        "changed",
        [
            ["env.X", None, "1"],
            ["retry.attempts", 1, 3],
            ["retry.interrupted", "hold", "retry"],
        ],
    )
    assert bench.state.jobs["c"].id == 3
    assert [bench.state.jobs[name].revision for name in "abc"] == [2, 1, 1]
    assert replay(bench.events).jobs.keys() == bench.state.jobs.keys()


def test_one_mistake_and_nothing_is_changed(bench: Bench) -> None:
    specs = [job("a"), job("b", cpu=1), job("a")]
    command = ApplyJobs([(spec, APPLIED) for spec in specs])
    refused(bench, command, InvalidError, "2 mistakes in all")
    with pytest.raises(InvalidError) as caught:
        bench.do(command)
    mistakes: Any = caught.value.details["mistakes"]
    assert [name for name, _ in mistakes] == ["b", "a"]
    assert not bench.state.jobs


def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    decision = bench.do(ApplyJobs([(job("a"), APPLIED)], dry_run=True))
    assert decision.events == []
    assert decision.answer[0]["action"] == "created"
    assert not bench.state.jobs


def test_pruning_removes_what_an_earlier_apply_made_and_nothing_else(bench: Bench) -> None:
    bench.do(RegisterJob(job("mine")))
    apply(bench, job("filed"), origin=f"{FOLDER}filed.toml")
    apply(bench, job("a"), job("b"))
    assert apply(bench, job("a"), prune=APPLIED) == [("a", "unchanged", []), ("b", "pruned", [])]
    assert set(bench.state.jobs) == {"mine", "filed", "a"}


def test_a_job_with_live_runs_is_not_pruned(bench: Bench) -> None:
    apply(bench, job("a"), job("b"))
    bench.do(queueing(job="b"))
    command = ApplyJobs([(job("c"), APPLIED)], prune=APPLIED)
    refused(bench, command, ConflictError, "1 live run")
    rows = apply(bench, job("a", priority=1), prune=APPLIED, keep_live=True)
    assert [row[:2] for row in rows] == [("a", "changed"), ("b", "kept")]
    assert set(bench.state.jobs) == {"a", "b"}


def test_what_comes_from_a_file_is_changed_there(bench: Bench) -> None:
    origin = f"{FOLDER}a.toml"
    apply(bench, job("a"), origin=origin)
    commands = (
        RegisterJob(job("a")),
        UnregisterJob("a"),
        ApplyJobs([(job("a", priority=1), APPLIED)]),
    )
    for command in commands:
        refused(bench, command, ConflictError, "jobs.d/a.toml")
    # how it runs is not what it is
    bench.do(PauseJob("a", True))
    assert apply(bench, job("a"), origin=origin) == [("a", "unchanged", [])]
    assert apply(bench, origin=origin, prune=FOLDER) == [("a", "pruned", [])]


def test_single_settings_keep_the_origin(bench: Bench) -> None:
    apply(bench, job("a"))
    apply(bench, job("filed"), origin=f"{FOLDER}filed.toml")
    bench.do(SetJob("a", {"priority": 3}))
    assert bench.state.jobs["a"].origin == APPLIED
    refused(bench, SetJob("filed", {"priority": 3}), ConflictError, "jobs.d/filed.toml")


def test_a_job_moves_to_another_origin_without_a_new_revision(bench: Bench) -> None:
    bench.do(RegisterJob(job("a")))
    bench.now = Now(START.wall + 5, START.mono + 5)
    assert apply(bench, job("a")) == [("a", "moved", [])]
    assert apply(bench, job("a"), origin=f"{FOLDER}a.toml") == [("a", "moved", [])]
    assert bench.state.jobs["a"].revision == 1
    assert bench.state.jobs["a"].origin == "jobs.d/a.toml"
    assert bench.state.jobs["a"].made[1] == (START.wall, WHO), "who made it is not who moved it"
    again = replay(bench.events).jobs["a"]
    assert (again.revision, again.origin) == (1, "jobs.d/a.toml")


def test_an_event_of_before_there_were_origins_is_by_hand() -> None:
    old = e.JobRegistered(1, "a", 1, {}, 0, [0, "", 0, ""])
    assert old.origin == ""


def test_who_may_not_register_may_not_apply(bench: Bench) -> None:
    apply(bench, job("a", access={"manage": ["bob"]}), job("b"))
    bob = Caller(2000, "bob", 1)
    command = ApplyJobs([(job("a", priority=3, access={"manage": ["bob"]}), APPLIED)])
    assert bench.do(command, bob).answer[0]["action"] == "changed"
    for spec in (job("b", priority=3), job("new"), job("a", access={"manage": ["bob", "eve"]})):
        with pytest.raises(ForbiddenError):
            bench.do(ApplyJobs([(spec, APPLIED)]), bob)


def test_changes_show_no_secrets(bench: Bench) -> None:
    apply(bench, job("a", env={"API_TOKEN": "one", "LANG": "C"}))
    ((_, _, changes),) = apply(bench, job("a", env={"API_TOKEN": "two", "LANG": "D"}))
    assert changes == [["env.API_TOKEN", MASK, MASK], ["env.LANG", "C", "D"]]


def test_all_that_the_host_does_not_allow_is_told(bench: Bench) -> None:
    spec = job("a", network="weird", retry={"attempts": 9}, resources={"cpus": 9})
    bench.rules = Rules(max_cpus=2, max_attempts=3, access=bench.rules.access)
    with pytest.raises(InvalidError) as caught:
        bench.do(ApplyJobs([(spec, APPLIED)]))
    mistakes: Any = caught.value.details["mistakes"]
    words = ["network", "resources.cpus", "retry.attempts"]
    assert [text.split()[0] for _, text in mistakes] == words


def test_long_values_are_cut_in_the_list_of_changes(bench: Bench) -> None:
    apply(bench, job("a", config="x" * 5000, command=["y"] * 500))
    ((_, _, changes),) = apply(bench, job("a", config="z", command=["y"]))
    old = {key: before for key, before, _ in changes}
    assert len(old["config"]) < 300
    assert "5000 characters" in old["config"]
    assert len(old["command"]) < 300

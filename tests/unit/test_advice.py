"""`suggest`: limits from what attempts really used."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.policy import Rules
from jobd.forecast.advice import MOST, Proposal, Used, lines, proposals, used
from tests.support.core import Bench
from tests.support.situations import event_for

MIB = 1 << 20


def ask(found: list[Used], rules: Rules | None = None, **job: Any) -> dict[str, Proposal]:
    bench = Bench()
    bench.register("j", **job)
    made = proposals(bench.state.jobs["j"], found, rules or Rules())
    return {one.key: one for one in made}


def fine(memory: int = 100, cpus: float = 0.2, seconds: int = 100) -> Used:
    return Used("succeeded", memory * MIB, cpus, seconds * 1000)


def test_what_most_stayed_below_with_headroom() -> None:
    # one of twenty is an exception, two are not
    found = [fine() for _ in range(19)] + [fine(400, 3.0, 10_000)]
    told = ask(found)
    assert told["resources.memory"][1:3] == ("512M", "128M")
    assert told["resources.cpus"][1:3] == (1.0, 0.25)
    assert told["timeout"][1:3] == ("1h", "5m")
    told = ask([*found, fine(400, 3.0, 10_000)])
    assert told["resources.memory"].changes is False
    assert told["resources.cpus"].proposed == pytest.approx(3.6)
    assert told["timeout"].proposed == "8h20m"


def test_more_where_a_limit_cut_it_short() -> None:
    killed = Used("oom-killed", 512 * MIB, 0.9, 5_000, 0.4)
    late = Used("timed-out", 10 * MIB, 0.9, 3_600_000, 0.4)
    told = ask([killed, late])
    assert told["resources.memory"].proposed == "768M"
    assert "1 of 2 attempts were killed for memory at 512M" in told["resources.memory"].text
    assert told["timeout"].proposed == "2h"
    assert told["resources.cpus"].proposed == 1.5
    assert "held back by their limit" in told["resources.cpus"].text
    told = ask([killed, late], Rules(max_memory=600 * MIB, max_timeout=3_700_000, max_cpus=1.2))
    assert told["resources.memory"].proposed == "600M"
    assert told["timeout"].proposed == "1h1m40s"
    assert told["resources.cpus"].proposed == 1.2
    assert all("more than maxima." in one.text for one in told.values())


def test_nothing_is_proposed_from_nothing() -> None:
    assert ask([]) == {}
    assert ask([Used("failed", None, None, 5_000)]) == {}
    assert set(ask([Used("succeeded", None, None, 5_000)])) == {"timeout"}


def test_the_lines_are_a_job_files() -> None:
    made = ask([fine() for _ in range(9)])
    text = "\n".join(lines(made.values()))
    assert tomllib.loads(text) == {
        "timeout": "5m",
        "resources": {"memory": "128M", "cpus": 0.25},
    }
    settled = ask([fine() for _ in range(9)], timeout="5m", resources={"memory": "128M"})
    assert list(lines(settled.values())) == ["[resources]", "cpus = 0.25"]


def test_attempts_that_ended_by_themselves_count() -> None:
    bench = Bench()
    bench.register("j")
    runs = [bench.queue("j") for _ in range(3)]
    bench.claim()
    for run, outcome in zip(runs, ("succeeded", "interrupted", "succeeded"), strict=True):
        bench.apply(event_for(bench, run.id, e.AttemptStarted))
        started = bench.run(run.id).attempts
        assert started
        assert started[0].started
        at = started[0].started.started_at + 2_000
        bench.apply(
            e.AttemptEnded(
                run.id, 1, at, outcome, True, 0, finished_at=at, cpu_seconds=1.0
            )._replace(memory_peak=MIB, throttled_periods=1, periods=4)
        )
    found = used(runs)
    assert found == [Used("succeeded", MIB, 0.5, 2_000, 0.25)] * 2
    assert len(used(runs * MOST)) == MOST

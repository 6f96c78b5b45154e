"""One alert for one trouble, counted; told once, and told that it is over."""

from __future__ import annotations

from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import ReportEnded, ReportStarted, UnregisterJob
from tests.support.alerting import (
    HOOK,
    bench,
    book,
    end,
    look,
    only,
    registered,
    same_after_restart,
    told,
)
from tests.support.core import SYSTEM

# -- one trouble ---------------------------------------------------------------------------


def test_one_trouble_is_told_once_counted_and_told_to_be_over() -> None:
    one = registered("dead")
    for _ in range(3):
        last = end(one, 3)
        assert told(one) in (["raised"], [])
    alert = only(one)
    assert (alert.what, alert.count, alert.run, alert.resolved_at) == ("dead", 3, last, None)
    end(one, 0)
    assert alert.resolved_at is not None
    assert told(one) == ["resolved"]
    assert told(one) == []
    end(one, 3)
    assert told(one) == ["raised"]
    assert len(book(one).alerts) == 2
    same_after_restart(one)


def test_a_job_without_alerts_has_none() -> None:
    one = bench()
    one.register()
    end(one, 3)
    assert not book(one).alerts
    assert not any(type(event) is e.AlertRaised for event in one.events)


@pytest.mark.parametrize(
    ("what", "status", "result", "well"),
    [("failed", 3, None, 0), ("dead", 3, None, 0), ("no-result", 0, None, 0)],
)
def test_what_ends_of_attempts_raise(what: str, status: int, result: Any, well: int) -> None:
    one = registered(what)
    end(one, status, result=result)
    assert only(one).what == what
    end(one, well, result=b"result")
    assert only(one).resolved_at is not None
    assert told(one) == ["raised", "resolved"]


def test_an_attempt_that_is_tried_again_is_failed_and_not_dead() -> None:
    one = bench()
    retry = {"attempts": 2, "delay": "1s", "jitter": 0}
    both = [{"on": ["failed"], "url": HOOK}, {"on": ["dead"], "command": "page"}]
    one.register(alert=both, retry=retry)
    end(one, 3)
    assert [a.what for a in book(one).alerts.values()] == ["failed"]
    one.later(1_000)
    assert one.claim() == [1]
    one.do(ReportStarted(1, 2, "c", "i", one.now.wall), SYSTEM)
    one.do(ReportEnded(1, 2, 3, one.now.wall), SYSTEM)
    assert [(a.what, a.count) for a in book(one).alerts.values()] == [("failed", 2), ("dead", 1)]


def test_a_time_out_is_a_kind_of_its_own() -> None:
    one = bench()
    one.register(alert=[{"on": ["timed-out"], "url": HOOK}], timeout="1s")
    run = one.queue()
    one.claim()
    one.do(ReportStarted(run.id, 1, "c", "i", one.now.wall), SYSTEM)
    one.later(1_000)
    one.do(ReportEnded(run.id, 1, 143, one.now.wall), SYSTEM)
    assert only(one).what == "timed-out"


def test_the_breaker() -> None:
    one = bench()
    one.register(alert=[{"on": ["breaker"], "to": "ops"}], breaker={"failures": 2})
    end(one, 3)
    assert not book(one).alerts
    end(one, 3)
    assert only(one).what == "breaker"
    one.later(300_000)
    end(one, 0)
    assert only(one).resolved_at is not None


def test_all_destinations_are_told_each_once() -> None:
    one = bench(on=[{"on": ["dead"], "url": HOOK}, {"on": ["dead"], "journal": True}])
    one.register(alert=[{"on": ["dead", "failed"], "url": HOOK}])
    end(one, 3)
    dead = next(a for a in book(one).alerts.values() if a.what == "dead")
    assert [d.to.kind for d in dead.deliveries] == ["url", "journal"]


def test_a_job_that_is_removed_has_no_trouble_any_more() -> None:
    one = registered("dead")
    end(one, 3)
    one.do(UnregisterJob("job"))
    assert only(one).resolved_at is not None
    assert told(one) == ["raised", "resolved"]


def test_what_nobody_wants_to_hear_of_any_more_is_over() -> None:
    one = registered("dead")
    end(one, 3)
    one.register()
    look(one)
    assert only(one).resolved_at is not None


# -- what lasts ----------------------------------------------------------------------------


def test_late_by_the_time_since_the_last_success() -> None:
    one = registered("late", within="1h")
    one.later(3_599_000)
    look(one)
    assert not book(one).alerts
    one.later(1_000)
    look(one)
    look(one)
    assert (only(one).what, only(one).count) == ("late", 1)
    end(one, 3)
    look(one)
    assert only(one).resolved_at is None
    end(one, 0)
    assert only(one).resolved_at is not None
    assert told(one) == ["raised", "resolved"]
    one.later(3_600_000)
    look(one)
    assert [a.resolved_at is None for a in book(one).alerts.values()] == [False, True]
    same_after_restart(one)


def test_late_by_a_time_of_the_day() -> None:
    # 2026-02-02 02:40 UTC
    one = registered("late", by="06:00", timezone="UTC")
    hour = 3_600_000
    one.later(4 * hour)
    look(one)
    assert not book(one).alerts, "it was registered just before: the first time is let pass"
    end(one, 0)
    one.later(23 * hour)
    look(one)
    assert not book(one).alerts, "05:40 of the next day"
    one.later(hour)
    look(one)
    assert not book(one).alerts, "the success of the day before was within that day's time"
    one.later(24 * hour)
    look(one)
    assert only(one).what == "late"


def test_slow_is_more_than_three_times_the_median() -> None:
    one = registered("slow")
    for _ in range(3):
        end(one, 0, ran=10_000)
    run = one.queue()
    one.claim()
    one.do(ReportStarted(run.id, 1, "c", "i", one.now.wall), SYSTEM)
    one.later(30_000)
    look(one)
    assert not book(one).alerts
    one.later(1)
    look(one)
    assert (only(one).what, only(one).run) == ("slow", run.id)
    one.do(ReportEnded(run.id, 1, 0, one.now.wall), SYSTEM)
    look(one)
    assert only(one).resolved_at is not None


def test_few_runs_have_no_median() -> None:
    one = registered("slow")
    end(one, 0)
    run = one.queue()
    one.claim()
    one.do(ReportStarted(run.id, 1, "c", "i", one.now.wall), SYSTEM)
    one.later(1_000_000)
    look(one)
    assert not book(one).alerts


def test_a_queue_that_is_too_long_and_does_not_flap() -> None:
    one = registered("queue", waiting=10)
    runs = [one.queue().id for _ in range(11)]
    look(one)
    assert only(one).what == "queue"
    for run in runs[:2]:
        one.apply(e.RunFinished(run, one.now.wall, "cancelled", "cancelled", ""))
    look(one)
    assert only(one).resolved_at is None, "9 is less than 10 and not yet shorter by a fifth"
    one.apply(e.RunFinished(runs[2], one.now.wall, "cancelled", "cancelled", ""))
    look(one)
    assert only(one).resolved_at is not None


def test_what_the_host_says() -> None:
    one = bench(on=[{"on": ["engine", "disk"], "to": "ops"}])
    look(one, engine_container="engine: no answer", disk_x="")
    look(one)
    assert (only(one).scope, only(one).resolved_at) == ("container", None), "unknown is not well"
    look(one, engine_process="engine: cannot fork", engine_container="")
    states = {a.scope: a.resolved_at is None for a in book(one).alerts.values()}
    assert states == {"container": False, "process": True}

"""One alert for one trouble, counted; told once, and told that it is over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobd.core import alertbook as b
from jobd.core import events as e
from jobd.core import outbox
from jobd.core.alertcommands import (
    LookForAlerts,
    QueueDelivery,
    ResendAlert,
    SendTest,
    SettleDelivery,
    SnoozeAlerts,
)
from jobd.core.alertrules import read_alerts
from jobd.core.alerttext import body, fields
from jobd.core.commands import ReportEnded, ReportStarted, UnregisterJob
from jobd.core.policy import Rules
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from tests.support.core import SYSTEM, Bench, refused, replay
from tests.support.stating import Kept, alerts_told

HOOK = "http://127.0.0.1:9000/hook"
TABLE: dict[str, Any] = {
    "allow": ["http://127.0.0.1:9000/*"],
    "rate": "1000/h",
    "burst": 100,
    "to": {"ops": {"url": "http://127.0.0.1:9000/ops", "template": "slack"}},
    "commands": {"page": ["/bin/true"]},
}


def bench(**more: Any) -> Bench:
    return Bench(Rules(alerts=read_alerts({**TABLE, **more})))


def registered(*on: str, **more: Any) -> Bench:
    """A job whose alerts go to one URL."""
    made = bench()
    made.register(alert=[{"on": list(on), "url": HOOK, **more}])
    return made


def end(one: Bench, status: int, ran: int = 100, result: bytes | None = b"r") -> int:
    """A run of the job that ends so; its id."""
    run = one.queue()
    assert one.claim() == [run.id]
    one.do(ReportStarted(run.id, 1, "c", "i", one.now.wall), SYSTEM)
    one.later(ran)
    one.do(ReportEnded(run.id, 1, status, one.now.wall, result=result), SYSTEM)
    return run.id


def book(one: Bench) -> b.AlertBook:
    return one.state.alerts


def only(one: Bench) -> b.Alert:
    """The one alert that there is."""
    (alert,) = book(one).alerts.values()
    return alert


def taken(one: Bench) -> list[b.Delivery]:
    """What is due now, taken."""
    made = []
    for delivery in outbox.due(book(one), one.now, one.rules.alerts):
        outbox.lease(book(one), delivery, one.now, one.rules.alerts)
        made.append(delivery)
    return made


def told(one: Bench) -> list[str]:
    """What is due now, delivered: what each tells."""
    made = []
    while found := taken(one):
        for delivery in found:
            made.append(delivery.tells)
            one.do(SettleDelivery(delivery.id, True), SYSTEM)
    return made


def same_after_restart(one: Bench) -> None:
    """The book is the same from its events, and from a snapshot's statements."""
    before = alerts_told(one.state)
    assert alerts_told(replay(one.events)) == before
    kept, state = Kept(), replay([])
    kept.apply(state, one.events)
    restored, _ = kept.through(state)
    assert alerts_told(restored) == before
    assert restored.alerts.watched == one.state.alerts.watched


def look(one: Bench, **host: str) -> None:
    """`engine_container="text"`: the text of that trouble, empty where all is well."""
    named = {(key.partition("_")[0], key.partition("_")[2]): text for key, text in host.items()}
    one.do(LookForAlerts(named), SYSTEM)


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


# -- the outbox ----------------------------------------------------------------------------


def test_what_failed_is_tried_again_later_and_given_up_at_last() -> None:
    one = registered("dead")
    end(one, 3)
    waits, tries = [], 0
    while True:
        found = taken(one)
        if not found:
            one.later(1_000)
            waits[-1] += 1
            continue
        tries += 1
        (delivery,) = found
        result = one.do(SettleDelivery(delivery.id, False, "no\nanswer"), SYSTEM).answer
        assert delivery.error == "no?answer"
        if result == "given-up":
            break
        waits.append(0)
    assert waits[:8] == [10, 20, 40, 80, 160, 320, 640, 900]
    assert max(waits) == 900
    assert sum(waits) >= 2 * 86_400 > sum(waits) - 900
    assert tries == len(waits) + 1
    assert not book(one).waiting
    one.do(ResendAlert(1))
    assert told(one) == ["raised"]
    same_after_restart(one)


def test_what_was_taken_is_nobody_elses_for_a_minute() -> None:
    one = registered("dead")
    end(one, 3)
    (delivery,) = taken(one)
    assert taken(one) == []
    one.later(outbox.LEASE)
    assert taken(one) == [delivery]
    one.do(SettleDelivery(delivery.id, True), SYSTEM)
    assert one.do(SettleDelivery(delivery.id, False), SYSTEM).answer == "gone"


def test_nothing_overtakes_and_nobody_waits_for_another() -> None:
    one = bench()
    one.register("a", alert=[{"on": ["dead"], "url": HOOK}])
    one.register("b", alert=[{"on": ["dead"], "command": "page"}, {"on": ["dead"], "url": HOOK}])
    end_of(one, "a", 3)
    end_of(one, "a", 0)
    end_of(one, "b", 3)
    first = taken(one)
    assert [(d.alert.job, d.to.kind, d.tells) for d in first] == [
        (1, "url", "raised"),
        (2, "command", "raised"),
    ]
    one.do(SettleDelivery(first[0].id, False), SYSTEM)
    # that of job a waits for its turn, and its recovery behind it; b's is another alert
    assert [(d.alert.job, d.to.kind) for d in taken(one)] == [(2, "url")]


def end_of(one: Bench, job: str, status: int) -> None:
    run = one.queue(job)
    one.claim()
    one.do(ReportEnded(run.id, 1, status, one.now.wall), SYSTEM)


def test_what_comes_and_goes_is_one_trouble_while_it_cannot_be_told() -> None:
    one = registered("dead")
    for _ in range(50):
        end(one, 3)
        end(one, 0)
    assert len(book(one).alerts) == 1
    assert len(book(one).waiting) == 2
    assert only(one).count == 50
    assert told(one) == ["raised", "resolved"]
    same_after_restart(one)


def test_who_was_told_of_the_recovery_is_told_again() -> None:
    one = bench()
    one.register(alert=[{"on": ["dead"], "url": HOOK}, {"on": ["dead"], "command": "page"}])
    end(one, 3)
    told(one)
    end(one, 0)
    recovery = {d.to.kind: d for d in taken(one)}
    one.do(SettleDelivery(recovery["command"].id, True), SYSTEM)
    one.do(SettleDelivery(recovery["url"].id, False), SYSTEM)
    end(one, 3)
    waits = [(d.to.kind, d.tells) for d in book(one).waiting.values()]
    assert waits == [("command", "raised")]
    same_after_restart(one)


def test_the_rate_is_bounded() -> None:
    one = bench(rate="6/m", burst=2)
    for number in range(5):
        one.register(f"j{number}", alert=[{"on": ["dead"], "command": "page"}])
        end_of(one, f"j{number}", 3)
    assert told(one) == ["raised"] * 2
    one.later(10_000)
    assert told(one) == ["raised"]
    one.later(60_000)
    assert told(one) == ["raised"] * 2


def test_a_clock_that_was_set_back_keeps_nothing_for_ever() -> None:
    one = registered("dead")
    end(one, 3)
    (delivery,) = taken(one)
    one.do(SettleDelivery(delivery.id, False), SYSTEM)
    one.set_clock(-86_400_000)
    one.later(1)
    assert taken(one) == [delivery]


def test_what_is_over_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "KEPT", 3)
    one = registered("dead")
    for _ in range(6):
        end(one, 3)
        end(one, 0)
        told(one)
    assert sorted(book(one).alerts) == [4, 5, 6]
    same_after_restart(one)


def test_no_more_are_open_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "MOST_OPEN", 1)
    one = registered("dead", "failed")
    end(one, 3)
    assert len(book(one).alerts) == 1


# -- snooze, test, resend --------------------------------------------------------------------


def test_what_is_snoozed_is_told_when_it_is_still_wrong() -> None:
    one = registered("dead")
    one.do(SnoozeAlerts("job", "dead", one.now.wall + 60_000))
    end(one, 3)
    assert told(one) == []
    same_after_restart(one)
    one.later(60_000)
    assert told(one) == ["raised"]


def test_what_is_over_before_its_snooze_nobody_hears_of() -> None:
    one = registered("dead")
    one.do(SnoozeAlerts("job", "", one.now.wall + 60_000))
    end(one, 3)
    end(one, 0)
    one.later(60_000)
    assert told(one) == []
    assert only(one).resolved_at is not None


def test_a_snooze_can_be_undone_and_is_for_what_it_says() -> None:
    one = registered("dead")
    refused(one, SnoozeAlerts("nobody", "", one.now.wall + 1), NotFoundError, "no such job")
    refused(one, SnoozeAlerts("job", "dad", one.now.wall + 1), InvalidError, "expected one of")
    refused(one, SnoozeAlerts("job", "", one.now.wall), InvalidError, "until")
    one.do(SnoozeAlerts("job", "slow", one.now.wall + 60_000))
    one.do(SnoozeAlerts(None, "", one.now.wall + 60_000))
    end(one, 3)
    assert told(one) == ["raised"], "others are told of"
    one.do(SnoozeAlerts("job", "dead", one.now.wall + 60_000))
    end(one, 0)
    assert told(one) == []
    assert one.do(SnoozeAlerts("job", "", None)).answer is True
    assert one.do(SnoozeAlerts("job", "", None)).answer is False
    assert told(one) == ["resolved"]


def test_a_test_goes_to_everybody_and_is_over() -> None:
    one = bench()
    refused(one, SendTest(None, None), ConflictError, "no destination")
    refused(one, SendTest(None, "nobody"), InvalidError, "ops")
    one.register(alert=[{"on": ["dead"], "url": HOOK}, {"on": ["late"], "to": "ops", "by": "6:00"}])
    number = one.do(SendTest("job", None)).answer
    assert book(one).alerts[number].resolved_at is not None
    assert told(one) == ["raised", "raised"]
    one.do(ResendAlert(number))
    assert told(one) == ["raised", "raised"]
    same_after_restart(one)


def test_tests_are_bounded() -> None:
    one = bench()
    for _ in range(100):
        one.do(SendTest(None, "ops"))
    refused(one, SendTest(None, "ops"), RefusedError, "not delivered yet")


def test_what_was_not_sent_cannot_be_sent_again() -> None:
    one = registered("dead")
    end(one, 3)
    refused(one, ResendAlert(1), ConflictError, "nothing of it was sent")
    refused(one, ResendAlert(7), NotFoundError, "alert 7")


# -- to another job --------------------------------------------------------------------------


def to_a_job() -> Bench:
    one = bench()
    one.register("fixer", limits={"queue": 1})
    one.register(alert=[{"on": ["dead"], "job": "fixer"}])
    end_of(one, "job", 3)
    return one


def test_a_job_is_told_by_a_run_in_the_same_batch() -> None:
    one = to_a_job()
    assert taken(one) == [], "it is nobody's to carry"
    (delivery,) = outbox.due(book(one), one.now, one.rules.alerts, of_jobs=True)
    made = one.do(QueueDelivery(delivery.id, b"payload"), SYSTEM).events
    assert [type(event) for event in made] == [e.RunQueued, e.AlertTried]
    run = one.run(2)
    assert (run.job.name, run.origin[:3], run.option("source")[0]) == (
        "fixer", ("alert", 1000, "ann"), "dead 1",
    )  # fmt: skip
    assert delivery.run == 2
    assert not one.do(QueueDelivery(delivery.id, b"payload"), SYSTEM).events
    same_after_restart(one)


def test_a_job_that_cannot_be_queued_is_told_later() -> None:
    one = to_a_job()
    one.queue("fixer")
    (delivery,) = outbox.due(book(one), one.now, one.rules.alerts, of_jobs=True)
    one.do(QueueDelivery(delivery.id, b""), SYSTEM)
    assert (delivery.state, delivery.tries) == (b.WAITING, 1)
    assert "queue is full" in delivery.error


# -- what it says ----------------------------------------------------------------------------


def test_the_message_has_the_same_id_however_often_it_is_sent() -> None:
    one = registered("dead")
    end(one, 3)
    (delivery,) = taken(one)
    first = fields(one.state, delivery, "ab" * 16, "host")
    one.do(SettleDelivery(delivery.id, False), SYSTEM)
    again = fields(one.state, delivery, "ab" * 16, "host")
    assert first["id"] == again["id"] == "abababab-1"
    assert (first["job"], first["run"], first["state"]) == ("job", 1, "raised")


def test_a_template_cannot_be_broken_out_of() -> None:
    text = 'a "quoted"\n${job} \x00 text'
    message = {"text": text, "job": "j", "run": None}
    kind, made = body(message, '{"t": "${text}", "r": "${run}"}')
    assert kind == "application/json"
    assert json.loads(made) == {"t": text, "r": ""}
    assert body(message, "ntfy") == ("text/plain; charset=utf-8", text.encode())
    assert json.loads(body(message, "slack")[1]) == {"text": text}
    assert json.loads(body(message, "")[1]) == message

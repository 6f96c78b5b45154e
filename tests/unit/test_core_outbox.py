"""What is told waits until it was delivered: tried again, in order, within the rate, or snoozed."""

from __future__ import annotations

import json

import pytest

from jobd.core import alertbook as b
from jobd.core import events as e
from jobd.core import outbox
from jobd.core.alertcommands import (
    QueueDelivery,
    ResendAlert,
    SendTest,
    SettleDelivery,
    SnoozeAlerts,
)
from jobd.core.alerttext import body, fields
from jobd.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from tests.support.alerting import (
    HOOK,
    bench,
    book,
    end,
    end_of,
    only,
    registered,
    same_after_restart,
    taken,
    told,
)
from tests.support.core import SYSTEM, Bench, refused

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


def test_a_test_is_sent_whatever_is_snoozed() -> None:
    one = registered("dead")
    one.do(SnoozeAlerts("job", "", one.now.wall + 60_000))
    one.do(SendTest("job", None))
    assert told(one) == ["raised"]


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

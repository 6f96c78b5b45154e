"""What follows from commands about alerts: deliveries settled, snoozes, tests, looks. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import alertbook as b
from jobd.core import alerts
from jobd.core import events as e
from jobd.core.alertcommands import (
    LookForAlerts,
    QueueDelivery,
    RedoAlert,
    ResendAlert,
    SendTest,
    SettleDelivery,
    SnoozeAlerts,
)
from jobd.core.alertspec import OF_HOST, OF_JOBS, TEST, Destination
from jobd.core.commands import Caller, QueueRun
from jobd.core.decision import NOTHING, Decision, caller_fields, find_job
from jobd.core.entities import Job
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.queueing import queue
from jobd.core.state import State
from jobd.errors import ConflictError, InvalidError, JobdError, NotFoundError, RefusedError
from jobd.units import MAX_MS

#: tests that wait to be delivered at once
_MOST_TESTS = 100
#: snoozes that are kept
_MOST_SNOOZES = 10_000
#: of an error that a delivery met, in characters
_LONGEST_ERROR = 300


def find_alert(state: State, number: int) -> b.Alert:
    """The alert of that number. Raises NotFoundError."""
    alert = state.alerts.alerts.get(number)
    if alert is None:
        raise NotFoundError(f"alert {number}: no such alert; `jobctl alerts --all` lists them")
    return alert


def _look(state: State, command: LookForAlerts, now: Now, rules: Rules, caller: Caller) -> Decision:
    return Decision(alerts.look(state, command, now, rules), [])


def _redo(state: State, command: RedoAlert, now: Now, rules: Rules, caller: Caller) -> Decision:
    making, event = alerts.Making(state, now, rules), command.event
    if isinstance(event, e.AlertRaised):
        job = state.jobs_by_id.get(event.job)
        if event.what != TEST and (job is not None or not event.job):
            making.raise_(event.what, job, event.run, event.text, event.scope)
    elif isinstance(event, e.AlertRepeated):
        alert = state.alerts.alerts.get(event.alert)
        if alert is not None:
            job = state.jobs_by_id.get(alert.job)
            making.raise_(alert.what, job, event.run, event.text, alert.scope)
    elif isinstance(event, e.AlertResolved):
        alert = state.alerts.alerts.get(event.alert)
        if alert is not None and alert.resolved_at is None:
            making.over(alert, event.text)
    return Decision(making.events, [])


def _settle(
    state: State, command: SettleDelivery, now: Now, rules: Rules, caller: Caller
) -> Decision:
    delivery = state.alerts.waiting.get(command.delivery)
    if delivery is None:
        return Decision([], [], "gone")
    event = _tried(delivery, command.ok, command.error, now, rules)
    return Decision([event], [], event.result)


def _tried(
    delivery: b.Delivery, ok: bool, error: str, now: Now, rules: Rules, run: int | None = None
) -> e.AlertTried:
    at = now.wall
    if ok:
        return e.AlertTried(1, delivery.id, at, b.DELIVERED, at, "", None, run)
    given_up = at - delivery.since >= rules.alerts.give_up
    wait = min(rules.alerts.retry << min(delivery.tries, 20), b.LONGEST_WAIT)
    result = b.GIVEN_UP if given_up else "failed"
    text = "".join(c if c.isprintable() else "?" for c in error[:_LONGEST_ERROR])
    return e.AlertTried(1, delivery.id, at, result, at + wait, text)


def _to_job(
    state: State, command: QueueDelivery, now: Now, rules: Rules, caller: Caller
) -> Decision:
    """The run, and in the same batch that it was delivered: once, whatever happens."""
    delivery = state.alerts.waiting.get(command.delivery)
    if delivery is None:
        return NOTHING
    alert = delivery.alert
    about = state.jobs_by_id.get(alert.job)
    try:
        to, _ = rules.alerts.resolve(delivery.to)
        who = _in_whose_name(about, delivery.to, caller)
        source = (f"{alert.what} {alert.id}", alert.at)
        run = QueueRun(to.value, [command.payload], "alert", who, sources=[source])
        made = queue(state, run, now, rules, who)
    except RefusedError as error:
        if "disk" in error.details:
            raise
        return Decision([_tried(delivery, False, str(error), now, rules)], [])
    except JobdError as error:
        return Decision([_tried(delivery, False, str(error), now, rules)], [])
    first = made.answer[0][0][0]
    done = _tried(delivery, True, "", now, rules, first)
    return Decision([*made.events, done], made.effects)


def _in_whose_name(about: Job | None, to: Destination, caller: Caller) -> Caller:
    """Who queues the run: who registered the alert, or jobd itself where jobd.toml says so."""
    own = about is not None and any(spec.to == to for spec in about.spec.alerts)
    if about is None or not own or to.kind == "to":
        return caller
    uid, user, pid, principal = about.made[about.revision][1]
    return Caller(uid, user, pid, principal)


def _snooze(
    state: State, command: SnoozeAlerts, now: Now, rules: Rules, caller: Caller
) -> Decision:
    job = 0 if command.job is None else find_job(state, command.job).id
    if command.what and command.what not in (*OF_JOBS, *OF_HOST):
        known = ", ".join((*OF_JOBS, *OF_HOST))
        raise InvalidError(f"what: {command.what!r:.40}: expected one of {known}")
    until = command.until
    if until is not None and not now.wall < until <= now.wall + MAX_MS:
        raise InvalidError("until: expected a time within the next 100 years")
    book = state.alerts
    if until is None and not any(k[0] == job for k in book.snoozes):
        return Decision([], [], False)
    if until is not None and len(book.snoozes) >= _MOST_SNOOZES:
        raise RefusedError(f"alerts: {_MOST_SNOOZES} snoozes already, and no more are kept")
    who = caller_fields(caller)
    event = e.AlertsSnoozed(1, now.wall, job, command.what, until or 0, who)
    return Decision([event], [], True)


def _resend(state: State, command: ResendAlert, now: Now, rules: Rules, caller: Caller) -> Decision:
    alert = find_alert(state, command.alert)
    tells = b.RAISED if alert.resolved_at is None or alert.what == TEST else b.RESOLVED
    settled = [d for d in alert.deliveries if d.state != b.WAITING]
    given_up = [d for d in settled if d.state == b.GIVEN_UP]
    last = {d.to: d for d in settled if d.tells == tells}
    chosen = given_up or list(last.values())
    if not chosen:
        raise ConflictError(
            f"alert {alert.id}: nothing of it was sent yet; what waits is sent by itself"
        )
    who = caller_fields(caller)
    at = now.wall
    events: list[e.Event] = [e.AlertTried(1, d.id, at, "again", at, "", who) for d in chosen]
    return Decision(events, [], len(chosen))


def _test(state: State, command: SendTest, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = None if command.job is None else find_job(state, command.job)
    if command.to is not None:
        to = [Destination("to", command.to)]
    else:
        specs = rules.alerts.on if job is None else job.spec.alerts
        to = list(dict.fromkeys(spec.to for spec in specs))
    if not to:
        where = "[[alerts.on]] in jobd.toml" if job is None else f"[[alert]] of job {job.name}"
        raise ConflictError(f"alerts: there is no destination to test: {where} is empty")
    for destination in to:
        rules.alerts.resolve(destination)
    waiting = sum(d.alert.what == TEST for d in state.alerts.waiting.values())
    if waiting + len(to) > _MOST_TESTS:
        raise RefusedError(f"alerts: {waiting} tests are not delivered yet; try again later")
    making = alerts.Making(state, now, rules)
    number = state.alerts.next_alert
    about = "the host's alerts" if job is None else f"alerts of job {job.name}"
    text = f"this is a test of {about}, asked for by {caller.principal or caller.user}"
    raised = e.AlertRaised(
        1, number, now.wall, TEST, 0 if job is None else job.id, 0, text, str(number),
        making.messages(to), caller_fields(caller),
    )  # fmt: skip
    return Decision([raised], [], number)


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    LookForAlerts: _look,
    RedoAlert: _redo,
    SettleDelivery: _settle,
    QueueDelivery: _to_job,
    SnoozeAlerts: _snooze,
    ResendAlert: _resend,
    SendTest: _test,
}

"""The verbs of alerts (core/alerts.py decides what is one, core/outbox.py what is due)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from typing import Any

from jobd.alerts.signing import headers, signature
from jobd.core import alertbook as b
from jobd.core import outbox
from jobd.core.access import Right
from jobd.core.alertcommands import ResendAlert, SendTest, SettleDelivery, SnoozeAlerts
from jobd.core.alerting import find_alert
from jobd.core.alertspec import TEST, Destination
from jobd.core.alerttext import body, fields
from jobd.errors import InvalidError, JobdError, NotFoundError, UsageError
from jobd.server.access import Sight, require, require_admin, visible_job
from jobd.server.kernel import Kernel, Later, Offload, Parts, Request
from jobd.wire.envelope import HOLD_MS

#: deliveries that are given out at once
_MOST = 32
#: alerts in one part of a list
_PAGE = 100
_ROOM = 256 << 10


def list_(kernel: Kernel, request: Request) -> Any:
    """alert.list"""
    arguments, book = request.arguments, kernel.state.alerts
    sight = Sight(kernel, request.caller)
    job = arguments.get("job")
    wanted = None if job is None else visible_job(kernel, request.caller, job).id
    if "alert" in arguments:
        chosen = [_visible(kernel, request, arguments["alert"])]
    else:
        chosen = [
            alert
            for alert in sorted(book.alerts.values(), key=lambda one: -one.id)
            if wanted in (None, alert.job)
            and _sees(kernel, sight, alert.job)
            and (arguments.get("all") or alert.resolved_at is None or _unsettled(alert))
        ]
    return Parts(_list(kernel, chosen, sight))


def _unsettled(alert: b.Alert) -> bool:
    return any(d.state != b.DELIVERED for d in alert.deliveries)


def _list(kernel: Kernel, chosen: list[b.Alert], sight: Sight) -> Generator[Any, None, Any]:
    for start in range(0, len(chosen), _PAGE):
        yield {"alerts": [_row(kernel, alert) for alert in chosen[start : start + _PAGE]]}
    book, now = kernel.state.alerts, kernel.now.wall
    snoozes = [
        {"job": _name(kernel, job), "what": what or None, "until": until}
        for (job, what), until in sorted(book.snoozes.items())
        if until > now and _sees(kernel, sight, job)
    ]
    problem = kernel.alerts_problem() if sight.all else None
    return {"count": len(chosen), "snoozes": snoozes, "problem": problem}


def _sees(kernel: Kernel, sight: Sight, number: int) -> bool:
    """Whether they may see the alerts of the job (0: of the host, which are everybody's)."""
    job = kernel.state.jobs_by_id.get(number)
    return number == 0 or (sight.all if job is None else sight.job(job))


def _visible(kernel: Kernel, request: Request, number: int) -> b.Alert:
    alert = find_alert(kernel.state, number)
    if not _sees(kernel, Sight(kernel, request.caller), alert.job):
        raise NotFoundError(f"alert {number}: no such alert; `jobctl alerts --all` lists them")
    return alert


def _name(kernel: Kernel, number: int) -> str | None:
    job = kernel.state.jobs_by_id.get(number)
    return None if job is None else job.name


def _row(kernel: Kernel, alert: b.Alert) -> dict[str, Any]:
    book = kernel.state.alerts
    over = alert.resolved_at is not None
    return {
        "alert": alert.id,
        "state": TEST if alert.what == TEST else "resolved" if over else "open",
        "what": alert.what,
        "job": _name(kernel, alert.job),
        "run": alert.run or None,
        "count": alert.count,
        "text": alert.text,
        "raised_at": alert.at,
        "last_at": alert.last_at,
        "resolved_at": alert.resolved_at,
        "resolved_text": alert.resolved_text or None,
        "snoozed": {"until": book.snoozed_until(alert.job, alert.what, kernel.now.wall)},
        "deliveries": [_delivery(one) for one in alert.deliveries],
    }


def _delivery(delivery: b.Delivery) -> dict[str, Any]:
    waits = delivery.state == b.WAITING
    return {
        "delivery": delivery.id,
        "tells": delivery.tells,
        "to": delivery.to.shown,
        "state": delivery.state,
        "tries": delivery.tries,
        "due_at": delivery.due if waits else None,
        "done_at": delivery.done_at,
        "error": delivery.error or None,
        "run": delivery.run,
    }


# -- changes -------------------------------------------------------------------------------


def snooze(kernel: Kernel, request: Request) -> Any:
    """alert.snooze"""
    kernel.require_room(_ROOM)
    arguments = request.arguments
    job, what = arguments.get("job"), arguments.get("what", "")
    if "alert" in arguments:
        if "job" in arguments or what:
            raise UsageError("alert.snooze: an alert names job and kind by itself")
        alert = _visible(kernel, request, arguments["alert"])
        job, what = _name(kernel, alert.job), alert.what
    _require_manage(kernel, request, job)
    until = arguments.get("until")
    changed = kernel.decide(SnoozeAlerts(job, what, until), request.caller)
    return {"job": job, "what": what or None, "until": until, "changed": changed}


def resend(kernel: Kernel, request: Request) -> Any:
    """alert.resend"""
    kernel.require_room(_ROOM)
    alert = _visible(kernel, request, request.arguments["alert"])
    _require_manage(kernel, request, _name(kernel, alert.job))
    count = kernel.decide(ResendAlert(alert.id), request.caller)
    return {"alert": alert.id, "deliveries": count}


def test(kernel: Kernel, request: Request) -> Any:
    """alert.test"""
    kernel.require_room(_ROOM)
    job, to = request.arguments.get("job"), request.arguments.get("to")
    if job is not None and to is not None:
        raise UsageError("alert.test: expected a job or a destination, not both")
    _require_manage(kernel, request, job)
    return {"alert": kernel.decide(SendTest(job, to), request.caller)}


def _require_manage(kernel: Kernel, request: Request, job: str | None) -> None:
    """Alerts of a job are its managers' to change, those of the host its administrators'."""
    if job is None:
        require_admin(kernel, request)
    elif not kernel.is_admin(request.caller):
        found = visible_job(kernel, request.caller, job)
        require(kernel, request.caller, Right.MANAGE, found)


# -- who delivers --------------------------------------------------------------------------


def take(kernel: Kernel, request: Request) -> Any:
    """alert.take"""
    arguments, book = request.arguments, kernel.state.alerts
    kernel.notifier_came(request.caller)
    most = min(max(arguments.get("most", 8), 1), _MOST)
    given: list[Callable[[], dict[str, Any]]] = []
    # on a full disk it could not be recorded that it was delivered: it would go out again and again
    room = kernel.room_for(_ROOM) >= _ROOM
    for delivery in outbox.due(book, kernel.now, kernel.rules.alerts) if room else ():
        if len(given) >= most:
            break
        try:
            order = _order(kernel, request, delivery)
        except JobdError as error:
            kernel.decide(SettleDelivery(delivery.id, False, str(error)), request.caller)
            continue
        outbox.lease(book, delivery, kernel.now, kernel.rules.alerts)
        given.append(order)
    hold = min(arguments.get("hold", 0), HOLD_MS)
    if not given and hold and not request.final:
        raise Later([outbox.OUTBOX], hold)
    return Offload(lambda: [make() for make in given], lambda made: _given(kernel, request, made))


def _given(kernel: Kernel, request: Request, made: list[dict[str, Any]]) -> Any:
    good = [one for one in made if "error" not in one]
    for one in made:
        if "error" in one:
            settled = SettleDelivery(one["delivery"], False, one["error"])
            kernel.decide(settled, request.caller)
    return {"deliveries": good}


def _order(kernel: Kernel, request: Request, delivery: b.Delivery) -> Callable[[], dict[str, Any]]:
    """What makes the order for a delivery, by a thread: a secret is a file. Raises InvalidError."""
    rules = kernel.rules.alerts
    to, secret = rules.resolve(delivery.to)
    if to.kind == "command":
        _check_command(kernel, request.caller.uid)
    message = fields(kernel.state, delivery, kernel.status_store(), socket.gethostname())
    content_type, data = body(message, to.template)
    made: dict[str, Any] = {
        "delivery": delivery.id,
        "id": message["id"],
        "kind": to.kind,
        "fields": {key: value for key, value in message.items() if value is not None},
        "content_type": content_type,
        "body": data,
        **_where(kernel, to),
    }
    seconds = kernel.now.wall // 1000

    def make() -> dict[str, Any]:
        if to.kind != "url":
            return made
        try:
            signed = signature(kernel.secret(secret), data, seconds) if secret else None
        except InvalidError as error:
            return {"delivery": delivery.id, "error": str(error)}
        return {**made, "headers": headers(message, content_type, to.template, signed)}

    return make


def _where(kernel: Kernel, to: Destination) -> dict[str, Any]:
    rules = kernel.rules.alerts
    if to.kind == "url":
        return {"url": to.value}
    if to.kind == "command":
        return {"command": list(rules.commands[to.value])}
    return {"journal": rules.journal}


def _check_command(kernel: Kernel, uid: int) -> None:
    """Commands never run as root or as the daemon itself, whose group may be root's equal
    (DURABILITY, rulings); but as a person's own daemon, where its jobs do so as well."""
    own = uid == os.geteuid()
    if uid == 0 or (own and kernel.rules.no_processes):
        raise InvalidError(
            "command: alerts are delivered here by the user that jobd runs as, and commands are "
            "never run so: name another in jobd.toml ([alerts] user)"
        )


def settle(kernel: Kernel, request: Request) -> Any:
    """alert.settle"""
    arguments = request.arguments
    number, ok = arguments["delivery"], arguments["ok"]
    command = SettleDelivery(number, ok, arguments.get("error", ""))
    result = kernel.decide(command, request.caller)
    if result == b.GIVEN_UP:
        kernel.gave_up(number, command.error)
    return {"delivery": number, "result": result}

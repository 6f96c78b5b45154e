"""Alerts' events as people may see them: about which job, and of a URL no path."""

from __future__ import annotations

from typing import Any

from jobd.core import events as e
from jobd.core.alertbook import Alert
from jobd.core.alertspec import Destination
from jobd.core.entities import Job
from jobd.server.access import Sight
from jobd.server.kernel import Kernel

_OF_ALERTS = frozenset(e.BY_TYPE[number] for number in e.ALERTS)


def is_of_alerts(event: e.Event) -> bool:
    """Whether the event is one of alerts."""
    return type(event) in _OF_ALERTS


def may_see(kernel: Kernel, sight: Sight, event: Any) -> bool:
    """Whether it is about a job that the caller may see, or about the host alone.

    Of an alert that is forgotten nobody knows the job any more: administrators see it.
    """
    if sight.all:
        return True
    if isinstance(event, e.AlertsSnoozed | e.AlertRaised):
        number = event.job
    else:
        alert = _alert(kernel, event)
        if alert is None:
            return False
        number = alert.job
    job = kernel.state.jobs_by_id.get(number)
    return number == 0 or (job is not None and sight.job(job))


def about(kernel: Kernel, event: Any) -> tuple[int | None, Job | None]:
    """The run and the job that it is about, where there are such."""
    if isinstance(event, e.AlertsSnoozed):
        return None, kernel.state.jobs_by_id.get(event.job)
    alert = _alert(kernel, event)
    job = event.job if isinstance(event, e.AlertRaised) else alert.job if alert else 0
    run = getattr(event, "run", None) or (alert.run if alert else None)
    return run or None, kernel.state.jobs_by_id.get(job)


def more(kernel: Kernel, event: Any) -> dict[str, Any]:
    """What a row tells of it beside its plain fields."""
    if isinstance(event, e.AlertTried):
        alert = _alert(kernel, event)
        due = event.due if event.result == "failed" else None
        return {"result": event.result, "alert": alert.id if alert else None, "due_at": due}
    if isinstance(event, e.AlertsSnoozed):
        return {"until": event.until or None}
    return {"to": [Destination(*each[1:4]).shown for each in event.deliveries]}


def _alert(kernel: Kernel, event: Any) -> Alert | None:
    book = kernel.state.alerts
    if not isinstance(event, e.AlertTried):
        return book.alerts.get(event.alert)
    waiting = book.waiting.get(event.delivery)
    if waiting is not None:
        return waiting.alert
    every = (a for a in book.alerts.values() if any(d.id == event.delivery for d in a.deliveries))
    return next(every, None)

"""The calls about alerts. Steps, as in jobctl/calls.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobctl.calls import change, collect, given
from jobctl.channel import Channel
from jobctl.shape import shaped
from jobctl.steps import Steps


def alerts(
    to: Channel, job: str | None = None, *, alert: int | None = None, everything: bool = False
) -> Steps[list[dict[str, Any]]]:
    """Alerts, newest first: those that are open or not delivered; `everything`: all that are kept.

    Of one `job`, or the one numbered `alert`.
    """
    return (yield from alerts_and_more(to, job, alert=alert, everything=everything))[0]


def alerts_and_more(
    to: Channel, job: str | None = None, *, alert: int | None = None, everything: bool = False
) -> Steps[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """As `alerts`; and `{snoozes, problem, ...}`: what is snoozed, why nothing is delivered."""
    asked = given(job=job, alert=alert, all=True if everything else None)
    rows, last = yield from collect(to, "alert.list", asked, "alerts")
    return rows, shaped(last)


def snooze_alerts(
    to: Channel,
    job: str | None = None,
    *,
    alert: int | None = None,
    what: str | None = None,
    until: datetime | None = None,
) -> Steps[dict[str, Any]]:
    """Sends nothing before `until`: of the job's alerts, of the kind of one `alert`, or (neither)
    of the host's; without `until` they are sent again: `{job, what, until, changed}`."""
    at = None if until is None else round(until.timestamp() * 1000)
    asked = given(job=job, alert=alert, what=what, until=at)
    return (yield from change(to, "alert.snooze", asked))


def resend_alert(to: Channel, alert: int) -> Steps[dict[str, Any]]:
    """Sends an alert once more, with the same ids: `{alert, deliveries}`."""
    return (yield from change(to, "alert.resend", {"alert": alert}))


def send_test_alert(
    to: Channel, job: str | None = None, *, destination: str | None = None
) -> Steps[int]:
    """Sends a test to a job's destinations, to one of jobd.toml, or to the host's: the number of
    the alert, whose deliveries `alerts` tells of."""
    asked = given(job=job, to=destination)
    return int((yield from change(to, "alert.test", asked))["alert"])


def take_alerts(to: Channel, most: int = 8, hold_ms: int = 0) -> Steps[list[dict[str, Any]]]:
    """What is due, for who delivers in place of `jobd notify`: each is the caller's for a minute.

    `body` of each is bytes; :meth:`settle_alert` tells what became of it.
    """
    asked = {"most": most, "hold": hold_ms}
    found: list[dict[str, Any]] = (yield from to.ask("alert.take", asked, hold_ms=hold_ms))[
        "deliveries"
    ]
    return found


def settle_alert(to: Channel, delivery: int, error: str | None = None) -> Steps[str]:
    """Tells that a delivery was made, or with `error` that it was not: what that means for it."""
    asked = {"delivery": delivery, "ok": error is None, **given(error=error)}
    return str((yield from change(to, "alert.settle", asked))["result"])

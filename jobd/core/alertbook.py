"""All alerts as the state holds them: what is wrong, who is told, what was delivered. Pure.

The outbox is part of it: deliveries that wait. An alert is one trouble of one kind of one job (or
of the host), however often it is seen. What is over is kept for a while; what waits is bounded by
the number of troubles, as one that comes and goes has at most a beginning and an end to tell each
of its destinations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jobd.core import alertevents as e
from jobd.core.alertspec import TEST, Destination
from jobd.core.rates import Bucket

#: alerts that are over and kept, and settled deliveries kept of each
KEPT, KEPT_DELIVERIES = 1_000, 32
#: troubles that are open at once; more are not taken down
MOST_OPEN = 10_000
#: the longest wait after a delivery that failed, in milliseconds
LONGEST_WAIT = 900_000

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given-up"
RAISED, RESOLVED = "raised", "resolved"

#: the kind of trouble, the job or 0, what tells two of the host apart
Key = tuple[str, int, str]


class Delivery:
    """One message to one destination. `state` is a word above; `tries` failed so far."""

    __slots__ = (
        "alert", "done_at", "due", "error", "id", "run", "since", "state", "tells", "to", "tries",
    )  # fmt: skip

    def __init__(self, id_: int, alert: Alert, tells: str, to: Destination, at: int) -> None:
        self.id = id_
        self.alert = alert
        #: what it tells: RAISED or RESOLVED
        self.tells = tells
        self.to = to
        #: since when it is to be delivered
        self.since = at
        #: not tried before then (ms UTC)
        self.due = at
        self.state = WAITING
        self.tries = 0
        self.error = ""
        self.done_at: int | None = None
        #: the run that it queued, where it went to a job
        self.run: int | None = None


class Alert:
    """One trouble."""

    __slots__ = (
        "at", "count", "deliveries", "id", "job", "last_at", "resolved_at", "resolved_text", "run",
        "scope", "text", "what",
    )  # fmt: skip

    def __init__(self, id_: int, what: str, job: int, scope: str, at: int) -> None:
        self.id = id_
        self.what = what
        self.job = job
        self.scope = scope
        self.at = self.last_at = at
        self.run = 0
        self.text = ""
        self.count = 1
        self.resolved_at: int | None = None
        self.resolved_text = ""
        self.deliveries: list[Delivery] = []

    @property
    def key(self) -> Key:
        """What makes it the same trouble."""
        return self.what, self.job, self.scope

    def waits(self, tells: str) -> Iterator[Delivery]:
        """Its deliveries of that kind that wait."""
        return (d for d in self.deliveries if d.state == WAITING and d.tells == tells)

    def told(self, tells: str) -> set[Destination]:
        """Who has been told that last, as far as is known."""
        last = {d.to: d for d in self.deliveries if d.state != GIVEN_UP}
        return {to for to, d in last.items() if d.tells == tells and d.state == DELIVERED}


class AlertBook:
    """All of it. One owner: the core loop's thread."""

    __slots__ = (
        "alerts", "bucket", "latest", "next_alert", "next_delivery", "open", "over",
        "snoozes", "succeeded", "taken", "waiting", "watched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.alerts: dict[int, Alert] = {}
        self.next_alert = self.next_delivery = 1
        #: when each job last succeeded (ms UTC)
        self.succeeded: dict[int, int] = {}
        #: (job or 0, kind or empty) -> until when nothing is sent
        self.snoozes: dict[tuple[int, str], int] = {}
        # what follows from the above
        self.open: dict[Key, Alert] = {}
        #: the newest of each trouble, where that is over
        self.latest: dict[Key, Alert] = {}
        #: those that are over, oldest first
        self.over: dict[int, None] = {}
        self.waiting: dict[int, Delivery] = {}
        #: jobs whose newest definition has alerts
        self.watched: set[int] = set()
        # what a start begins anew
        #: deliveries that somebody has been given, until when (monotonic ms)
        self.taken: dict[int, int] = {}
        #: what is left of the rate at which they are given out
        self.bucket = Bucket()

    def snoozed_until(self, job: int, what: str, now: int) -> int | None:
        """Until when nothing is sent of that, or None."""
        if not self.snoozes or what == TEST:
            return None
        until = max(self.snoozes.get((job, what), 0), self.snoozes.get((job, ""), 0))
        return until if until > now else None

    def quiet(self, delivery: Delivery, now: int) -> bool:
        """Whether nobody has heard of the alert by it, nor will before its snooze is over."""
        alert = delivery.alert
        return delivery.tries == 0 and self.snoozed_until(alert.job, alert.what, now) is not None

    def registered(self, job: int, has_alerts: bool) -> None:
        """A definition of the job was taken in; the last one counts."""
        if has_alerts:
            self.watched.add(job)
        else:
            self.watched.discard(job)

    # -- changes ---------------------------------------------------------------------------

    def raised(self, event: e.AlertRaised) -> None:
        """Trouble has begun."""
        alert = Alert(event.alert, event.what, event.job, event.scope, event.at)
        alert.run, alert.text = event.run, event.text
        self.add(alert)
        self.deliver(alert, RAISED, event.deliveries, event.at)
        if event.what == TEST:
            self._end(alert, event.at, "")

    def repeated(self, event: e.AlertRepeated) -> None:
        """The same again. What is not known was lost with a damaged queue: nothing follows."""
        alert = self.alerts.get(event.alert)
        if alert is None:
            return
        alert.count += 1
        alert.last_at, alert.run, alert.text = event.at, event.run, event.text
        if alert.resolved_at is not None:
            alert.resolved_at, alert.resolved_text = None, ""
            self.over.pop(alert.id, None)
            self.latest.pop(alert.key, None)
            self.open[alert.key] = alert
            self._drop(alert, list(alert.waits(RESOLVED)))
        self.deliver(alert, RAISED, event.deliveries, event.at)

    def resolved(self, event: e.AlertResolved) -> None:
        """It is over; a beginning that nobody was told of is not told any more."""
        alert = self.alerts.get(event.alert)
        if alert is None or alert.resolved_at is not None:
            return
        self._drop(alert, [d for d in alert.waits(RAISED) if self.quiet(d, event.at)])
        # before it is over: one that has nothing to deliver may be let go of at once
        self.deliver(alert, RESOLVED, event.deliveries, event.at)
        self._end(alert, event.at, event.text)

    def tried(self, event: e.AlertTried) -> None:
        """What became of a delivery."""
        self.next_delivery = max(self.next_delivery, event.delivery + 1)
        found = self.waiting.get(event.delivery)
        if event.result == "again":
            found = self._again(event.delivery)
            if found is not None:
                found.since = event.at
                found.tries, found.error, found.done_at = 0, "", None
                self.waiting[found.id] = found
                found.state = WAITING
        elif found is not None and event.result == "failed":
            found.tries += 1
        elif found is not None:
            found.state = DELIVERED if event.result == "delivered" else GIVEN_UP
            found.done_at, found.run = event.at, event.run
            found.tries += event.result != "delivered"
            del self.waiting[found.id]
            self._trim(found.alert)
        if found is not None:
            self.taken.pop(found.id, None)
            found.due, found.error = event.due, event.error

    def snoozed(self, event: e.AlertsSnoozed) -> None:
        """Nothing is sent for a while, or all is again."""
        key = (event.job, event.what)
        if event.until:
            self.snoozes[key] = event.until
        else:
            self.snoozes.pop(key, None)
            if not event.what:
                for other in [k for k in self.snoozes if k[0] == event.job]:
                    del self.snoozes[other]
        for key in [k for k, until in self.snoozes.items() if until <= event.at]:
            del self.snoozes[key]

    # -- steps -----------------------------------------------------------------------------

    def add(self, alert: Alert) -> None:
        """Take an alert in, as it stands."""
        self.alerts[alert.id] = alert
        self.next_alert = max(self.next_alert, alert.id + 1)
        if alert.resolved_at is None:
            self.open[alert.key] = alert
            self.latest.pop(alert.key, None)
        else:
            self.over[alert.id] = None
            self.latest[alert.key] = alert
        for delivery in alert.deliveries:
            self.next_delivery = max(self.next_delivery, delivery.id + 1)
            if delivery.state == WAITING:
                self.waiting[delivery.id] = delivery

    def deliver(self, alert: Alert, tells: str, to: list[Any], at: int) -> None:
        """Put messages into the outbox: `[id, kind, value, template]` each."""
        for id_, kind, value, template in to:
            made = Delivery(id_, alert, tells, Destination(kind, value, template), at)
            alert.deliveries.append(made)
            self.waiting[id_] = made
            self.next_delivery = max(self.next_delivery, id_ + 1)

    def _end(self, alert: Alert, at: int, text: str) -> None:
        alert.resolved_at, alert.resolved_text = at, text
        if self.open.get(alert.key) is alert:
            del self.open[alert.key]
        self.over[alert.id] = None
        self.latest[alert.key] = alert
        if len(self.over) > KEPT:
            self._forget()

    def _forget(self) -> None:
        """Let go of the oldest that is over and has nothing to deliver."""
        for id_ in self.over:
            alert = self.alerts[id_]
            if all(delivery.state != WAITING for delivery in alert.deliveries):
                del self.over[id_], self.alerts[id_]
                if self.latest.get(alert.key) is alert:
                    del self.latest[alert.key]
                return

    def _drop(self, alert: Alert, gone: list[Delivery]) -> None:
        for delivery in gone:
            del self.waiting[delivery.id]
            self.taken.pop(delivery.id, None)
            alert.deliveries.remove(delivery)

    def _trim(self, alert: Alert) -> None:
        settled = [d for d in alert.deliveries if d.state != WAITING]
        for delivery in settled[: max(0, len(settled) - KEPT_DELIVERIES)]:
            alert.deliveries.remove(delivery)

    def _again(self, id_: int) -> Delivery | None:
        every = (d for alert in self.alerts.values() for d in alert.deliveries)
        return next((d for d in every if d.id == id_), None)


APPLIERS: dict[type[Any], Callable[[Any, Any], None]] = {
    e.AlertRaised: lambda state, event: state.alerts.raised(event),
    e.AlertRepeated: lambda state, event: state.alerts.repeated(event),
    e.AlertResolved: lambda state, event: state.alerts.resolved(event),
    e.AlertTried: lambda state, event: state.alerts.tried(event),
    e.AlertsSnoozed: lambda state, event: state.alerts.snoozed(event),
}

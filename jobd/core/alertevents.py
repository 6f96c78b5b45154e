"""Events of alerts: as in core/events.py, which has the table. All are of the host."""

from __future__ import annotations

from typing import Any, NamedTuple


class AlertRaised(NamedTuple):
    """Trouble has begun. `job` and `run`: ids, 0 where it is of neither; `scope` tells two troubles
    of the host apart. `deliveries`: who is told: `[id, kind, value, template]` each, as in
    core/alertspec.py. `what` = test is over at once."""

    host: int
    alert: int
    at: int
    what: str
    job: int
    run: int
    text: str
    scope: str
    deliveries: list[Any]
    caller: list[Any] | None = None


class AlertRepeated(NamedTuple):
    """The same trouble again: it is counted. Where it was over it is open again, what had not been
    sent of its recovery never is, and `deliveries` tell those who had heard of that."""

    host: int
    alert: int
    at: int
    run: int
    text: str
    deliveries: list[Any]


class AlertResolved(NamedTuple):
    """Trouble is over; `deliveries` tell so."""

    host: int
    alert: int
    at: int
    text: str
    deliveries: list[Any]


class AlertTried(NamedTuple):
    """What became of a delivery. `result`: `delivered`, `failed` (it is tried again at `due`),
    `given-up`, or `again` (`caller` wants it sent once more). `run`: the run that it queued."""

    host: int
    delivery: int
    at: int
    result: str
    due: int
    error: str
    caller: list[Any] | None = None
    run: int | None = None


class AlertsSnoozed(NamedTuple):
    """Nothing is sent of alerts of `job` (0: the host) on `what` (empty: on anything) before
    `until` (ms UTC); 0: from now on it is."""

    host: int
    at: int
    job: int
    what: str
    until: int
    caller: list[Any]


AlertEvent = AlertRaised | AlertRepeated | AlertResolved | AlertTried | AlertsSnoozed

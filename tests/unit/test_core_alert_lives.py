"""Whole lives of the core with alerts on everything: what is wrong and who is told stays right."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from jobd.core import alertbook as b
from jobd.core import outbox
from jobd.core.alertcommands import (
    LookForAlerts,
    ResendAlert,
    SendTest,
    SettleDelivery,
    SnoozeAlerts,
)
from jobd.core.alertrules import read_alerts
from jobd.core.alertspec import OF_JOBS
from jobd.core.policy import Rules
from jobd.core.state import State
from tests.support import simulation
from tests.support.simulation import Life
from tests.support.stating import Kept, told

ON = [{"on": ["dead", "engine", "disk", "breaker"], "journal": True}]
OF_THE_JOB = [
    {"on": [*OF_JOBS], "to": "log", "within": "10m", "waiting": 3},
    {"on": ["dead", "failed"], "command": "page"},
]
TABLE: dict[str, Any] = {
    "on": ON,
    "to": {"log": {"journal": True}},
    "commands": {"page": ["/bin/true"]},
    "rate": "600/h",
    "give_up": "1h",
}
RULES = Rules(alerts=read_alerts(TABLE))


class Alerted(Life):
    """A life in which alerts are looked for, delivered or not, snoozed, and sent again."""

    # as Bench sets its own
    rules = property(lambda self: RULES, lambda self, given: None)  # type: ignore[assignment]

    def alert_some(self) -> None:
        """One thing happens to alerts."""
        rng, book = self.rng, self.state.alerts
        match rng.randrange(6):
            case 0 | 1:
                kinds = [("engine", "container"), ("disk", "/x")]
                found = {k: rng.choice(["", "trouble"]) for k in kinds if rng.random() < 0.8}
                self.do(LookForAlerts(found))
            case 2 | 3:
                for delivery in outbox.due(book, self.now, self.rules.alerts):
                    outbox.lease(book, delivery, self.now, self.rules.alerts)
                    if rng.random() < 0.8:
                        self.do(SettleDelivery(delivery.id, rng.random() < 0.5, "no answer"))
            case 4:
                job = rng.choice([*simulation.JOBS, None])
                until = self.now.wall + rng.randrange(1, 600_000) if rng.random() < 0.7 else None
                self.try_(SnoozeAlerts(job, rng.choice(["", "dead", "late"]), until))
            case 5:
                self.try_(ResendAlert(rng.randrange(1, book.next_alert + 1)))
                if rng.random() < 0.1:
                    self.try_(SendTest(rng.choice(simulation.JOBS), None))


def wrong(book: b.AlertBook) -> list[str]:
    """What is not so with the book, by a recount."""
    every = [d for alert in book.alerts.values() for d in alert.deliveries]
    found = []
    if set(book.waiting) != {d.id for d in every if d.state == b.WAITING}:
        found.append("the outbox is not what waits")
    if {a.id for a in book.open.values()} != {
        a.id for a in book.alerts.values() if a.resolved_at is None
    }:
        found.append("what is open is not what is not over")
    if set(book.over) != {a.id for a in book.alerts.values() if a.resolved_at is not None}:
        found.append("what is over")
    if len({d.id for d in every}) != len(every):
        found.append("an id was given twice")
    for alert in book.alerts.values():
        waits = [(d.tells, d.to) for d in alert.deliveries if d.state == b.WAITING]
        # what is asked for again may wait beside its like: once for each asking
        if alert.what != "test" and len(waits) > 2 * 3 + b.KEPT_DELIVERIES:
            found.append(f"alert {alert.id}: {len(waits)} wait")
    return found


@pytest.mark.parametrize("seed", range(16))
def test_at_any_moment_it_is_what_events_and_snapshots_say(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(b, "KEPT", 10)
    define = simulation.definition
    monkeypatch.setattr(
        simulation, "definition", lambda rng, name: {**define(rng, name), "alert": OF_THE_JOB}
    )
    life = Alerted(seed)
    ends = set()
    for _ in range(150):
        life.step()
        life.alert_some()
        ends.add(life.synced)
        assert wrong(life.state.alerts) == []
    events = life.events[: life.synced]
    log, kept, state = State(), Kept(), State()
    start = 0
    for cut in [*sorted(Random(seed).sample(sorted(ends), 4)), len(events)]:
        kept.apply(log, events[start:cut])
        Kept.apply(kept, state, events[start:cut])
        start = cut
        assert told(state) == told(log), f"seed {seed}, {cut} events"
        state, _ = kept.through(state)
        assert told(state) == told(log), f"seed {seed}, after {cut} events"
    assert life.state.alerts.next_alert > 5, "there was trouble"

"""A core with alerts to try things on: runs that end so, what is due, what was told."""

from __future__ import annotations

from typing import Any

from jobd.core import alertbook as b
from jobd.core import outbox
from jobd.core.alertcommands import LookForAlerts, SettleDelivery
from jobd.core.alertrules import read_alerts
from jobd.core.commands import ReportEnded, ReportStarted
from jobd.core.policy import Rules
from tests.support.core import SYSTEM, Bench, replay
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


def end_of(one: Bench, job: str, status: int) -> None:
    run = one.queue(job)
    one.claim()
    one.do(ReportEnded(run.id, 1, status, one.now.wall), SYSTEM)

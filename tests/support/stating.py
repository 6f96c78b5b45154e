"""States through the statements of a snapshot and back, without a disk."""

from __future__ import annotations

from typing import Any

from jobd.core import events as e
from jobd.core.alertbook import Alert, Delivery
from jobd.core.restoring import Restoring
from jobd.core.state import State
from jobd.core.statements import Record, statements
from jobd.core.states import RunState
from tests.support.core import dump_all

#: what is stated of a schedule
SCHEDULE = (
    "spec", "added_at", "caller", "from_file", "cursor", "paused", "fired", "missed", "last_at",
    "last_run", "refused", "mark",
)  # fmt: skip


class Kept:
    """The records of a queue, by a number that stands for their place, as the core asks for them.

    What was restored has place 0: then it is what the last snapshot said of the run.
    """

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = [(0, b"")]
        self.stated: dict[int, tuple[int, bytes]] = {}

    def __call__(self, where: int, run: int) -> tuple[int, bytes]:
        return self.records[where] if where else self.stated[run]

    def apply(self, state: State, events: list[e.Event]) -> None:
        """Take events in through their bytes, each with a place."""
        for event in events:
            cls = type(event)
            body = e.encode(event)
            read = e.decode(e.TYPE_OF[cls], event[0], body)
            state.apply(read)
            self.records.append((e.TYPE_OF[cls], body))
            state.placed(read, len(self.records) - 1)

    def through(self, state: State) -> tuple[State, list[Record]]:
        """The state that a snapshot of `state` makes, and its statements."""
        made = list(statements(state, self))
        keys = [(kind, id_) for _, kind, id_, _, _ in made]
        assert keys == sorted(keys)
        restored = restore(made)
        self.stated = {id_: (type_, body) for type_, kind, id_, _, body in made if kind == e.RUN}
        return restored, made


def restore(made: list[Record]) -> State:
    """The state that the statements make."""
    restoring = Restoring()
    for type_, _, id_, revision, body in made:
        restoring.take(type_, id_, revision, body)
    return restoring.state


def told(state: State) -> dict[str, Any]:
    """All of a state that a start from a snapshot must bring back, as plain values.

    Without what is left over in indexes of runs that have ended, and what a start sets anew.
    """
    found = dump_all(state)
    live = {run.id for run in state.runs.oldest_first() if run.state is not RunState.DONE}
    queues = {
        job: {p: kept for p, queue in ready.items() if (kept := [i for i in queue if i in live])}
        for job, ready in found["ready"].items()
    }
    found["ready"] = queues
    found["rings"] = {
        priority: there
        for priority, ring in found["rings"].items()
        if (there := [job for job in ring if priority in queues[job]])
    }
    found["children"] = {
        parent: kept
        for parent in state.children.parents()
        if (kept := [child for child in state.children.of(parent) if child in live])
    }
    found["made"] = {run.id: list(state.made.of(run.id)) for run in state.runs.oldest_first()}
    found["schedules"] = {
        each.key: [getattr(each, name) for name in SCHEDULE] for each in state.schedules.every()
    }
    found["joins"] = {
        key: {root: (join.since, join.reached) for root, join in open_.items()}
        for key, open_ in state.reactions.joins.items()
    }
    found["refused"] = dict(state.reactions.refused)
    found["listening"] = {name: list(jobs) for name, jobs in state.reactions.by_run.items()}
    found["needed"] = dict(state.children._readers)
    found["drops"] = {run: state.run(run).option("drop") for run in state.drops.runs()}
    found["watches"] = {w.key: [w.spec, w.mark, w.seen] for w in state.watches.every()}
    found["alerts"] = alerts_told(state)
    found["newest"] = state.schedules.newest
    found["times"] = {job.id: list(job.times) for job in state.jobs_by_id.values()}
    found["made"] = {
        job.id: {number: (at, list(by)) for number, (at, by) in job.made.items()}
        for job in state.jobs_by_id.values()
    }
    found["finished"] = sorted(state.finished)
    found["gone"] = state.gone.marks()
    found["needed"] = sorted(state.children.needed_ids())
    found["asked"] = [(key, list(runs)) for key, runs in state.requests.oldest_first()]
    del found["dirty"], found["reasons"]
    return found


def alerts_told(state: State) -> dict[str, Any]:
    """All of the book of alerts that a start from a snapshot must bring back, in JSON's values."""
    book = state.alerts
    return {
        "next": [book.next_alert, book.next_delivery],
        "succeeded": {str(job): at for job, at in book.succeeded.items()},
        "snoozes": sorted([*key, until] for key, until in book.snoozes.items()),
        "over": list(book.over),
        "open": sorted([*key, alert.id] for key, alert in book.open.items()),
        "latest": sorted([*key, alert.id] for key, alert in book.latest.items()),
        "waiting": sorted(book.waiting),
        "alerts": {str(number): _alert(alert) for number, alert in sorted(book.alerts.items())},
    }


def _alert(alert: Alert) -> dict[str, Any]:
    plain = {name: getattr(alert, name) for name in Alert.__slots__ if name != "deliveries"}
    return {**plain, "deliveries": {str(d.id): _delivery(d) for d in alert.deliveries}}


def _delivery(delivery: Delivery) -> dict[str, Any]:
    plain = {name: getattr(delivery, name) for name in Delivery.__slots__ if name != "alert"}
    return {**plain, "to": list(delivery.to)}

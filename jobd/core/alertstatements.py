"""What the book of alerts is, as statements of a snapshot, and back (core/statements.py)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from jobd.core.alertbook import Alert, AlertBook, Delivery
from jobd.core.alertspec import Destination

#: jobs whose last success one statement tells
_PART = 8192


class AlertStands(NamedTuple):
    """One alert. `resolved`: nil, or when and the text. A delivery: its id, what it tells, kind,
    value and template of its destination, its state, since when, due when, how often it failed, the
    last error, when it was settled, the run that it queued."""

    alert: int
    what: str
    job: int
    scope: str
    at: int
    last_at: int
    run: int
    text: str
    seen: int
    resolved: list[Any] | None
    deliveries: list[list[Any]]


class AlertBookStands(NamedTuple):
    """The rest, or a part of it. `succeeded`: job and when it last did; `snoozes`: job, kind of
    trouble, until when. The ids `next_alert` and `next_delivery` were never used."""

    next_alert: int
    next_delivery: int
    succeeded: list[list[int]]
    snoozes: list[list[Any]]


def stated(book: AlertBook) -> Iterator[AlertStands | AlertBookStands]:
    """Every statement about the book."""
    # those that are over in the order in which they ended: that in which they are let go of
    order = [*(book.alerts[number] for number in book.over), *book.open.values()]
    for alert in order:
        yield _alert(alert)
    succeeded = iter(sorted(book.succeeded.items()))
    snoozes = [[*key, until] for key, until in sorted(book.snoozes.items())]
    numbers = book.next_alert, book.next_delivery
    while part := [list(pair) for pair in islice(succeeded, _PART)]:
        yield AlertBookStands(*numbers, part, snoozes)
    if not book.succeeded and (numbers != (1, 1) or snoozes):
        yield AlertBookStands(*numbers, [], snoozes)


def _alert(alert: Alert) -> AlertStands:
    over = alert.resolved_at
    return AlertStands(
        alert.id, alert.what, alert.job, alert.scope, alert.at, alert.last_at, alert.run,
        alert.text, alert.count, None if over is None else [over, alert.resolved_text],
        [[d.id, d.tells, *d.to, *(getattr(d, name) for name in _STATED)] for d in alert.deliveries],
    )  # fmt: skip


#: of a delivery, behind what it tells whom
_STATED = ("state", "since", "due", "tries", "error", "done_at", "run")


def restore_alert(book: AlertBook, said: AlertStands) -> None:
    """Take in one alert."""
    alert = Alert(said.alert, said.what, said.job, said.scope, said.at)
    alert.last_at, alert.run, alert.text, alert.count = (
        said.last_at,
        said.run,
        said.text,
        said.seen,
    )
    if said.resolved is not None:
        alert.resolved_at, alert.resolved_text = said.resolved[:2]
    for id_, tells, kind, value, template, *more in said.deliveries:
        delivery = Delivery(id_, alert, tells, Destination(kind, value, template), 0)
        for name, value_ in zip(_STATED, more, strict=False):
            setattr(delivery, name, value_)
        alert.deliveries.append(delivery)
    book.add(alert)


def restore_book(book: AlertBook, said: AlertBookStands) -> None:
    """Take in the rest, or a part of it."""
    book.next_alert = max(book.next_alert, said.next_alert)
    book.next_delivery = max(book.next_delivery, said.next_delivery)
    book.succeeded.update((job, at) for job, at in said.succeeded)
    book.snoozes.update({(job, what): until for job, what, until in said.snoozes})

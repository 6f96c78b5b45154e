"""Which deliveries may be given out now: due, not snoozed, in order, within the rate. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from jobd.core.alertbook import LONGEST_WAIT, AlertBook, Delivery
from jobd.core.alertrules import AlertRules
from jobd.core.alertspec import Destination
from jobd.core.model import Now

#: how long a delivery is whose taker says nothing: longer than any may take, in milliseconds
LEASE = 60_000
#: what a request for deliveries waits for, in place of a run
OUTBOX = -(1 << 40)


def due(book: AlertBook, now: Now, rules: AlertRules, of_jobs: bool = False) -> Iterator[Delivery]:
    """Deliveries that may go out now, oldest first, one a destination; `of_jobs`: those to jobs,
    else all others. Whoever takes one says so by :func:`lease` before the next is asked for.

    Of one alert nothing overtakes what was to be told before it. A destination that hangs keeps
    nobody else waiting. A wait that is longer than any comes from a clock that was set back.
    """
    busy: set[Destination] = set()
    for number, until in list(book.taken.items()):
        taken = book.waiting.get(number)
        if taken is None or until <= now.mono:
            del book.taken[number]
        else:
            busy.add(taken.to)
    free = not book.bucket.wait(rules.rate, rules.burst, now.wall)
    before: set[tuple[int, Destination]] = set()
    for delivery in list(book.waiting.values()):
        alert, to = delivery.alert, delivery.to
        place = (alert.id, to)
        if place in before:
            continue
        before.add(place)
        if to in busy or 0 < delivery.due - now.wall <= LONGEST_WAIT:
            continue
        if (_target(to, rules).kind == "job") is not of_jobs:
            continue
        if book.snoozed_until(alert.job, alert.what, now.wall) is not None:
            continue
        if delivery.tries == 0 and not free:
            continue
        busy.add(to)
        yield delivery
        free = not book.bucket.wait(rules.rate, rules.burst, now.wall)


def lease(book: AlertBook, delivery: Delivery, now: Now, rules: AlertRules) -> None:
    """It was given out. What is tried again does not count for the rate: it waits long enough."""
    book.taken[delivery.id] = now.mono + LEASE
    if delivery.tries == 0:
        book.bucket.take(rules.rate, rules.burst, now.wall)


def _target(to: Destination, rules: AlertRules) -> Destination:
    named = rules.named.get(to.value) if to.kind == "to" else None
    return to if named is None else named.to

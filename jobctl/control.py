"""The calls of the host: health, draining, what happens. Steps, as jobctl/calls.py says."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jobctl.calls import ask, change, each_item
from jobctl.channel import Channel
from jobctl.shape import shaped
from jobctl.steps import Item, Pause, Steps
from jobd.errors import RefusedError, TimeOverError
from jobd.wire.envelope import HOLD_MS


def ping(to: Channel) -> Steps[dict[str, Any]]:
    """`{version, pid, store, uptime_ms, user}` of the daemon."""
    return (yield from ask(to, "ping", {}))


def status(to: Channel) -> Steps[dict[str, Any]]:
    """Health and capacity now, in the shape that INTERFACE calls `status`."""
    return (yield from ask(to, "status", {}))


def doctor(to: Channel) -> Steps[list[dict[str, Any]]]:
    """What is wrong with the set-up: `{about, level, text, remedy}` each, `level` one of `ok`,
    `warning`, `wrong`."""
    found: list[dict[str, Any]] = (yield from ask(to, "host.doctor", {}))["findings"]
    return found


def forecast(to: Channel, *, hours: int = 24) -> Steps[dict[str, Any]]:
    """What the next hours will bring: `{at, ends_at, runs, backlog, hours, collisions, clock}`.

    Schedules and what waits are played through against the capacity, with the times that the last
    attempts of each job took.
    """
    return (yield from ask(to, "host.forecast", {"hours": hours}))


def drain(
    to: Channel, *, wait: bool = False, timeout: float | None = None
) -> Steps[dict[str, Any]]:
    """Keeps all runs from starting: `{draining, changed, active}`; queueing goes on.

    With `wait` it returns when no run is active any more. TimeOverError after `timeout`
    seconds; the host stays drained.
    """
    answer = yield from change(to, "host.drain", {})
    if not wait or not answer["active"]:
        return answer
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = HOLD_MS if end is None else round((end - time.monotonic()) * 1000)
        held = max(min(left, HOLD_MS), 0)
        now = yield from to.ask("host.idle", {"hold": held}, hold_ms=max(held, 1))
        if now["ready"]:
            return {**answer, "active": 0}
        if end is not None and time.monotonic() >= end:
            runs = ", ".join(map(str, now["active"][:5]))
            raise TimeOverError(f"host: still active after {timeout:g} s: run {runs}")


def undrain(to: Channel) -> Steps[dict[str, Any]]:
    """Undoes `drain`."""
    return (yield from change(to, "host.undrain", {}))


def snapshot(to: Channel) -> Steps[dict[str, Any]]:
    """Has a snapshot of the queue made, and waits for it: `{at, bytes, records, lsn, took_s, ...}`.

    jobd makes them by itself; this is for tests, and before a copy. RefusedError where there is
    no space, or the queue cannot be read.
    """
    number = (yield from to.ask("host.snapshot", {}))["number"]
    up = 0.0
    while True:
        status = yield from to.ask("status", {})
        row: dict[str, Any] = status["journal"]["snapshot"]
        if status["uptime_s"] < up:
            raise RefusedError("snapshot: jobd was started anew meanwhile; ask again")
        up = status["uptime_s"]
        if row["finished"] < number:
            yield Pause(0.1)
            continue
        if row["problem"]:
            raise RefusedError(f"snapshot: {row['problem']}")
        return dict(shaped(row))


# --- what happens -----------------------------------------------------------------------------


def events(
    to: Channel,
    *,
    since: datetime | None = None,
    follow: bool = False,
    audit: bool = False,
    after: int | None = None,
) -> Steps[None]:
    """What happened, oldest first: `{seq, at, event, job, run, ..., by}`.

    From `since` on, or behind the event with the number `after`; with neither from the
    beginning, or with `follow` from now on. With `follow` they come as they happen, without an
    end. `audit`: those alone that somebody asked for; `by` says who.

        for event in jobd.events(follow=True): print(event["event"], event["run"])
    """
    start = None if since is None else round(since.timestamp() * 1000)
    pages = event_pages(to, since=start, follow=follow, audit=audit, after=after)
    yield from each_item(pages, lambda rows: rows)


def event_pages(
    to: Channel,
    *,
    since: int | None = None,
    follow: bool = False,
    audit: bool = False,
    after: int | None = None,
    gone: Callable[[int], None] | None = None,
) -> Steps[None]:
    """As `events`, in pieces as they come; `since` is in milliseconds UTC.

    `gone` is told, where some are not there any more, from before when (ms UTC) these are.
    """
    asked: dict[str, Any] = {"audit": True} if audit else {}
    if since is not None:
        asked["since"] = since
    elif after is None and not follow:
        asked["since"] = 0
    if after is not None:
        asked["after"] = after
    held = 0
    while True:
        began = time.monotonic()
        answer = yield from to.ask("events.read", {**asked, "hold": held}, hold_ms=held)
        if gone is not None and answer.get("gone"):
            gone(answer["gone"])
        if answer["events"]:
            yield Item(shaped(answer["events"]))
        asked["after"] = answer["next"]
        if answer["more"]:
            continue
        if not follow:
            return
        # a daemon that answers a held request at once is not asked in a tight loop
        if held and not answer["events"] and time.monotonic() - began < 0.05:
            yield Pause(0.05)
        held = HOLD_MS

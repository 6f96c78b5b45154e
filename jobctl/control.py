"""The calls that change runs and the host, and that tell what happens on it.

Steps, as in jobctl/calls.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jobctl.calls import Selector, ask, change, collect, each_item, each_run, named
from jobctl.channel import Channel
from jobctl.queueing import Readable, payload_arguments
from jobctl.shape import shaped
from jobctl.steps import Item, Pause, Steps
from jobd.errors import RefusedError, TimeOverError
from jobd.wire.envelope import HOLD_MS

# --- runs -------------------------------------------------------------------------------------


def retry(to: Channel, *selectors: Selector, payload: bytes | Readable | None = None) -> Steps[Any]:
    """Queues ended runs again: `{id, retry_of}`, or a list where several were asked for.

    Each is a new run of the newest revision of its job, with its own payload or (bytes, or a
    file opened for reading) the one given. ConflictError where none has ended.

        again = jobd.retry(42)["id"]
    """
    to.new_keys()
    asked: dict[str, Any] = {"runs": named(selectors)}
    if payload is not None:
        asked.update((yield from payload_arguments(to, payload, keep=True)) or {"payload": b""})
    answer = yield from ask(to, "run.retry", asked)
    rows = [{"id": new, "retry_of": old} for old, new in answer["runs"]]
    return rows[0] if answer["single"] and rows else rows


def hold(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Keeps waiting runs back until they are released: `{id, status}`, or a list of them."""
    return (yield from each_run(to, "run.hold", selectors))


def release(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Lets held runs start: `{id, status}`, or a list of them."""
    return (yield from each_run(to, "run.release", selectors))


def next_(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Puts queued runs before all others of their job and priority: `{id, status}`, or a list."""
    return (yield from each_run(to, "run.next", selectors))


def edit(
    to: Channel,
    *selectors: Selector,
    priority: int | None = None,
    at: datetime | None = None,
    delay: float | None = None,
    timeout: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Steps[Any]:
    """Changes settings of runs that wait: `{id, status}`, or a list of them.

    `at` or `delay` (seconds from now) is another date, `timeout` (seconds) of the attempts to
    come; `labels` are set beside the others, of active runs too.

        jobd.edit(42, priority=10, delay=0)
    """
    asked: dict[str, Any] = {}
    if priority is not None:
        asked["priority"] = priority
    if at is not None:
        asked["not_before"] = round(at.timestamp() * 1000)
    for name, seconds in (("delay", delay), ("timeout", timeout)):
        if seconds is not None:
            asked[name] = round(seconds * 1000)
    if labels:
        asked["labels"] = dict(labels)
    return (yield from each_run(to, "run.edit", selectors, **asked))


def why(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Why a run is where it is: each constraint with numbers, its place, an estimated start.

    A list where several were asked for.
    """
    rows, last = yield from collect(to, "run.why", {"runs": named(selectors)}, "runs")
    return rows[0] if last.get("single") and rows else rows


# --- jobs -------------------------------------------------------------------------------------


def set_(to: Channel, job: str, settings: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Changes single settings of a job, by their paths: `{job, revision, changed, changes}`.

    None takes the default again. Raises InvalidError naming the key.

        jobd.set("crawl", {"limits.concurrency": 4, "env.LANG": "C", "timeout": "10m"})
    """
    return (yield from change(to, "job.set", {"job": job, "settings": dict(settings)}))


def history(to: Channel, job: str) -> Steps[list[dict[str, Any]]]:
    """The revisions of a job, newest first: `{revision, at, by, changes}`."""
    return (yield from collect(to, "job.history", {"job": job}, "revisions"))[0]


# --- the host ---------------------------------------------------------------------------------


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
) -> Steps[None]:
    """As `events`, in pieces as they come; `since` is in milliseconds UTC."""
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

"""The calls of runs: see them, wait for them, change them. Steps, as jobctl/calls.py says.

Queueing is in jobctl/queueing.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobctl.calls import Run, Selector, ask, collect, each_item, each_run, given, named
from jobctl.channel import Channel
from jobctl.queueing import Readable, payload_arguments
from jobctl.shape import FINAL, shaped
from jobctl.steps import Pause, Steps
from jobd.errors import TimeOverError
from jobd.wire.envelope import HOLD_MS

# --- seen -------------------------------------------------------------------------------------


def runs(
    to: Channel,
    *selectors: Selector,
    status: Sequence[str] | None = None,
    job: str | None = None,
    labels: Mapping[str, str] | None = None,
    since: datetime | None = None,
    limit: int | None = None,
    everything: bool = False,
) -> Steps[list[Run]]:
    """Runs that fit: live ones first, then ended ones, newest first in each, 50 in all.

    `limit` is another number than 50, `everything` lifts window and limit. Status words may
    be `dead` too.

        jobd.runs(job="sendemail", status=["failed"], limit=10)
    """
    asked = given(
        runs=named(selectors) or None,
        status=None if status is None else list(status),
        job=job,
        labels=dict(labels or {}) or None,
        since=None if since is None else round(since.timestamp() * 1000),
        limit=limit,
        all=everything or None,
    )
    return (yield from runs_and_more(to, asked))[0]


def runs_and_more(to: Channel, asked: dict[str, Any]) -> Steps[tuple[list[Run], bool]]:
    """As `runs`, by the wire's own arguments; and whether there are more than were asked."""
    rows, last = yield from collect(to, "run.list", asked, "runs")
    return rows, bool(last.get("more"))


def show(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Everything about a run with its attempts; a list where several were asked for."""
    rows, last = yield from collect(to, "run.show", {"runs": named(selectors)}, "runs")
    return rows[0] if last.get("single") and rows else rows


def why(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Why a run is where it is: each constraint with numbers, its place, an estimated start.

    A list where several were asked for.
    """
    rows, last = yield from collect(to, "run.why", {"runs": named(selectors)}, "runs")
    return rows[0] if last.get("single") and rows else rows


def wait(
    to: Channel, *selectors: Selector, until: str = "done", timeout: float | None = None
) -> Steps[Any]:
    """Waits until each run is `done`, `running` (or past it) or `succeeded` (or cannot be).

    The run, or a list where several were asked for. TimeOverError after `timeout` seconds.

        if jobd.wait(42, timeout=600)["status"] != "succeeded": ...
    """
    asked: dict[str, Any] = {"runs": named(selectors), "for": until}
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = HOLD_MS if end is None else round((end - time.monotonic()) * 1000)
        began = time.monotonic()
        asked["hold"] = max(min(left, HOLD_MS), 0)
        answer = yield from to.ask("run.wait", asked, hold_ms=max(asked["hold"], 1))
        rows: list[Run] = shaped(answer["runs"])
        if answer["ready"]:
            # of many, the answer may hold the first alone
            return rows[0] if answer["single"] and rows else (yield from runs(to, *selectors))
        if end is not None and time.monotonic() >= end:
            raise TimeOverError(_time_over(rows, until, timeout or 0.0))
        # a daemon that answers at once is not asked in a tight loop
        if left > 0 and time.monotonic() - began < 0.05:
            yield Pause(0.05)


def _time_over(rows: list[Run], until: str, seconds: float) -> str:
    reached = FINAL | {"running", "stopping"} if until == "running" else FINAL
    missing = [row for row in rows if row.get("status") not in reached]
    which = ", ".join(f"{row.get('id')} is {row.get('status')}" for row in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"not {until} within {seconds:g} s: run {which}{more}"


def result(to: Channel, run: Selector) -> Steps[bytes]:
    """The bytes that the run gave back. ConflictError before its end, NotFoundError if none."""
    made: list[bytes] = []
    yield from fetch(to, "run.result", run, made.append)
    return b"".join(made)


def payload(to: Channel, run: Selector) -> Steps[bytes]:
    """The bytes that the run was queued with."""
    made: list[bytes] = []
    yield from fetch(to, "run.payload", run, made.append)
    return b"".join(made)


def fetch(to: Channel, verb: str, run: Selector, each: Callable[[bytes], Any]) -> Steps[int]:
    """Gives `each` chunk of `run.result` or `run.payload` as it comes; the size in bytes."""
    last = yield from to.ask(verb, {"run": str(run)}, each=lambda part: each(part["data"]))
    return int(last["size"])


def logs(
    to: Channel,
    run: Selector,
    *,
    attempt: int | None = None,
    tail: int | None = None,
    since: datetime | None = None,
    follow: bool = False,
) -> Steps[None]:
    """The lines of the last attempt's log: `{time, stream, text, partial, attempt}`.

    `stream` is `stdout`, `stderr`, or `jobd` for jobd's own notes. With `follow` they come as
    they are written, over further attempts too, until the run has ended.

        for line in jobd.logs(42, follow=True): print(line["text"])
    """
    from jobctl.follow import read as read_log

    after = None if since is None else round(since.timestamp() * 1000)
    reading = read_log(to, str(run), attempt=attempt, tail=tail, since=after, follow=follow)
    yield from each_item(reading, lambda entries: [entry.shape() for entry in entries])


def follow(to: Channel, /, run: str, **options: Any) -> Steps[None]:
    """The log's entries as they are in the file; its options are `jobctl.follow.read`'s."""
    from jobctl.follow import read as read_log

    return read_log(to, run, **options)


# --- changed ----------------------------------------------------------------------------------


def cancel(
    to: Channel,
    *selectors: Selector,
    job: str | None = None,
    status: Sequence[str] | None = None,
) -> Steps[Any]:
    """Cancels runs, or all live ones of `job`: `{id, status}`, or a list of them."""
    words = None if status is None else list(status)
    return (yield from each_run(to, "run.cancel", selectors, **given(job=job, status=words)))


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


def progress(to: Channel, percent: int | None = None, message: str = "") -> Steps[None]:
    """Says how far the run is that this is called from inside of, by the socket in JOBD_SOCKET.

    jobd.progress(40, "page 17 of 43")
    """
    yield from to.ask("run.progress", given(percent=percent, message=message or None))


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

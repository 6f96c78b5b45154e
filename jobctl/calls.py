"""What can be asked of jobd, each call once: for the blocking client and for asyncio alike.

A call is a function of a channel and of what the caller gives; it yields steps (jobctl/steps.py).
`jobctl.client.Client` and `jobctl.aio.AsyncClient` have a method of the same name for each, with
the signature and the text that stand here. Queueing is in jobctl/queueing.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from jobctl.channel import Channel
from jobctl.shape import FINAL, shaped
from jobctl.steps import Item, Pause, Steps
from jobctl.values import is_single
from jobd.errors import JobdError, TimeOverError
from jobd.wire.envelope import HOLD_MS

Run = dict[str, Any]
Job = dict[str, Any]
Selector = int | str
_T = TypeVar("_T")


# --- how it is asked --------------------------------------------------------------------------


def ask(to: Channel, verb: str, arguments: dict[str, Any]) -> Steps[dict[str, Any]]:
    """The answer in JSON's shape."""
    answer: dict[str, Any] = shaped((yield from to.ask(verb, arguments)))
    return answer


def change(to: Channel, verb: str, arguments: dict[str, Any]) -> Steps[dict[str, Any]]:
    """As `ask`, as a piece of work of its own."""
    to.new_keys()
    return (yield from ask(to, verb, arguments))


def collect(
    to: Channel, verb: str, arguments: dict[str, Any], name: str
) -> Steps[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The rows of all parts in JSON's shape, and the last word."""
    rows: list[dict[str, Any]] = []
    last: dict[str, Any] = yield from to.ask(
        verb, arguments, each=lambda part: rows.extend(part[name])
    )
    return shaped(rows), last


def given(**values: Any) -> dict[str, Any]:
    """What was given, without what was not."""
    return {name: value for name, value in values.items() if value is not None}


def each_item(steps: Steps[_T], made: Callable[[Any], Sequence[Any]]) -> Steps[_T]:
    """The same steps, with several items made of each item."""
    answer: Any = None
    problem: Exception | None = None
    while True:
        try:
            step = steps.send(answer) if problem is None else steps.throw(problem)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        answer = problem = None
        if isinstance(step, Item):
            for value in made(step.value):
                yield Item(value)
            continue
        try:
            answer = yield step
        except (OSError, JobdError) as error:
            problem = error


def named(selectors: Sequence[Selector]) -> list[str]:
    """Selectors as the wire has them."""
    return [str(selector) for selector in selectors]


# --- the daemon and its jobs ------------------------------------------------------------------


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


def register(to: Channel, spec: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Registers a job, or a new revision of it: `{job, revision, changed, warnings}`.

    `spec` has the keys of a job file, `name` included. Raises InvalidError naming the key.

        jobd.register({"name": "hello", "image": "busybox", "command": ["echo", "hi"]})
    """
    return (yield from change(to, "job.register", {"spec": dict(spec)}))


def apply(
    to: Channel, specs: Sequence[Mapping[str, Any]], *, prune: bool = False, dry_run: bool = False
) -> Steps[dict[str, Any]]:
    """Registers all of these jobs, or none: `{jobs: [{job, action, revision, changes}]}`.

    `action` is `created`, `changed`, `unchanged`, `moved` (registered otherwise before) or
    `pruned`; `changes` are `{key, before, after}`. With `prune` jobs of an earlier apply that are
    not among them are removed; `dry_run` changes nothing. InvalidError with all that is wrong
    in `details["mistakes"]`.
    """
    asked = {"specs": [dict(spec) for spec in specs]}
    answer = yield from change(to, "job.apply", {**asked, **given(prune=prune, dry_run=dry_run)})
    for row in answer["jobs"]:
        row.setdefault("changes", [])
    return answer


def unregister(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Removes a job: `{job}`. ConflictError while it has live runs."""
    return (yield from change(to, "job.unregister", {"job": job}))


def jobs(to: Channel) -> Steps[list[Job]]:
    """All jobs."""
    return (yield from collect(to, "job.list", {}, "jobs"))[0]


def job_names(to: Channel) -> Steps[list[Job]]:
    """`{name, revision, paused}` of all jobs: quick, however many there are."""
    return (yield from collect(to, "job.list", {"brief": True}, "jobs"))[0]


def job(to: Channel, name: str) -> Steps[Job]:
    """One job as in its file, with defaults filled in. NotFoundError where there is none."""
    return (yield from ask(to, "job.show", {"job": name}))


def pause(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Keeps runs of `job` from starting: `{job, paused, changed}`; queueing goes on."""
    return (yield from change(to, "job.pause", {"job": job}))


def resume(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Undoes `pause`."""
    return (yield from change(to, "job.resume", {"job": job}))


# --- runs -------------------------------------------------------------------------------------


def runs(
    to: Channel,
    *selectors: Selector,
    status: Sequence[str] | None = None,
    job: str | None = None,
    labels: Mapping[str, str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    everything: bool = False,
) -> Steps[list[Run]]:
    """Runs that fit: live ones first, then ended ones, newest first in each, 50 in all.

    `limit` is another number than 50, `everything` lifts window and limit. Status words may
    be `dead` too; `since` and `until` are of the end of a run that has ended.

        jobd.runs(job="sendemail", status=["failed"], limit=10)
    """
    asked = given(
        runs=named(selectors) or None,
        status=None if status is None else list(status),
        job=job,
        labels=dict(labels or {}) or None,
        since=None if since is None else round(since.timestamp() * 1000),
        until=None if until is None else round(until.timestamp() * 1000),
        limit=limit,
        all=everything or None,
    )
    return (yield from runs_and_more(to, asked))[0]


def runs_and_more(to: Channel, asked: dict[str, Any]) -> Steps[tuple[list[Run], dict[str, Any]]]:
    """As `runs`, by the wire's own arguments; and `{more}`: whether there are more than were asked,
    with `trouble` where those of old cannot be read just now."""
    return (yield from collect(to, "run.list", asked, "runs"))


def show(to: Channel, *selectors: Selector) -> Steps[Any]:
    """Everything about a run with its attempts; a list where several were asked for."""
    rows, last = yield from collect(to, "run.show", {"runs": named(selectors)}, "runs")
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


def cancel(
    to: Channel,
    *selectors: Selector,
    job: str | None = None,
    status: Sequence[str] | None = None,
) -> Steps[Any]:
    """Cancels runs, or all live ones of `job`: `{id, status}`, or a list of them."""
    words = None if status is None else list(status)
    return (yield from each_run(to, "run.cancel", selectors, **given(job=job, status=words)))


def each_run(to: Channel, verb: str, selectors: Sequence[Selector], **more: Any) -> Steps[Any]:
    """A verb that answers `[id, status]` of each run: one where one was asked for."""
    which = {"runs": named(selectors)} if selectors else {}
    answer = yield from change(to, verb, {**which, **more})
    rows = [{"id": number, "status": word} for number, word in answer["runs"]]
    single = len(selectors) == 1 and is_single(str(selectors[0]))
    return rows[0] if single and rows else rows


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


def _time_over(rows: list[Run], until: str, seconds: float) -> str:
    missing = [row for row in rows if row.get("status") not in FINAL]
    which = ", ".join(f"{row.get('id')} is {row.get('status')}" for row in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"not {until} within {seconds:g} s: run {which}{more}"

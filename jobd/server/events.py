"""events.read: what happened, from memory or the queue's files, waiting for more where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobd.core import events as e
from jobd.core.entities import Job, Run
from jobd.errors import UsageError
from jobd.server import alertrows
from jobd.server.access import Sight
from jobd.server.kernel import ANYTHING, Kernel, Later, Offload, Request
from jobd.server.recalling import recall, run_of
from jobd.server.recent import Page
from jobd.server.rows import by_of
from jobd.wire.envelope import HOLD_MS

#: rows in one answer; with the bounds below they fit a frame
_PAGE = 250
#: characters of a text, and entries of a map or list, that a row shows
_TEXT, _ENTRIES = 500, 16

#: what a row does not tell: too much, or of no use to a person
_LEFT_OUT = frozenset(
    {"at", "caller", "host", "job", "run", "spec", "payload", "request", "batch_index"}
    | {"options", "result", "log_tail", "deliveries", "due"}
)
#: of a run's options: those that a row tells
_OPTIONS = ("not_before", "expires_at", "timeout", "labels", "key", "after", "retry_of")


def read(kernel: Kernel, request: Request) -> Any:
    """events.read"""
    arguments = request.arguments
    after, since = arguments.get("after"), arguments.get("since", 0)
    if (after is not None and after < 0) or since < 0:
        raise UsageError("events.read: after and since: expected numbers from 0 on")
    if after is None and "since" not in arguments:
        return {"events": [], "next": kernel.recent.last, "more": False}
    page = kernel.recent.after(after or 0, _PAGE)
    if page is None:
        return Offload(
            lambda: kernel.events_after(after or 0, since, _PAGE),
            lambda found: _answer(kernel, request, found),
        )
    return _answer(kernel, request, page)


def _answer(kernel: Kernel, request: Request, page: Page) -> Any:
    arguments = request.arguments
    since, audit = arguments.get("since", 0), arguments.get("audit", False)
    sight = Sight(kernel, request.caller)
    recall(kernel, request, [event[0] for _, event in page.events if _of_run(event)])
    rows = [
        event_row(kernel, request, seq, event)
        for seq, event in page.events
        if event.at >= since
        and (not audit or getattr(event, "caller", None) is not None)
        and _may_see(kernel, request, sight, event)
    ]
    hold = min(arguments.get("hold", 0), HOLD_MS)
    if hold and not rows and not page.more and page.gone is None and not request.final:
        # what was looked through need not be looked through again
        arguments["after"] = page.next
        raise Later([ANYTHING], hold)
    answer = {"events": rows, "next": page.next, "more": page.more}
    return answer if page.gone is None else {**answer, "gone": page.gone}


def _of_run(event: e.Event) -> bool:
    return e.KIND_OF[type(event)] == e.RUN


def _may_see(kernel: Kernel, request: Request, sight: Sight, event: e.Event) -> bool:
    """Whether it is about a run that the caller may read, a job that they may see, or the host.

    What is about a run that was removed is for administrators: of others nobody knows whose it was.
    """
    kind = e.KIND_OF[type(event)]
    if kind == e.RUN:
        run = run_of(kernel, request, event[0])
        return kernel.is_admin(request.caller) if run is None else sight.run(run)
    if type(event) is e.TopicEmitted:
        # its labels are others' affair; who got a run of it reads of that
        return sight.all
    if alertrows.is_of_alerts(event):
        return alertrows.may_see(kernel, sight, event)
    return kind == e.HOST or sight.job(kernel.state.jobs_by_id[event[0]])


def event_row(kernel: Kernel, request: Request, seq: int, event: e.Event) -> dict[str, Any]:
    """An event as people and programs see it: `seq at event job run`, what it tells, and `by`."""
    run, job = _subject(kernel, request, event)
    row: dict[str, Any] = {
        "seq": seq,
        "at": event.at,
        "event": name_of(type(event)),
        "job": job.name if job is not None else None,
        "run": run,
    }
    fields = event._asdict()
    for name, value in fields.items():
        if name not in _LEFT_OUT and (name, type(event)) != ("name", e.JobRegistered):
            row["attempt" if name == "number" else name] = _bounded(value)
    if type(event) is e.RunQueued:
        payload = event.payload
        row["payload_size"] = len(payload) if isinstance(payload, bytes) else payload[1]
        for name in _OPTIONS:
            if event.options and name in event.options:
                row[name] = _bounded(event.options[name])
    if alertrows.is_of_alerts(event):
        row.update(alertrows.more(kernel, event))
    caller = fields.get("caller")
    row["by"] = by_of(caller) if caller is not None else None
    return row


def _subject(kernel: Kernel, request: Request, event: e.Event) -> tuple[int | None, Job | None]:
    kind = e.KIND_OF[type(event)]
    if alertrows.is_of_alerts(event):
        return alertrows.about(kernel, event)
    if kind == e.JOB:
        # of a schedule's firing, and of ends that others wait for: the run that it is about
        return getattr(event, "run", None), kernel.state.jobs_by_id.get(event[0])
    if kind != e.RUN:
        return None, None
    run: Run | None = run_of(kernel, request, event[0])
    return event[0], run.job if run is not None else None


def name_of(cls: type) -> str:
    """The name of an event's class as rows have it: `RunMovedFirst` is `run.moved-first`."""
    words: list[str] = []
    for char in cls.__name__:
        if char.isupper():
            words.append(char.lower())
        else:
            words[-1] += char
    return f"{words[0]}.{'-'.join(words[1:])}"


def _bounded(value: Any) -> Any:
    """A value that may be long, cut: many rows have to fit one frame."""
    if isinstance(value, str) and len(value) > _TEXT:
        return value[:_TEXT] + "…"
    if isinstance(value, dict):
        items = list(value.items())[:_ENTRIES]
        return {str(key)[:100]: _short(item) for key, item in items}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_short(item) for item in value[:_ENTRIES]]
    return value


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:100]
    return _bounded(value)

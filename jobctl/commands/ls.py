"""`jobctl ls`: lists runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.arguments import typed
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Lists runs: all that have not ended, then ended ones, newest first in each, 50 in all. --all lifts
both the window and the limit. Status words may also be `dead`.

  jobctl ls --status failed,timed-out --since 1d
  jobctl ls --job sendemail -o id | xargs -n1 jobctl show"""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `ls`."""
    parser.add_argument("--status", metavar="S,...", help="status words: queued,running,dead,...")
    parser.add_argument("--job", metavar="J", help="runs of one job")
    parser.add_argument("--label", metavar="K=V", action="append", help="runs with the label")
    parser.add_argument("--since", metavar="T", help="queued since (10m looks back; or a date)")
    parser.add_argument("--limit", metavar="N", type=typed(values.positive), help="how many")
    parser.add_argument("--all", action="store_true", help="all there are")
    parser.add_argument("runs", metavar="RUN", nargs="*", type=typed(values.selector))


def check(given: Namespace, out: Output) -> None:
    """Reads what has a form, before anything is asked."""
    values.pairs(given.label, "--label")
    if given.since is not None:
        values.when(given.since, now(), back=True)
    if given.status is not None and not values.words(given.status):
        raise UsageError("ls: --status: expected status words, separated by commas")


def _at(name: str, clock: int) -> Any:
    """A column's reader of how long ago the time `name` was."""
    return lambda row: render.age(when(row.get(name)), clock)


def when(text: Any) -> int | None:
    """Milliseconds UTC of a time in JSON's shape; None for null."""
    if not isinstance(text, str):
        return None
    from datetime import datetime

    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None


def duration(row: render.Row) -> str:
    """How long it ran, or runs."""
    started = when(row.get("started_at"))
    if started is None:
        return ""
    ended = when(row.get("finished_at"))
    return render.span((now() if ended is None else ended) - started)


def reason(row: render.Row) -> str:
    """Why a run is where it is."""
    if row.get("status") == "succeeded":
        return "a child was killed for memory" if row.get("oom_hint") else ""
    return str((row.get("reason") or {}).get("text") or "") or progress(row)


def progress(row: render.Row) -> str:
    """How far a run says it is, while it runs."""
    told = row.get("progress") or {}
    if row.get("finished_at") is not None:
        return ""
    percent = told.get("percent")
    return " ".join(
        part for part in ("" if percent is None else f"{percent} %", told.get("message")) if part
    )


def _attempt(row: render.Row) -> str:
    attempts = row.get("attempts") or []
    return str(attempts[-1].get("number", len(attempts))) if attempts else ""


COLUMNS: list[render.Column] = [
    ("ID", lambda row: str(row.get("id")), False),
    ("JOB", lambda row: str(row.get("job")), True),
    ("STATUS", lambda row: str(row.get("status")), False),
    ("AGE", lambda row: render.age(when(row.get("queued_at")), now()), False),
    ("STARTED", lambda row: render.age(when(row.get("started_at")), now()), False),
    ("DURATION", duration, False),
    ("ATTEMPT", _attempt, False),
    ("PRIORITY", lambda row: str(row.get("priority") or ""), False),
    ("KEY", lambda row: str(row.get("key") or ""), True),
    ("LABELS", lambda row: render.pairs(row.get("labels")), True),
    ("REASON", reason, True),
]


def run(given: Namespace, client: Client, out: Output) -> int:
    """Lists."""
    asked: dict[str, Any] = {}
    if given.runs:
        asked["runs"] = given.runs
    if given.status is not None:
        asked["status"] = values.words(given.status)
    if given.job is not None:
        asked["job"] = given.job
    if given.label:
        asked["labels"] = values.pairs(given.label, "--label")
    if given.since is not None:
        at, dated = values.when(given.since, now(), back=True)
        if dated:
            out.note(f"{given.since}: {values.clock(at)}")
        asked["since"] = at
    if given.limit is not None:
        asked["limit"] = given.limit
    if given.all:
        asked["all"] = True
    rows, more = client.runs_and_more(asked)
    if out.mode == "id":
        for row in rows:
            out.line(str(row["id"]))
    elif out.json:
        out.values(rows)
    else:
        out.table(rows, COLUMNS)
        if not rows:
            out.note("no runs" + (" that fit" if asked else ""))
        if more:
            how = "--limit N" if given.all else "--all or --limit N"
            out.note(f"{len(rows)} are shown: {how} shows more")
    return 0

"""`jobctl events`: what happens on the host, and who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.commands.ls import when
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Shows what happened, oldest first, as it is in the queue on disk: the last hour, or --since a time.
With -f it goes on as things happen, from now on unless --since says otherwise; Ctrl-C ends it.
--audit: all that somebody asked for, with uid, user and pid; everything there is unless --since.

  jobctl events -f
  jobctl events --audit --since 1d
  jobctl events -f -o jsonl | jq 'select(.event == "run.finished")'

JSON: an array (jsonl: one a line, which -f needs) of {"seq", "at", "event", "job", "run", ...,
"by"}. `seq` only grows, over restarts too; `by` is {"uid", "user", "pid", "principal"}, or null
where the daemon itself decided."""

#: what is shown where nobody says since when, in milliseconds
_HOUR = 3_600_000

#: what a line shows by itself
_SHOWN = frozenset({"seq", "at", "event", "job", "run", "by"})


def add_arguments(parser: ArgumentParser) -> None:
    """All of `events`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on as things happen")
    parser.add_argument("--since", metavar="T", help="what came since (10m looks back; or a date)")
    parser.add_argument("--audit", action="store_true", help="what somebody asked for, and who")


def check(given: Namespace, out: Output) -> None:
    """Refuses what has no form."""
    if given.follow and out.mode == "json":
        raise UsageError("events: what has no end is no single JSON value: use -o jsonl with -f")
    if given.since is not None:
        values.when(given.since, now(), back=True)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Shows; with -f, without an end."""
    since = None
    if given.since is not None:
        since, dated = values.when(given.since, now(), back=True)
        if dated:
            out.note(f"{given.since}: {values.clock(since)}")
    elif not given.follow and not given.audit:
        since = now() - _HOUR
    pages = client.event_pages(
        since=since, follow=given.follow, audit=given.audit, gone=lambda before: _gone(out, before)
    )
    if out.mode == "json":
        out.values([row for rows in pages for row in rows])
        return 0
    some = False
    for rows in pages:
        some = some or bool(rows)
        for row in rows:
            if out.json:
                out.value(row)
            else:
                out.line(str(row["seq"]) if out.mode == "id" else _line(row))
        out.flush()
    if not some and out.mode == "table":
        out.note("nothing happened" if given.since or given.audit else "nothing in the last hour")
    return 0


def _gone(out: Output, before: int) -> None:
    out.note(
        f"events from before {values.clock(before)} are gone, as snapshots have replaced the files "
        "that told of them; what became of the runs: `jobctl ls --until T`, `jobctl show RUN`"
    )


def _line(row: dict[str, Any]) -> str:
    at = when(row.get("at"))
    stamp = "" if at is None else values.clock(at)[:19]
    about = [f"{name} {row[name]}" for name in ("job", "run") if row.get(name) is not None]
    more = [f"{key}={_plain(row[key])}" for key in row if key not in _SHOWN and _tells(row[key])]
    by = row.get("by")
    if by is not None:
        principal = f", {by['principal']}" if by.get("principal") else ""
        more.append(f"by {by['user']} (uid {by['uid']}, pid {by['pid']}{principal})")
    return render.escape(" ".join([stamp, f"{row['event']:18}", *about, *more]))


def _tells(value: Any) -> bool:
    return value not in (None, "", [], {}, False)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"' if " " in value else value
    if isinstance(value, dict):
        return render.pairs(value)
    return str(value)

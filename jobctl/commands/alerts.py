"""`jobctl alerts`: what is wrong, who was told, and who is not to be told for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.arguments import typed
from jobctl.commands.ls import when
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Shows alerts: those that are open, or not delivered yet; and snoozes, sends, tests them.

  jobctl alerts
  jobctl alerts ls --all --job report
  jobctl alerts show 12
  jobctl alerts snooze 12 --for 2h
  jobctl alerts snooze --job report --what slow --until 'tomorrow 08:00'
  jobctl alerts unsnooze --job report
  jobctl alerts resend 12
  jobctl alerts test --job report
  jobctl alerts test --to ops

What is alerted on stands in the job's file ([[alert]]) and in jobd.toml ([alerts]). One trouble is
one alert, however often it is seen; it is over, and told so, when the job succeeds again. snooze by
a number means all of that kind of that job; without job or number the host's own; what is still
wrong afterwards is sent then. resend sends what was given up, else the last message. test sends a
message to all destinations of a job, or to one of jobd.toml, and waits for what becomes of it: exit
status 1 where one was not delivered.

JSON: ls an array of alerts; show one; test one, with its deliveries."""

USAGE = "[ls|show|snooze|unsnooze|resend|test] [ALERT] [OPTIONS]"

ACTIONS = ("ls", "show", "snooze", "unsnooze", "resend", "test")
#: what a snooze lasts, where nobody says otherwise, in milliseconds
_SNOOZE = 3_600_000


def add_arguments(parser: ArgumentParser) -> None:
    """All of `alerts`."""
    parser.add_argument("action", metavar="ACTION", choices=ACTIONS, nargs="?", default="ls")
    parser.add_argument("alert", metavar="ALERT", nargs="?", type=typed(values.positive))
    parser.add_argument("--job", metavar="JOB", help="those of the job")
    parser.add_argument("--all", action="store_true", help="ls: those that are over as well")
    parser.add_argument("--what", metavar="KIND", help="snooze: one kind (dead, late, slow, ...)")
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--for", dest="for_", metavar="D", help="snooze: so long; 1h")
    times.add_argument("--until", metavar="T", help="snooze: until then")
    parser.add_argument("--to", metavar="NAME", help="test: a destination of jobd.toml")
    parser.add_argument(
        "--wait", metavar="D", default="30s", help="test: so long for the outcome; 30s"
    )


def check(given: Namespace, out: Output) -> None:
    """What each action takes."""
    action = given.action
    if action in ("show", "resend") and given.alert is None:
        raise UsageError(f"alerts {action}: expected an ALERT; `jobctl alerts` lists them")
    if action in ("ls", "test") and given.alert is not None:
        raise UsageError(f"alerts {action}: takes no ALERT; see `jobctl alerts show`")
    if given.alert is not None and (given.job or given.what):
        raise UsageError(f"alerts {action}: an ALERT names job and kind by itself")
    if given.to and (given.job or action != "test"):
        raise UsageError("alerts: --to goes with test, and without --job")
    if given.what and action not in ("snooze", "unsnooze"):
        raise UsageError("alerts: --what goes with snooze and unsnooze")
    if (given.for_ or given.until) and action != "snooze":
        raise UsageError("alerts: --for and --until go with snooze")
    values.duration(given.wait)
    _until(given)


def _until(given: Namespace) -> int:
    if given.until is not None:
        return values.when(given.until, now())[0]
    return now() + (values.duration(given.for_) if given.for_ is not None else _SNOOZE)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Does it."""
    status: int = globals()[f"_{given.action}"](given, client, out)
    return status


def _ls(given: Namespace, client: Client, out: Output) -> int:
    rows, more = client.alerts_and_more(given.job, everything=given.all)
    if out.mode == "id":
        for row in rows:
            out.line(str(row["alert"]))
    elif out.json:
        out.values(rows)
    else:
        out.table(rows, COLUMNS)
        if not rows:
            out.note("no alerts" if given.all else "no alert is open, and none is undelivered")
    for snooze in more["snoozes"]:
        what = f" on {snooze['what']}" if snooze["what"] else ""
        about = f"job {snooze['job']}" if snooze["job"] else "the host"
        out.note(f"snoozed: {about}{what}, until {_clock(snooze['until'])}")
    if more["problem"]:
        out.note(f"warning: alerts are not delivered: {more['problem']}")
    return 0


def _clock(text: Any) -> str:
    at = when(text)
    return "" if at is None else values.clock(at)


def _told(row: render.Row) -> str:
    counts: dict[str, int] = {}
    for one in row.get("deliveries") or ():
        counts[one["state"]] = counts.get(one["state"], 0) + 1
    said = ", ".join(f"{count} {word}" for word, count in counts.items())
    return "snoozed" if (row.get("snoozed") or {}).get("until") and "waiting" in counts else said


COLUMNS: list[render.Column] = [
    ("ALERT", lambda row: str(row["alert"]), False),
    ("STATE", lambda row: str(row["state"]), False),
    ("WHAT", lambda row: str(row["what"]), False),
    ("JOB", lambda row: str(row.get("job") or "(host)"), True),
    ("AGE", lambda row: render.age(when(row.get("raised_at")), now()), False),
    ("SEEN", lambda row: str(row.get("count") or ""), False),
    ("TOLD", _told, True),
    ("TEXT", lambda row: str(row.get("text") or ""), True),
]

DELIVERY_COLUMNS: list[render.Column] = [
    ("TELLS", lambda row: str(row["tells"]), False),
    ("TO", lambda row: str(row["to"]), True),
    ("STATE", lambda row: str(row["state"]), False),
    ("TRIES", lambda row: str(row["tries"] or ""), False),
    ("NEXT", lambda row: _clock(row.get("due_at")), False),
    ("DONE", lambda row: _clock(row.get("done_at")), False),
    ("RUN", lambda row: str(row.get("run") or ""), False),
    ("ERROR", lambda row: str(row.get("error") or ""), True),
]


def _show(given: Namespace, client: Client, out: Output) -> int:
    _show_one(client.alerts(alert=given.alert)[0], out)
    return 0


def _show_one(row: dict[str, Any], out: Output) -> None:
    if out.json:
        out.value(row)
        return
    if out.mode == "id":
        out.line(str(row["alert"]))
        return
    out.line(f"alert {row['alert']}: {render.escape(str(row['text']))}")
    seen = f", seen {row['count']} times, last {_clock(row['last_at'])}" if row["count"] > 1 else ""
    out.line(f"{row['state']}, {row['what']}, since {_clock(row['raised_at'])}{seen}")
    if row["resolved_at"] and row["resolved_text"]:
        text = render.escape(str(row["resolved_text"]))
        out.line(f"over since {_clock(row['resolved_at'])}: {text}")
    if row["snoozed"]["until"]:
        out.line(f"snoozed until {_clock(row['snoozed']['until'])}")
    out.table(row["deliveries"], DELIVERY_COLUMNS)


def _snooze(given: Namespace, client: Client, out: Output) -> int:
    from datetime import UTC, datetime

    until = datetime.fromtimestamp(_until(given) / 1000, UTC)
    answer = client.snooze_alerts(given.job, alert=given.alert, what=given.what, until=until)
    return _tell(answer, f"nothing is sent until {_clock(answer['until'])}", out)


def _unsnooze(given: Namespace, client: Client, out: Output) -> int:
    answer = client.snooze_alerts(given.job, alert=given.alert, what=given.what)
    same = "" if answer["changed"] else " (as it was)"
    return _tell(answer, f"sent again{same}", out)


def _tell(answer: dict[str, Any], how: str, out: Output) -> int:
    if out.json:
        out.value(answer)
        return 0
    about = f"job {answer['job']}" if answer["job"] else "the host"
    what = f" on {answer['what']}" if answer["what"] else ""
    out.line(f"alerts of {about}{what}: {how}")
    return 0


def _resend(given: Namespace, client: Client, out: Output) -> int:
    answer = client.resend_alert(given.alert)
    if out.json:
        out.value(answer)
    else:
        out.line(f"alert {answer['alert']}: {answer['deliveries']} to be sent again")
    return 0


def _test(given: Namespace, client: Client, out: Output) -> int:
    number = client.send_test_alert(given.job, destination=given.to)
    end = time.monotonic() + values.duration(given.wait) / 1000
    while True:
        row = client.alerts(alert=number)[0]
        waits = [d for d in row["deliveries"] if d["state"] == "waiting" and not d["tries"]]
        if not waits or time.monotonic() >= end:
            break
        time.sleep(0.2)
    _show_one(row, out)
    if waits:
        problem = client.alerts_and_more(alert=number)[1]["problem"]
        out.note(f"{len(waits)} not sent yet; {problem or 'see `jobctl alerts show`'}")
    return 0 if all(d["state"] == "delivered" for d in row["deliveries"]) else 1

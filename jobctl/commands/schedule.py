"""`jobctl schedule`: when a job's runs are queued by the clock."""

from __future__ import annotations

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
Queues runs of a job by the clock.

  jobctl schedule add report --cron '0 8 * * mon-fri' --tz Europe/Berlin -p '{"day": "${DATE}"}'
  jobctl schedule add poll --every 5m
  jobctl schedule ls
  jobctl schedule next report/cron
  jobctl schedule next '0 8 * * *' --tz Europe/Berlin
  jobctl schedule fire report/cron
  jobctl schedule pause report/cron
  jobctl schedule import /etc/crontab --out jobs

--cron takes five fields (minute hour day month weekday) or six, with seconds in front; names,
lists, ranges, steps, L, #, W, H (a time that is the schedule's own), @daily and its like, @reboot
(of the host), @start (of jobd). A time of the day that a clock change skips or repeats fires once.
What was missed while jobd was down is caught up by --catchup: the last one (last), all up to 100,
or none. In the payload ${SCHEDULED_AT}, ${DATE} and ${TIME} stand for the nominal time.

JSON: ls an array of schedules; next an array of {"at", "local", "note"}; fire {"id"}."""

USAGE = "add|ls|rm|fire|pause|resume|next|import [JOB | JOB/NAME | EXPR | FILE] [OPTIONS]"

ACTIONS = ("add", "ls", "rm", "fire", "pause", "resume", "next", "import")
#: the options of `add`, by the key that each sets
_SETS = {
    "cron": "cron",
    "every": "every",
    "tz": "timezone",
    "name": "name",
    "payload": "payload",
    "overlap": "overlap",
    "catchup": "catchup",
    "catchup_window": "catchup_window",
    "jitter": "jitter",
    "times": "times",
    "anchor": "anchor",
}


def add_arguments(parser: ArgumentParser) -> None:
    """All of `schedule`."""
    parser.add_argument("action", metavar="ACTION", choices=ACTIONS)
    parser.add_argument("what", metavar="JOB", nargs="?")
    times = parser.add_argument_group("add").add_mutually_exclusive_group()
    times.add_argument("--cron", metavar="EXPR", help="a cron expression")
    times.add_argument("--every", metavar="D", help="an interval")
    times.add_argument("--at", metavar="T", help="once")
    group = parser.add_argument_group("add, further")
    group.add_argument("--tz", metavar="ZONE", help="the zone (of next EXPR, too); the host's")
    group.add_argument("--name", metavar="N", help="its name; cron, every or at")
    group.add_argument("-p", "--payload", metavar="TEXT", help="what each run gets")
    group.add_argument(
        "--overlap",
        choices=("skip", "queue", "replace", "allow"),
        help="while a run of the job is under way; as the job says",
    )
    group.add_argument(
        "--catchup", choices=("none", "last", "all"), help="what was missed: last, all, none"
    )
    group.add_argument("--catchup-window", metavar="D", help="no older ones are caught up")
    group.add_argument("--jitter", metavar="D", help="put off by up to D, always by the same")
    group.add_argument("--anchor", metavar="T", help="what --every counts from")
    group.add_argument("--start", metavar="T", help="not before")
    group.add_argument("--end", metavar="T", help="not after")
    group.add_argument("--times", metavar="N", type=typed(values.positive), help="so often")
    more = parser.add_argument_group("next, import")
    more.add_argument("--from", dest="from_", metavar="T", help="after T; now")
    more.add_argument(
        "-n", dest="count", metavar="N", type=typed(values.positive), default=5, help="how many; 5"
    )
    more.add_argument("--image", metavar="IMAGE", help="run the lines in it; else on the host")
    more.add_argument("--out", metavar="DIR", help="write job files there")


def check(given: Namespace, out: Output) -> None:
    """What each action takes."""
    action, what = given.action, given.what
    if what is None and action not in ("ls",):
        raise UsageError(f"schedule {action}: expected {_expected(action)}")
    if action == "add":
        if given.cron is None and given.every is None and given.at is None:
            raise UsageError("schedule add: expected --cron, --every or --at")
        for text in (given.at, given.start, given.end, given.anchor):
            if text is not None:
                values.when(text, now())
    if action in ("rm", "fire", "pause", "resume"):
        _split(what, action)
    if given.from_ is not None:
        values.when(given.from_, now())


def _expected(action: str) -> str:
    return {"add": "a JOB", "next": "JOB/NAME or an expression", "import": "a crontab"}.get(
        action, "JOB/NAME"
    )


def _split(text: str, action: str) -> tuple[str, str]:
    job, slash, name = text.partition("/")
    if not slash or not name or not values.is_job_name(job):
        raise UsageError(
            f"schedule {action}: {text!r:.80}: expected JOB/NAME; `jobctl schedule ls` lists them"
        )
    return job, name


def run(given: Namespace, client: Client, out: Output) -> int:
    """Does it."""
    action = {"import": "import_", "next": "next_"}.get(given.action, given.action)
    status: int = globals()[f"_{action}"](given, client, out)
    return status


def _add(given: Namespace, client: Client, out: Output) -> int:
    spec: dict[str, Any] = {
        key: getattr(given, option)
        for option, key in _SETS.items()
        if getattr(given, option) is not None
    }
    for key in ("at", "start", "end", "anchor"):
        text = getattr(given, key)
        if text is not None:
            moment, dated = values.when(text, now())
            spec[key] = render.iso(moment)
            if dated:
                out.note(f"--{key} {text}: {values.clock(moment)}")
    answer = client.add_schedule(given.what, spec)
    row = answer["schedule"]
    if out.json:
        out.value(answer)
    elif out.mode == "id":
        out.line(f"{row['job']}/{row['name']}")
    else:
        how = "" if answer["changed"] else " (as it was)"
        following = f": next {_clock(row['next_at'])}" if row["next_at"] else ""
        out.line(f"{row['job']}/{row['name']}{following}{how}")
    for warning in answer["warnings"]:
        out.note(f"warning: {warning}")
    return 0


def _clock(text: Any) -> str:
    at = when(text)
    return "" if at is None else f"{values.clock(at)} (in {render.span(max(0, at - now()))})"


def _ls(given: Namespace, client: Client, out: Output) -> int:
    rows, clock = client.schedules_and_clock(given.what)
    if out.mode == "id":
        for row in rows:
            out.line(f"{row['job']}/{row['name']}")
    elif out.json:
        out.values(rows)
    else:
        out.table(rows, COLUMNS)
        if not rows:
            out.note("no schedules")
    if clock:
        out.note(f"warning: {clock}")
    return 0


def _times(row: render.Row) -> str:
    for key in ("cron", "every", "at"):
        if row.get(key) is not None:
            text = str(row[key])
            return f"every {text}" if key == "every" else f"at {text}" if key == "at" else text
    return ""


def _next_at(row: render.Row) -> str:
    if row.get("paused"):
        return "paused"
    at = when(row.get("next_at"))
    return "" if at is None else values.clock(at)


def _left(row: render.Row) -> str:
    at = when(row.get("next_at"))
    return "" if at is None or row.get("paused") else render.span(max(0, at - now()))


def _outcome(row: render.Row) -> str:
    if row.get("refused"):
        return f"refused: {row['refused']}"
    run = row.get("last_run")
    return "" if run is None else f"run {run} {row.get('last_status') or ''}".rstrip()


COLUMNS: list[render.Column] = [
    ("SCHEDULE", lambda row: f"{row['job']}/{row['name']}", True),
    ("TIMES", _times, True),
    ("ZONE", lambda row: "" if row.get("every") or row.get("at") else str(row["timezone"]), False),
    ("NEXT", _next_at, False),
    ("LEFT", _left, False),
    ("LAST", lambda row: render.age(when(row.get("last_at")), now()), False),
    ("OUTCOME", _outcome, True),
    ("MISSED", lambda row: str(row.get("missed") or ""), False),
]


def _rm(given: Namespace, client: Client, out: Output) -> int:
    return _tell(client.remove_schedule(*_split(given.what, "rm")), "removed", out)


def _pause(given: Namespace, client: Client, out: Output) -> int:
    return _tell(client.pause_schedule(*_split(given.what, "pause")), "paused", out)


def _resume(given: Namespace, client: Client, out: Output) -> int:
    return _tell(client.resume_schedule(*_split(given.what, "resume")), "fires again", out)


def _tell(answer: dict[str, Any], how: str, out: Output) -> int:
    if out.json:
        out.value(answer)
    else:
        name = f"{answer['job']}/{answer['name']}"
        same = "" if answer.get("changed", True) else " (as it was)"
        out.line(name if out.mode == "id" else f"{name}: {how}{same}")
    return 0


def _fire(given: Namespace, client: Client, out: Output) -> int:
    run = client.fire_schedule(*_split(given.what, "fire"))
    if out.json:
        out.value({"id": run})
    else:
        out.line(str(run))
    return 0


def _next_(given: Namespace, client: Client, out: Output) -> int:
    asked: dict[str, Any] = {"count": given.count}
    if given.from_ is not None:
        from datetime import UTC, datetime

        moment, _ = values.when(given.from_, now())
        asked["after"] = datetime.fromtimestamp(moment / 1000, UTC)
    job, slash, name = given.what.partition("/")
    if slash and values.is_job_name(job):
        if given.tz is not None:
            raise UsageError("schedule next: --tz: a schedule has a zone of its own")
        rows = client.next_firings(job, name, **asked)
    else:
        rows = client.next_firings(cron=given.what, timezone=given.tz, **asked)
    if out.json:
        out.values(rows)
        return 0
    for row in rows:
        note = f"  {row['note']}" if row["note"] else ""
        out.line(f"{row['local']}  {row['at']}{note}" if out.mode != "id" else str(row["at"]))
    if not rows:
        out.note("it does not fire any more")
    return 0


def _import_(given: Namespace, client: Client, out: Output) -> int:
    from jobctl import crontab

    with open(given.what, encoding="utf-8", errors="surrogateescape") as file:
        found = crontab.read(file.read(), given.image)
    for line, text in found.problems:
        out.note(f"{given.what}:{line}: {text}")
    if given.out is not None:
        import os

        os.makedirs(given.out, exist_ok=True)
        for name, text in found.files.items():
            path = os.path.join(given.out, f"{name}.toml")
            with open(path, "x", encoding="utf-8", errors="surrogateescape") as made:
                made.write(text)
            out.line(path)
        out.note(f"look at them, then: jobctl apply -f {given.out}")
    elif out.json:
        out.value({"files": found.files, "problems": [list(each) for each in found.problems]})
    else:
        out.line("\n".join(f"# {name}.toml\n{text}" for name, text in found.files.items()))
    return 1 if found.problems else 0

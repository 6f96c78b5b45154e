"""`jobctl forecast`: what the next hours will bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.arguments import typed
from jobctl.commands.ls import when
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Plays the schedules and what waits through against the capacity of the host, with the times that the
last attempts of each job took: which runs of schedules will not start when they should and why, how
much will wait when, and what clock changes do to schedules. Only what is known now is in it: nobody
knows who will queue what. It is one way in which things may go.

  jobctl forecast
  jobctl forecast --hours 168

JSON: {"at", "ends_at", "complete", "runs": {"queued", "started", "waiting", "left_out"}, "backlog":
{"most", "peak_at", "end"}, "hours": [{"at", "started", "waiting", "active", "cpus", "memory"}],
"collisions": [{"job", "name", "fires", "late", "skipped", "refused", "longest_ms", "at", "reason",
"beside"}], "clock": [{"job", "name", "text"}], "unknown", "capacity", "draining", "paused"}."""

Row = dict[str, Any]

_COLLISIONS: tuple[render.Column, ...] = (
    ("SCHEDULE", lambda row: f"{row['job']}/{row['name']}", True),
    ("FIRES", lambda row: str(row["fires"]), False),
    ("LATE", lambda row: str(row["late"] or ""), False),
    ("SKIPPED", lambda row: str(row["skipped"] or ""), False),
    ("REFUSED", lambda row: str(row["refused"] or ""), False),
    ("LONGEST", lambda row: render.span(row["longest_ms"]) if row["late"] else "", False),
    ("OF", lambda row: _clock(row["at"])[5:16], False),
    ("WHY", lambda row: _why(row), True),
)


def add_arguments(parser: ArgumentParser) -> None:
    """How far."""
    parser.add_argument(
        "--hours", metavar="N", type=typed(values.whole), default=24, help="ahead (24)"
    )


def run(given: Namespace, client: Client, out: Output) -> int:
    """Tells."""
    found = client.forecast(hours=given.hours)
    if out.mode == "id":
        for row in found["collisions"]:
            out.line(f"{row['job']}/{row['name']}")
    elif out.json:
        out.value(found)
    else:
        _tell(found, out)
    return 0


def _tell(found: Row, out: Output) -> None:
    runs = found["runs"]
    out.line(
        f"from {_clock(found['at'])} to {_clock(found['ends_at'])}: {runs['started']} attempts "
        f"start, {runs['queued']} runs come from schedules, {runs['waiting']} wait at the end"
    )
    for text in _loud(found):
        out.line(out.paint("red", render.escape(text)))
    for change in found["clock"]:
        who = f"{change['job']}/{change['name']}: " if change["job"] else ""
        out.line(render.escape(f"{who}{change['text']}"))
    if found["collisions"]:
        out.line("")
        out.table(found["collisions"], _COLLISIONS)
    else:
        out.line("every run of a schedule starts when it should")
    out.line("")
    out.table(_busy(found["hours"]), _hours(found["capacity"]))
    if found["unknown"]:
        names = ", ".join(found["unknown"][:10])
        out.note(f"no run of these has ended yet, each is taken to need a minute: {names}")


def _loud(found: Row) -> list[str]:
    """What makes all else worth little."""
    made = []
    if found["draining"]:
        made.append("DRAINED: nothing starts until `jobctl undrain`")
    if found["paused"]:
        made.append(f"PAUSED: {' '.join(found['paused'])}")
    if not found["complete"]:
        made.append("so much starts that it was not gone through to the end")
    if found["runs"]["left_out"]:
        made.append(f"{found['runs']['left_out']} waiting runs more are not in it")
    return made


def _why(row: Row) -> str:
    text = row["reason"]["text"] if row["reason"] else ""
    return f"{text} (beside {', '.join(row['beside'])})" if row["beside"] else text


def _busy(hours: list[Row]) -> list[Row]:
    """The hours in which anything happens; of a stretch of quiet ones none."""
    keys = ("started", "waiting", "active")
    return [hour for hour in hours if any(hour[key] for key in keys)]


def _hours(capacity: Row) -> tuple[render.Column, ...]:
    cpus, memory = capacity["cpus"] or 1, capacity["memory"] or 1
    return (
        ("HOUR FROM", lambda row: _clock(row["at"])[5:16], False),
        ("STARTS", lambda row: str(row["started"]), False),
        ("WAITING", lambda row: str(row["waiting"]), False),
        ("ACTIVE", lambda row: str(row["active"]), False),
        ("CPUS", lambda row: f"{row['cpus'] / cpus:.0%}", False),
        ("MEMORY", lambda row: f"{row['memory'] / memory:.0%}", False),
    )


def _clock(at: Any) -> str:
    moment = when(at)
    return "" if moment is None else values.clock(moment)

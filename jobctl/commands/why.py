"""`jobctl why`: what a run waits for, with numbers, and when it will start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.arguments import typed
from jobctl.commands.ls import when
from jobctl.output import Output, now

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Tells why a run is where it is: each thing that it has to get past before it starts, with numbers,
its place in the queue, and when it will probably start: jobd tries out what may happen, with the
times that the last attempts of each job took. Where that says little, the bounds alone are told.

  jobctl why 42

JSON: {"id", "job", "status", "reason", "constraints": [{"name", "ok", "text", ...}],
"place": {"in_job", "of_job", "ahead", "more"}, "estimated_start", "estimated_earliest",
"estimated_latest", "estimate"}, or an array of them. Four of five futures lie between the two.
"more" says that 10,000 or more are before it, which are not counted further."""


def add_arguments(parser: ArgumentParser) -> None:
    """Runs."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=typed(values.selector))


def run(given: Namespace, client: Client, out: Output) -> int:
    """Tells."""
    answer = client.why(*given.runs)
    rows = answer if isinstance(answer, list) else [answer]
    if out.mode == "id":
        for row in rows:
            out.line(str(row["id"]))
    elif out.json:
        out.value(answer) if isinstance(answer, dict) else out.values(rows)
    else:
        for index, row in enumerate(rows):
            if index:
                out.line("")
            _tell(row, out)
    return 0


def _tell(row: dict[str, Any], out: Output) -> None:
    head = f"run {row['id']} of {render.escape(str(row['job']))}: "
    out.line(head + out.status(str(row["status"])))
    reason = row.get("reason")
    if reason:
        out.line(f"  {render.escape(str(reason['text']))}")
    for constraint in row["constraints"]:
        mark = out.paint("green", "ok ") if constraint["ok"] else out.paint("red", "-- ")
        out.line(f"  {mark} {constraint['name']:11}  {render.escape(str(constraint['text']))}")
    place = row.get("place")
    if place:
        many = place["ahead"] if place.get("more") else None
        own = place["in_job"] if many is None or place["in_job"] <= many else f"behind {many}"
        text = f"  place: {own} of {place['of_job']} in its job"
        more = "" if many is None else " or more"
        out.line(f"{text}, {place['ahead']}{more} before it on the host")
    if row["constraints"] or row.get("estimate"):
        out.line("  " + render.escape(_estimate(row)))


def _estimate(row: dict[str, Any]) -> str:
    at, text = when(row.get("estimated_start")), row.get("estimate")
    if at is not None:
        ahead = render.age(at, now()) if at > now() + 500 else "now"
        return f"starts about {values.clock(at)} ({ahead}): {text}"
    if row["constraints"]:
        told = "only roughly" if row.get("estimated_latest") else "cannot be told"
        return f"start: {told}: {text}"
    return str(text)

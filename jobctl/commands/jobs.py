"""`jobctl jobs`: lists jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import render
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Lists the registered jobs, with how many runs each has in which status.

  jobctl jobs
  jobctl jobs -o id

JSON: an array of jobs, each as in its file with defaults filled in, and {"revision", "image_id",
"counts", "paused", "origin"}."""


def _command(row: render.Row) -> str:
    return " ".join(str(word) for word in row.get("command") or ())


COLUMNS: list[render.Column] = [
    ("JOB", lambda row: str(row.get("name")), False),
    ("REVISION", lambda row: str(row.get("revision")), False),
    ("STATE", lambda row: "paused" if row.get("paused") else "", False),
    ("RUNS", lambda row: counts(row.get("counts")), True),
    ("IMAGE", lambda row: str(row.get("image") or "(process)"), True),
    ("COMMAND", _command, True),
]


def counts(numbers: render.Row | None) -> str:
    """`3 queued, 1 running` of a map of numbers by status."""
    return ", ".join(f"{number} {word}" for word, number in (numbers or {}).items() if number)


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Lists."""
    rows = client.jobs()
    if out.mode == "id":
        for row in rows:
            out.line(str(row["name"]))
    elif out.json:
        out.values(rows)
    else:
        out.table(rows, COLUMNS)
        if not rows:
            out.note("no jobs that you may see; see jobctl register --help")
    return 0

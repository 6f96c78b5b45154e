"""`jobctl suggest`: what a job should be given, by what it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Proposes memory, processors and a timeout for a job from what its last attempts really used (200 at
most, of runs that are still in memory: `[history] window`): what 95 % stayed below, with headroom;
more than there is where attempts were cut short by a limit. It changes nothing: the lines are for
the job's file, the command does the same.

  jobctl suggest report

JSON: {"job", "attempts", "few", "origin", "proposals": [{"key", "now", "proposed", "text",
"changes"}], "lines"}. "few": that is little to go by."""

_COLUMNS: tuple[render.Column, ...] = (
    ("KEY", lambda row: row["key"], False),
    ("NOW", lambda row: _plain(row["now"]), False),
    ("PROPOSED", lambda row: _plain(row["proposed"]) if row["changes"] else "as it is", False),
    ("WHY", lambda row: row["text"], True),
)


def add_arguments(parser: ArgumentParser) -> None:
    """The job."""
    parser.add_argument("job", metavar="JOB")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Proposes."""
    found = client.suggest(given.job)
    if out.mode == "id":
        out.line(found["job"])
    elif out.json:
        out.value(found)
    else:
        _tell(found, out)
    return 0


def _tell(found: dict[str, Any], out: Output) -> None:
    name, rows = found["job"], found["proposals"]
    if not rows:
        out.line(f"no attempt of {name} has ended, so nothing is known of what it uses")
        return
    out.table(rows, _COLUMNS)
    if found["few"]:
        out.note(f"from {found['attempts']} attempts only: ask again when there were more")
    changed = [row for row in rows if row["changes"]]
    if not changed:
        out.line("nothing to change")
        return
    out.line("")
    for line in found["lines"]:
        out.line(line)
    if not str(found["origin"]).startswith("jobs.d/"):
        settings = " ".join(f"{row['key']}={_plain(row['proposed'])}" for row in changed)
        out.line("")
        out.line(f"jobctl set {name} {settings}")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

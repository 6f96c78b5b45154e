"""`jobctl apply`: registers jobs from job files, and says what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl.output import Output
from jobd.errors import JobdError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Registers the jobs in FILE, or in the files *.toml of a folder, all of them or none, and prints
what changes: for each job the keys whose values differ, old -> new. Mistakes are told all at once,
each with its file, line and key, and then nothing is changed.

  jobctl apply -f sendemail.toml
  jobctl apply -f jobs/ --dry-run
  jobctl apply -f jobs/ --prune

A job's name is the file's without .toml, unless the file says `name`. With --prune jobs that an
earlier apply registered and that are in none of the files are removed (73 while one has live runs);
jobs by `register` and by the daemon's own jobs.d/ are left alone.

JSON: an array of {"job", "action", "revision", "changes": [{"key", "before", "after"}], "file"};
"action" is created, changed, unchanged, moved (the same, registered otherwise before) or pruned."""

_COLOURS = {"created": "green", "changed": "yellow", "pruned": "red", "unchanged": "dim"}


def add_arguments(parser: ArgumentParser) -> None:
    """All of `apply`."""
    parser.add_argument(
        "-f",
        "--file",
        metavar="FILE|DIR",
        action="append",
        required=True,
        help="a job file, a folder of them, or -: stdin; may be repeated",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove jobs of an earlier apply that are gone"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would change")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Applies, and tells."""
    from jobctl import jobfiles

    jobs = jobfiles.load(given.file)
    specs = [job.spec for job in jobs]
    try:
        answer = client.apply(specs, prune=given.prune, dry_run=given.dry_run)
    except JobdError as error:
        raise jobfiles.placed(error, jobs) from None
    rows: list[dict[str, Any]] = answer["jobs"]
    files = {job.name: job.file for job in jobs}
    for warning in answer.get("warnings") or ():
        out.note(str(warning))
    if out.mode == "id":
        for row in rows:
            if row["action"] in ("created", "changed", "moved"):
                out.line(str(row["job"]))
    elif out.json:
        out.values([{**row, "file": files.get(row["job"])} for row in rows])
    else:
        for row in rows:
            _tell(row, out)
        out.line(_sum(rows))
        if given.dry_run:
            out.note("nothing was changed")
    return 0


def _tell(row: dict[str, Any], out: Output) -> None:
    from jobctl.render import escape

    action = str(row["action"])
    painted = out.paint(_COLOURS[action], action) if action in _COLOURS else action
    revision = f" (revision {row['revision']})" if action in ("created", "changed") else ""
    out.line(f"{escape(str(row['job']))}: {painted}{revision}")
    for change in row["changes"]:
        old, new = _text(change["before"]), _text(change["after"])
        out.line(f"  {escape(str(change['key']))}: {old} -> {new}")


def _text(value: Any) -> str:
    from jobctl.render import escape

    if value is None:
        return "(not set)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return escape(value) if isinstance(value, str) and value else repr(value)


def _sum(rows: list[dict[str, Any]]) -> str:
    """`1 created, 3 unchanged`."""
    words = ("created", "changed", "moved", "unchanged", "pruned")
    counts = [(sum(row["action"] == word for row in rows), word) for word in words]
    return ", ".join(f"{number} {word}" for number, word in counts if number) or "no jobs"

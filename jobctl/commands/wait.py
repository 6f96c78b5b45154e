"""`jobctl wait`: waits for runs, and exits as they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import shape, values
from jobctl.arguments import typed
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Waits until every RUN has ended, and exits as one run did: 0, its own exit status, or 1 where it
ended otherwise; of several, 1 where one did not succeed. 124: the time is over.

  jobctl wait 42 --timeout 10m
  jobctl wait 40-45 --for running"""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `wait`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=typed(values.selector))
    parser.add_argument(
        "--for",
        dest="until",
        choices=("done", "running", "succeeded"),
        default="done",
        help="done (the default), running (or past it), succeeded (or cannot any more)",
    )
    parser.add_argument("--timeout", metavar="D", type=typed(values.duration), help="124 after it")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Waits, and shows how the runs are."""
    timeout = None if given.timeout is None else given.timeout / 1000
    try:
        answer = client.wait(*given.runs, until=given.until, timeout=timeout)
    except KeyboardInterrupt:
        names = " ".join(given.runs)
        out.note(f"run {names}: what goes on goes on; `jobctl wait {names}` waits again")
        raise
    single = isinstance(answer, dict)
    rows: list[dict[str, Any]] = [answer] if single else answer
    if out.mode == "id":
        for row in rows:
            out.line(str(row["id"]))
    elif out.json:
        out.value(answer) if single else out.values(rows)
    else:
        from jobctl.commands.ls import COLUMNS

        out.table(rows, COLUMNS)
    if given.until == "running" and all(_began(row) for row in rows):
        return 0
    return shape.exit_status_of(rows, single=single)


def _began(row: dict[str, Any]) -> bool:
    return row.get("started_at") is not None or row.get("status") in ("running", "stopping")


def follow_up(queued: list[dict[str, Any]], client: Client, out: Output) -> int:
    """Waits for runs that were just queued (`queue --wait`); the ids are on stdout already."""
    ids = [one["id"] for one in queued]
    if not ids:
        return 0
    try:
        answer = client.wait(*_ranges(ids))
    except KeyboardInterrupt:
        names = ",".join(_ranges(ids))
        out.note(f"run {names} goes on; `jobctl wait {names}` waits again")
        raise
    rows = answer if isinstance(answer, list) else [answer]
    if out.json:
        ends = {row["id"]: row for row in rows}
        for one in queued:
            end = ends.get(one["id"], {})
            one["status"], one["exit_code"] = end.get("status"), end.get("exit_code")
        out.value({"runs": queued}) if out.mode == "json" else out.values(queued)
    elif out.mode == "table":
        for row in rows:
            if row.get("status") != "succeeded" or len(rows) == 1:
                out.note(f"run {row['id']} {shape.ending(row)}")
    return shape.exit_status_of(rows, single=len(ids) == 1)


def _ranges(ids: list[int]) -> list[str]:
    """Selectors for ids, neighbours as one range: ten thousand ids are no argument list."""
    made: list[list[int]] = []
    for number in sorted(set(ids)):
        if made and number == made[-1][1] + 1:
            made[-1][1] = number
        else:
            made.append([number, number])
    return [str(low) if low == high else f"{low}-{high}" for low, high in made]


def check(given: Namespace, out: Output) -> None:
    """Refuses what cannot be waited for."""
    if given.timeout is not None and given.timeout < 0:
        raise UsageError("wait: --timeout: expected 0 or more")

"""`jobctl cancel`: cancels runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.commands.queue import check_job
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Cancels runs: one that waits ends at once, one that runs is told to stop, and killed after its
grace. With --job all live runs of a job, or those of some statuses.

  jobctl cancel 42
  jobctl cancel --job crawl --status queued,delayed

JSON: {"id", "status"}, or an array of them."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `cancel`."""
    parser.add_argument("runs", metavar="RUN", nargs="*", type=typed(values.selector))
    parser.add_argument("--job", metavar="J", help="all live runs of a job")
    parser.add_argument("--status", metavar="S,...", help="of --job, those alone")


def check(given: Namespace, out: Output) -> None:
    """Runs, or a job; never all there is by leaving something out."""
    if bool(given.runs) == (given.job is not None):
        raise UsageError("cancel: expected either RUN... or --job J; see jobctl cancel --help")
    if given.job is not None:
        check_job(given.job)
    if given.status is not None and (given.job is None or not values.words(given.status)):
        raise UsageError("cancel: --status: expected status words, together with --job")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Cancels."""
    answer = client.cancel(*given.runs, job=given.job, status=values.words(given.status))
    tell(answer, out)
    if answer == []:
        out.note("no live runs")
    return 0


def tell(answer: Any, out: Output) -> None:
    """Says how the runs that were changed are now: of one an object, of several an array."""
    rows = answer if isinstance(answer, list) else [answer]
    if out.mode == "id":
        for row in rows:
            out.line(str(row["id"]))
    elif out.json:
        out.value(answer) if isinstance(answer, dict) else out.values(rows)
    else:
        for row in rows:
            out.line(f"{row['id']} {out.status(str(row['status']))}")

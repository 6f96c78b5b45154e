"""`jobctl edit`: changes settings of runs that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.commands.cancel import tell
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Changes settings of runs that wait or are held; labels of active ones too. Of several those where it
is possible; 73 where it is not.

  jobctl edit 42 --priority 10
  jobctl edit 42 --at now
  jobctl edit 40-45 --at 'tomorrow 08:00' --label batch=night

--at of a run between two attempts is when its next one is due. --timeout is of attempts to come.
JSON: {"id", "status"}, or an array of them."""

INTERMIXED = True


def add_arguments(parser: ArgumentParser) -> None:
    """All of `edit`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=typed(values.selector))
    parser.add_argument("--priority", metavar="N", type=typed(values.whole), help="higher first")
    parser.add_argument("--at", metavar="T", help="not before a time (now, 10m, tomorrow 08:00)")
    parser.add_argument(
        "--timeout", metavar="D", type=typed(values.duration), help="of one attempt"
    )
    parser.add_argument("--label", metavar="K=V", action="append", help="a label; may be repeated")


def check(given: Namespace, out: Output) -> None:
    """Something to change, in its form."""
    values.pairs(given.label, "--label")
    if given.at is not None:
        values.when(given.at, now())
    if all(v is None for v in (given.priority, given.at, given.timeout, given.label)):
        raise UsageError("edit: expected --priority, --at, --timeout or --label")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Changes them."""
    made: dict[str, Any] = {
        "priority": given.priority,
        "timeout": None if given.timeout is None else given.timeout / 1000,
        "labels": values.pairs(given.label, "--label"),
    }
    if given.at is not None:
        clock = now()
        at, dated = values.when(given.at, clock)
        if dated and at > clock:
            from datetime import datetime, timedelta

            from jobctl.render import age

            made["at"] = datetime.fromtimestamp(0).astimezone() + timedelta(milliseconds=at)
            out.note(f"{given.at}: {values.clock(at)} ({age(at, clock)})")
        else:
            # counted by the daemon, from when it takes the request
            made["delay"] = max(at - clock, 0) / 1000
            if dated and given.at.strip().lower() != "now":
                out.note(f"{given.at}: {values.clock(at)} (that is past: due at once)")
    tell(client.edit(*given.runs, **made), out)
    return 0

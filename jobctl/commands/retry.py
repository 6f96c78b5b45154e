"""`jobctl retry`: queues ended runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import values
from jobctl.arguments import typed
from jobctl.commands.queue import open_file
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Queues ended runs again and prints the ids of the new ones: by the newest revision of their jobs,
with the same payload (or that of -f), environment, labels and arguments, and `retry_of` set. Of
several those that have ended; 73 where none has.

  jobctl retry 42
  jobctl retry 42 -f corrected.json
  jobctl ls --status dead -o id | xargs jobctl retry

JSON: {"id", "retry_of"}, or an array of them."""

INTERMIXED = True


def add_arguments(parser: ArgumentParser) -> None:
    """All of `retry`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=typed(values.selector))
    parser.add_argument("-f", "--file", metavar="PAYLOAD", help="another payload's file; -: stdin")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Queues them."""
    payload = open_file(given.file, "-f", out) if given.file else None
    answer = client.retry(*given.runs, payload=payload)
    rows = answer if isinstance(answer, list) else [answer]
    if out.json:
        out.value(answer) if isinstance(answer, dict) else out.values(rows)
    else:
        for row in rows:
            out.line(str(row["id"]))
    return 0

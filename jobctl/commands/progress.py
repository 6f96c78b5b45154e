"""`jobctl progress`: says how far the run is that it is called from inside of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Says how far a run is, from inside of its attempt, where its job has `api = true` and JOBD_SOCKET
names the socket. `jobctl show`, `ls` and `logs -f` show it. Each word takes the place of the last;
it may be said as often as one likes. A shell without jobctl writes the same line into
$TASK_DIR/progress.

  jobctl progress 40
  jobctl progress 40 page 17 of 43
  jobctl progress cleaning up

JSON: {"percent", "message"}, as it was said."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `progress`."""
    parser.add_argument("words", metavar="PERCENT|MESSAGE", nargs="+")


def _said(words: list[str]) -> tuple[int | None, str]:
    first = words[0].removesuffix("%")
    if not first.isdecimal():
        return None, " ".join(words)
    if int(first) > 100:
        raise UsageError(f"progress: {words[0]}: expected a percent, 0 to 100")
    return int(first), " ".join(words[1:])


def check(given: Namespace, out: Output) -> None:
    """A number is at most 100."""
    _said(given.words)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Says it."""
    percent, message = _said(given.words)
    client.progress(percent, message)
    if out.json:
        out.value({"percent": percent, "message": message or None})
    return 0

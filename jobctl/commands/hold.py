"""`jobctl hold`: keeps runs back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import values
from jobctl.arguments import typed
from jobctl.commands.cancel import tell
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Keeps waiting runs back until they are released. Of several those that wait; 73 where none does.

  jobctl hold 42
  jobctl hold 40-45

JSON: {"id", "status"}, or an array of them."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `hold`, `release` and `next`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=typed(values.selector))


def run(given: Namespace, client: Client, out: Output) -> int:
    """Holds."""
    tell(client.hold(*given.runs), out)
    return 0

"""`jobctl release`: lets held runs start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.commands.cancel import tell
from jobctl.commands.hold import add_arguments
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import Namespace

    from jobctl.client import Client

__all__ = ["MANUAL", "add_arguments", "run"]

MANUAL = """\
Lets held runs start. Of several those that are held; 73 where none is.

  jobctl release 42

JSON: {"id", "status"}, or an array of them."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Releases."""
    tell(client.release(*given.runs), out)
    return 0

"""`jobctl next`: puts runs before all others of their job."""

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
Puts queued runs before all others of their job and priority, the first one named first. A higher
priority still goes before them: `jobctl edit RUN --priority N` changes that.

  jobctl next 42

JSON: {"id", "status"}, or an array of them. 73 where a run is not queued."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Moves them."""
    tell(client.next(*given.runs), out)
    return 0

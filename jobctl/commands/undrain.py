"""`jobctl undrain`: lets runs start on this host again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.commands.drain import tell
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Lets runs start on this host again after `jobctl drain`. Jobs that are paused stay so.

  jobctl undrain

JSON: {"draining", "changed", "active"}."""


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Undrains."""
    tell(client.undrain(), out)
    return 0

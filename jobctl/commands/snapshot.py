"""`jobctl snapshot`: has a snapshot of the queue made now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import render
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Has a snapshot of the queue made now, and waits for it. There is no need to: jobd makes one
whenever so much was written that it is worth it, and `jobctl status` tells of the last one. It
makes the next start as fast as it can be, and files that it replaces go (two snapshots are kept).

  jobctl snapshot

JSON: {"at", "bytes", "records", "lsn", "took_s", ...}."""


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Asks, and waits."""
    made = client.snapshot()
    if out.json:
        out.value(made)
    elif out.mode != "id":  # it has none
        out.line(f"snapshot of {made['at']}: {render.size(made['bytes'])}")
    return 0

"""`jobctl resume`: lets a paused job's runs start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.commands.pause import add_arguments, check, tell
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import Namespace

    from jobctl.client import Client

__all__ = ["MANUAL", "add_arguments", "check", "run"]

MANUAL = """\
Lets runs of a paused JOB start again.

  jobctl resume crawl

JSON: {"job", "paused", "changed"}."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Resumes."""
    return tell(client.resume(given.job), out)

"""`jobctl unregister`: removes a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.commands.pause import add_arguments, check
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import Namespace

    from jobctl.client import Client

__all__ = ["MANUAL", "add_arguments", "check", "run"]

MANUAL = """\
Removes a job. Its ended runs are kept as long as others are. 73: it has live runs.

  jobctl unregister crawl

JSON: {"job"}."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Removes."""
    answer = client.unregister(given.job)
    if out.json:
        out.value(answer)
    elif out.mode == "id":
        out.line(str(answer["job"]))
    else:
        out.line(f"{answer['job']}: removed")
    return 0

"""`jobctl pause`: keeps a job's runs from starting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl.commands.queue import check_job
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Keeps runs of JOB from starting; those that run go on, and queueing goes on. It is durable.

  jobctl pause crawl

JSON: {"job", "paused", "changed"}."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `pause` and of `resume`."""
    parser.add_argument("job", metavar="JOB")


def check(given: Namespace, out: Output) -> None:
    """A job's name."""
    check_job(given.job)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Pauses."""
    return tell(client.pause(given.job), out)


def tell(answer: dict[str, Any], out: Output) -> int:
    """Says how the job is now."""
    if out.json:
        out.value(answer)
    elif out.mode == "id":
        out.line(str(answer["job"]))
    else:
        state = "paused" if answer["paused"] else "not paused"
        out.line(f"{answer['job']}: {state}" + ("" if answer["changed"] else " (as it was)"))
    return 0

"""`jobctl drain`: keeps all runs from starting on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Keeps all runs from starting on this host; those that run go on, and queueing goes on. It is
durable: a restart does not end it, `jobctl undrain` does. With --wait it returns when nothing runs
any more (124: the time given by --timeout is over; the host stays drained).

  jobctl drain --wait && reboot

JSON: {"draining", "changed", "active"}."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `drain`."""
    parser.add_argument("--wait", action="store_true", help="until no run is active")
    parser.add_argument("--timeout", metavar="D", type=typed(values.duration), help="of --wait")


def check(given: Namespace, out: Output) -> None:
    """A timeout is of a wait."""
    if given.timeout is not None and not given.wait:
        raise UsageError("drain: --timeout goes with --wait")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Drains."""
    timeout = None if given.timeout is None else given.timeout / 1000
    tell(client.drain(wait=given.wait, timeout=timeout), out)
    return 0


def tell(answer: dict[str, Any], out: Output) -> None:
    """Says how the host is now."""
    if out.json:
        out.value(answer)
        return
    if out.mode == "id":
        return  # a host has none
    text = "draining: no run starts" if answer["draining"] else "not draining"
    active = answer["active"]
    if answer["draining"]:
        text += f", {active} {'is' if active == 1 else 'are'} active" if active else ", none runs"
    out.line(text + ("" if answer["changed"] else " (as it was)"))

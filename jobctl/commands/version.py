"""`jobctl version`: versions of jobctl and of the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import __version__
from jobctl.output import Output
from jobd.errors import UnreachableError
from jobd.wire.envelope import VERSION

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Tells the versions of jobctl, of the protocol, and of the daemon where one answers.

  jobctl version

JSON: {"jobctl", "protocol", "jobd"}; `jobd` is null where no daemon answers."""


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Tells."""
    daemon: dict[str, Any] | None = None
    why = ""
    try:
        daemon = client.ping()
    except UnreachableError as error:
        why = str(error)
    if out.json:
        out.value({"jobctl": __version__, "protocol": VERSION, "jobd": daemon})
        return 0
    out.line(f"jobctl {__version__} (protocol {VERSION})")
    if daemon is None:
        out.note(why)
    else:
        out.line(f"jobd {daemon.get('version')} (pid {daemon.get('pid')})")
    return 0

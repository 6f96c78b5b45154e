"""`jobctl payload`: writes what a run was queued with to stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.commands.result import add_common, check, write
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import Namespace

    from jobctl.client import Client

__all__ = ["MANUAL", "add_arguments", "check", "run"]

add_arguments = add_common

MANUAL = """\
Writes the payload of a run to stdout, byte for byte.

  jobctl payload 42 | jobctl queue sendemail -f -

On a terminal control characters are escaped; --raw lets them through.
JSON: {"run", "size", "encoding": "utf-8" or "base64", "data"}."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Writes the payload."""
    return write("run.payload", given, client, out)

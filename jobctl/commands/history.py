"""`jobctl history`: a job's revisions, and what each changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import render
from jobctl.commands.ls import when
from jobctl.commands.pause import add_arguments, check
from jobctl.commands.set import changes
from jobctl.output import Output, now

if TYPE_CHECKING:
    from argparse import Namespace

    from jobctl.client import Client

__all__ = ["MANUAL", "add_arguments", "check", "run"]

MANUAL = """\
Shows the revisions of JOB, newest first: when and by whom each was registered, and what it changed.

  jobctl history crawl

JSON: an array of {"revision", "at", "by", "changes": [{"key", "before", "after"}]}."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Shows them."""
    rows = client.history(given.job)
    if out.mode == "id":
        for row in rows:
            out.line(str(row["revision"]))
    elif out.json:
        out.values(rows)
    else:
        clock = now()
        for row in rows:
            ago = render.age(when(row["at"]), clock)
            user = render.escape(str(row["by"]["user"]))
            out.line(f"revision {row['revision']}, {ago} ago by {user}")
            for line in changes(row["changes"]):
                out.line(f"  {line}")
    return 0

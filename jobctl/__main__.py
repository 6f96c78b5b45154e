"""`python -m jobctl` is `jobctl`."""

from __future__ import annotations

from jobctl.cli import program

program()

"""The peers: how each is started, durable, and what its clients say. A module each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Peer(NamedTuple):
    """One server that takes jobs."""

    name: str
    #: what is measured of it, in a few words
    how: str
    #: what one load (load.py) of so many clients is ordered with
    order: Callable[[int], dict[str, Any]]
    #: syncs so far; None where they cannot be counted
    syncs: Callable[[], int | None] = lambda: None
    #: its process, for its CPU; 0 where it is many
    pid: int = 0

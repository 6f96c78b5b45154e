"""Commands of what comes by the file system: as in core/commands.py, which has them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Drop(NamedTuple):
    """What a run's option `drop` says: the file that it was made of.

    `key`, `mark` and `name` in this order are the claimed file's name (intake/names.py); `held` is
    its size in bytes where it is not copied and stays claimed, else None.
    """

    key: str
    mark: str
    name: str
    held: int | None = None


@dataclass(frozen=True, slots=True)
class QueueDrop:
    """Queue the run of a dropped file, or find the one that it has made. `run`: a QueueRun."""

    run: Any
    drop: Drop


@dataclass(frozen=True, slots=True)
class SettleDrop:
    """The end of a dropped file's run was told, and nothing of the file is claimed any more."""

    run: int


@dataclass(frozen=True, slots=True)
class TakeChanges:
    """Queue a run for each of these changes of a watched path, and move its mark; all or none.

    `payloads` are bytes or Body; `mark` and `seen` are as in WatchMoved.
    """

    job: int
    name: str
    payloads: Sequence[Any]
    mark: int
    seen: list[int]

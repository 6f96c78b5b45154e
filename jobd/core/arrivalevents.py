"""Events of what came by the file system: as in core/events.py, which has the table."""

from __future__ import annotations

from typing import Any, NamedTuple


class DropSettled(NamedTuple):
    """The end of a dropped file's run was told beside it, and nothing of the file is claimed."""

    run: int
    at: int


class WatchMoved(NamedTuple):
    """A watched path's changes are dealt with: `runs` were made of them, or `refused` says why not.

    `mark`: what changed before it (nanoseconds UTC, by the file's own ctime) is never reported
    again; `seen` has a number for each file that was reported and may have changed since.
    """

    job: int
    name: str
    mark: int
    at: int
    seen: list[int]
    runs: int = 0
    refused: str = ""


EVENTS: tuple[type[Any], ...] = (DropSettled, WatchMoved)


ArrivalEvent = DropSettled | WatchMoved

"""Commands about schedules: see core/commands.py, which has all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AddSchedule:
    """Add a schedule beside the job's definition, or change one. See core/schedule.py."""

    job: str
    spec: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RemoveSchedule:
    """Remove a schedule that was added so."""

    job: str
    name: str


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    """Keep a schedule from firing, or with `paused` false let it go on."""

    job: str
    name: str
    paused: bool


@dataclass(frozen=True, slots=True)
class FireSchedule:
    """Make a schedule's run now."""

    job: str
    name: str


@dataclass(frozen=True, slots=True)
class ScheduleDue:
    """A schedule's time has come; or, with a `mark`, what it waits for was started."""

    job: int
    name: str
    mark: str | None = None

"""Events of a job's schedules and its breaker: as in core/events.py, which has the table."""

from __future__ import annotations

from typing import Any, NamedTuple


class ScheduleAdded(NamedTuple):
    """A schedule was added beside the job's definition, or took the place of one. `spec` is in a
    job file's form."""

    job: int
    name: str
    spec: dict[str, Any]
    at: int
    caller: list[Any]


class ScheduleRemoved(NamedTuple):
    """A schedule was removed."""

    job: int
    name: str
    at: int
    caller: list[Any]


class SchedulePaused(NamedTuple):
    """A schedule does not fire from now on."""

    job: int
    name: str
    at: int
    caller: list[Any]


class ScheduleResumed(NamedTuple):
    """A schedule may fire again; what fell into its pause is not caught up."""

    job: int
    name: str
    at: int
    caller: list[Any]


class ScheduleFired(NamedTuple):
    """A schedule's time has come: all up to `cursor` (ms UTC, nominal) is dealt with.

    `fired` firings made runs, the last of them `run`; `lost` were not caught up. `refused`: why
    they made none. `mark`: the boot of the host, or the start of jobd, that it fired for.
    """

    job: int
    name: str
    cursor: int
    at: int
    fired: int = 1
    lost: int = 0
    run: int | None = None
    refused: str = ""
    mark: str = ""


class JobBreakerOpened(NamedTuple):
    """Too many attempts failed in a row: nothing of the job starts before `until`, then one."""

    job: int
    at: int
    failures: int
    until: int
    text: str


class JobBreakerClosed(NamedTuple):
    """An attempt succeeded, or somebody resumed the job: its runs may start again."""

    job: int
    at: int
    caller: list[Any] | None = None


JobEvent = (
    ScheduleAdded
    | ScheduleRemoved
    | SchedulePaused
    | ScheduleResumed
    | ScheduleFired
    | JobBreakerOpened
    | JobBreakerClosed
)

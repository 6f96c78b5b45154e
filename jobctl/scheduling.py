"""The calls about schedules. Steps, as in jobctl/calls.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jobctl.calls import ask, change, collect, given
from jobctl.channel import Channel
from jobctl.steps import Steps


def add_schedule(to: Channel, job: str, spec: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Adds a schedule to `job`, or changes the one of that name: `{schedule, changed, warnings}`.

    `spec` has the keys of `[[schedule]]` in a job file. InvalidError naming the key.

        jobd.add_schedule("report", {"cron": "0 8 * * *", "timezone": "Europe/Berlin"})
    """
    return (yield from change(to, "schedule.add", {"job": job, "schedule": dict(spec)}))


def remove_schedule(to: Channel, job: str, name: str) -> Steps[dict[str, Any]]:
    """Removes a schedule: `{job, name}`. ConflictError where the job's definition has it."""
    return (yield from change(to, "schedule.remove", {"job": job, "name": name}))


def pause_schedule(to: Channel, job: str, name: str) -> Steps[dict[str, Any]]:
    """Keeps a schedule from firing: `{job, name, paused, changed}`."""
    return (yield from change(to, "schedule.pause", {"job": job, "name": name}))


def resume_schedule(to: Channel, job: str, name: str) -> Steps[dict[str, Any]]:
    """Undoes `pause_schedule`; what fell into the pause is not caught up."""
    return (yield from change(to, "schedule.resume", {"job": job, "name": name}))


def fire_schedule(to: Channel, job: str, name: str) -> Steps[int]:
    """Queues a run as the schedule would, now: its id."""
    return int((yield from change(to, "schedule.fire", {"job": job, "name": name}))["run"])


def schedules(to: Channel, job: str | None = None) -> Steps[list[dict[str, Any]]]:
    """All schedules, or those of `job`: where each stands, and when it fires next."""
    return (yield from schedules_and_clock(to, job))[0]


def schedules_and_clock(
    to: Channel, job: str | None = None
) -> Steps[tuple[list[dict[str, Any]], str | None]]:
    """As `schedules`; and why nothing fires for now, or None."""
    rows, last = yield from collect(to, "schedule.list", given(job=job), "schedules")
    return rows, last.get("clock")


def next_firings(
    to: Channel,
    job: str | None = None,
    name: str | None = None,
    *,
    cron: str | None = None,
    timezone: str | None = None,
    after: datetime | None = None,
    count: int = 5,
) -> Steps[list[dict[str, Any]]]:
    """The next times of a schedule, or of a cron expression: `{at, local, note}` each."""
    asked = given(
        job=job,
        name=name,
        cron=cron,
        timezone=timezone,
        **{"from": None if after is None else round(after.timestamp() * 1000)},
    )
    answer = yield from ask(to, "schedule.next", {**asked, "count": count})
    found: list[dict[str, Any]] = answer["next"]
    return found

"""Events of finished runs and topics that others listen to: as in core/events.py."""

from __future__ import annotations

from typing import Any, NamedTuple


class ReactionRefused(NamedTuple):
    """The job was to get a run and got none; `text` says why.

    `trigger` is `run` or `topic`, `name` the job or topic that it listens to, `cause` the run that
    had ended, or in which the notification was made.
    """

    job: int
    at: int
    trigger: str
    name: str
    cause: int | None
    text: str


class JoinReached(NamedTuple):
    """One of several runs that the job waits for has ended as it should.

    `key` tells which of its `[[on]]`, `root` the run that all began with; `run` is of job `name`.
    """

    job: int
    at: int
    key: str
    root: int
    name: str
    run: int
    outcome: str


class JoinEnded(NamedTuple):
    """All of them have: `run` is what was made of it; None: it was given up."""

    job: int
    at: int
    key: str
    root: int
    run: int | None = None


class TopicEmitted(NamedTuple):
    """A notification was made: jobs that listen got `runs` runs, from `first` on, in this batch.

    `cause` is the run in which it was made, or None. `size` is its payload's, in bytes.
    """

    host: int
    at: int
    topic: str
    caller: list[Any]
    runs: int
    first: int | None = None
    size: int = 0
    labels: dict[str, str] | None = None
    cause: int | None = None


OnEvent = ReactionRefused | JoinReached | JoinEnded | TopicEmitted

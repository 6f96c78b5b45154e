"""The calls of jobs: register them, see them, change them. Steps, as jobctl/calls.py says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobctl.calls import Job, ask, change, collect, given
from jobctl.channel import Channel
from jobctl.steps import Steps


def register(to: Channel, spec: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Registers a job, or a new revision of it: `{job, revision, changed, warnings}`.

    `spec` has the keys of a job file, `name` included. Raises InvalidError naming the key.

        jobd.register({"name": "hello", "image": "busybox", "command": ["echo", "hi"]})
    """
    return (yield from change(to, "job.register", {"spec": dict(spec)}))


def apply(
    to: Channel, specs: Sequence[Mapping[str, Any]], *, prune: bool = False, dry_run: bool = False
) -> Steps[dict[str, Any]]:
    """Registers all of these jobs, or none: `{jobs: [{job, action, revision, changes}]}`.

    `action` is `created`, `changed`, `unchanged`, `moved` (registered otherwise before) or
    `pruned`; `changes` are `{key, before, after}`. With `prune` jobs of an earlier apply that are
    not among them are removed; `dry_run` changes nothing. InvalidError with all that is wrong
    in `details["mistakes"]`.
    """
    asked = {"specs": [dict(spec) for spec in specs]}
    answer = yield from change(to, "job.apply", {**asked, **given(prune=prune, dry_run=dry_run)})
    for row in answer["jobs"]:
        row.setdefault("changes", [])
    return answer


def unregister(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Removes a job: `{job}`. ConflictError while it has live runs."""
    return (yield from change(to, "job.unregister", {"job": job}))


def jobs(to: Channel) -> Steps[list[Job]]:
    """All jobs."""
    return (yield from collect(to, "job.list", {}, "jobs"))[0]


def job_names(to: Channel) -> Steps[list[Job]]:
    """`{name, revision, paused}` of all jobs: quick, however many there are."""
    return (yield from collect(to, "job.list", {"brief": True}, "jobs"))[0]


def job(to: Channel, name: str) -> Steps[Job]:
    """One job as in its file, with defaults filled in. NotFoundError where there is none."""
    return (yield from ask(to, "job.show", {"job": name}))


def suggest(to: Channel, name: str) -> Steps[dict[str, Any]]:
    """What a job should be given, by what its last attempts used: `{proposals, lines, attempts}`.

    NotFoundError where there is no such job.
    """
    return (yield from ask(to, "job.suggest", {"job": name}))


def set_(to: Channel, job: str, settings: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Changes single settings of a job, by their paths: `{job, revision, changed, changes}`.

    None takes the default again. Raises InvalidError naming the key.

        jobd.set("crawl", {"limits.concurrency": 4, "env.LANG": "C", "timeout": "10m"})
    """
    return (yield from change(to, "job.set", {"job": job, "settings": dict(settings)}))


def history(to: Channel, job: str) -> Steps[list[dict[str, Any]]]:
    """The revisions of a job, newest first: `{revision, at, by, changes}`."""
    return (yield from collect(to, "job.history", {"job": job}, "revisions"))[0]


def pause(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Keeps runs of `job` from starting: `{job, paused, changed}`; queueing goes on."""
    return (yield from change(to, "job.pause", {"job": job}))


def resume(to: Channel, job: str) -> Steps[dict[str, Any]]:
    """Undoes `pause`."""
    return (yield from change(to, "job.resume", {"job": job}))

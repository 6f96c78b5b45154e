"""The verbs of jobs (what a declaration says: jobd/wire/verbs.py)."""

from __future__ import annotations

from jobd.wire.verb import ADMIN, LOOK, MANAGE, READ, Verb

VERBS: tuple[Verb, ...] = (
    Verb(
        "job.register",
        True,
        {"spec": "map"},
        "Registers a job, or a new revision of it where anything differs. `spec` has the keys of "
        "a job file, `name` included. Answers {job, revision, changed, warnings}.",
        MANAGE,
    ),
    Verb(
        "job.unregister",
        True,
        {"job": "str"},
        "Removes a job that has no live run (else conflict). Answers {job}.",
        ADMIN,
    ),
    Verb(
        "job.apply",
        True,
        {"specs": "list", "prune": "bool?", "dry_run": "bool?"},
        "Registers all of the jobs in `specs` (each as in job.register), or none. With `prune`, "
        "jobs of an earlier apply that are not among them are removed; conflict while one has live "
        "runs. With `dry_run` nothing is changed. Answers {jobs: [{job, action, revision, changes: "
        "[{key, before, after}, ...]}, ...], warnings}; `action` is created, changed, unchanged, "
        "moved (the same, registered otherwise before) or pruned. A refusal's details have "
        "`mistakes`: [[job, text], ...], every one that was found.",
        MANAGE,
    ),
    Verb(
        "job.list",
        False,
        {"brief": "bool?"},
        "Parts {jobs: [job, ...]}, then {count}. `brief`: {name, revision, paused} alone.",
        LOOK,
    ),
    Verb(
        "job.show", False, {"job": "str"}, "The job as in its file, with defaults filled in.", LOOK
    ),
    Verb(
        "job.suggest",
        False,
        {"job": "str"},
        "What the job should be given, by what its last attempts used: those of runs that the "
        "caller may read. Answers {job, attempts, few, origin, proposals: [{key, now, proposed, "
        "text, changes}, ...], lines: [a job file's line, ...]}.",
        READ,
    ),
    Verb(
        "job.set",
        True,
        {"job": "str", "settings": "map"},
        "Registers a new revision of the job with some keys changed, by their paths (`timeout`, "
        "`resources.memory`, `env.LANG`). A text that the key does not take is read as JSON; nil "
        "takes the default again. Answers {job, revision, changed, changes: [{key, before, "
        "after}, ...], warnings}.",
        MANAGE,
    ),
    Verb(
        "job.history",
        False,
        {"job": "str"},
        "Parts {revisions: [{revision, at, by, changes: [{key, before, after}, ...]}, ...]}, "
        "newest first, then {count}. The oldest one has no changes.",
        LOOK,
    ),
    Verb(
        "job.pause",
        True,
        {"job": "str"},
        "No run of it starts from now on; queueing goes on. Answers {job, paused, changed}.",
        MANAGE,
    ),
    Verb(
        "job.resume",
        True,
        {"job": "str"},
        "Undoes job.pause. Answers {job, paused, changed}.",
        MANAGE,
    ),
)

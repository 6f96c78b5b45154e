"""The verbs of schedules; see jobd/wire/verbs.py."""

from __future__ import annotations

from jobd.wire.verb import LOOK, MANAGE, SUBMIT, Verb

VERBS: tuple[Verb, ...] = (
    Verb(
        "schedule.add",
        True,
        {"job": "str", "schedule": "map"},
        "Adds a schedule to the job, or changes the one of that name. `schedule` has the keys of "
        "`[[schedule]]` in a job file; its zone defaults to the host's, its name to what it is "
        "(cron, every, at). Conflict where one of that name stands in the job's definition. "
        "Answers {schedule, changed, warnings}.",
        MANAGE,
    ),
    Verb(
        "schedule.remove",
        True,
        {"job": "str", "name": "str"},
        "Removes a schedule that was added so; conflict for one in the job's definition. Answers "
        "{job, name}.",
        MANAGE,
    ),
    Verb(
        "schedule.pause",
        True,
        {"job": "str", "name": "str"},
        "Keeps the schedule from firing. Answers {job, name, paused, changed}.",
        MANAGE,
    ),
    Verb(
        "schedule.resume",
        True,
        {"job": "str", "name": "str"},
        "Lets it fire again; what fell into the pause is not caught up.",
        MANAGE,
    ),
    Verb(
        "schedule.fire",
        True,
        {"job": "str", "name": "str"},
        "Queues a run as the schedule would, now; it stands where it stood. Answers {run}.",
        SUBMIT,
    ),
    Verb(
        "schedule.list",
        False,
        {"job": "str?"},
        "Parts {schedules: [schedule, ...]}, then {count, clock}: a schedule has the keys of a job "
        "file, and job, paused, from_file, next_at, last_at, last_run, last_status, refused (why "
        "the last firing made no run), fired, missed; `clock` says why nothing fires, or is nil.",
        LOOK,
    ),
    Verb(
        "schedule.next",
        False,
        {"job": "str?", "name": "str?", "cron": "str?", "timezone": "str?", "from": "int?",
         "count": "int?"},
        "The next `count` (5) times after `from` (now) of a schedule, or of a cron expression in a "
        "zone (the host's). Answers {next: [{at, local, note}, ...], timezone}; `note` tells what "
        "a change of the clock does.",
        LOOK,
    ),
)  # fmt: skip

"""Every verb, declared once: its arguments, what it answers, and its manual.

An argument is declared as `name: type`, with `?` behind the type where it may be left out. Types:
`str bytes int bool list map`. Times are integer milliseconds UTC, durations milliseconds, sizes
bytes. The server refuses unknown, missing and wrongly typed arguments by this declaration, so a
handler need not; and who has not the `right` (core/access.py): to the job that `job` names, or to
each run that `run` or `runs` select. The table is on the client's hot path: plain tuples, nothing
computed.
"""

from __future__ import annotations

from jobd.wire.verb import ADMIN, LOOK, MANAGE, OWN, READ, SUBMIT, Verb

VERBS: tuple[Verb, ...] = (
    Verb(
        "ping",
        False,
        {},
        "Answers {version, pid, store, uptime_ms, user: {uid, admin}}.",
        LOOK,
    ),
    Verb(
        "status",
        False,
        {},
        "The map that INTERFACE calls `status`: version, uptime_s, engine, capacity, counts, "
        "draining, journal; and jobs (number), waiting (a list of {reason, runs, text}), process "
        "({enabled, user, reachable, error}: whether jobs may be processes of the host).",
        LOOK,
    ),
    Verb(
        "host.doctor",
        False,
        {},
        "What is wrong with the set-up. Answers {findings: [{about, level, text, remedy}, ...]}; "
        "`level` is ok, warning or wrong.",
    ),
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
    Verb(
        "run.queue",
        True,
        {
            "job": "str",
            "payload": "bytes?",
            "payloads": "list?",
            "upload": "bytes?",
            "count": "int?",
            "priority": "int?",
            "not_before": "int?",
            "delay": "int?",
            "expires": "int?",
            "timeout": "int?",
            "env": "map?",
            "labels": "map?",
            "args": "list?",
            "key": "str?",
            "after": "list?",
            "batch": "str?",
            "batch_offset": "int?",
            "dry_run": "bool?",
        },
        "Queues one run, `count` runs alike, or one for each of `payloads`. A payload above "
        "CHUNK bytes is sent before by `upload.put` and named by `upload`. `args` are put behind "
        "the job's command. `delay` counts from when the daemon takes the request. Runs of one "
        "request find BATCH_ID and BATCH_INDEX in their environment; where one batch takes several "
        "requests they share `batch` (1 to 64 letters and digits); `batch_offset` says how many "
        "runs came before. `after` are pairs of a run selector and `ok`, `any` or `fail`: the run "
        "waits for those to end, and is skipped where one ends otherwise. The answer "
        "means: on disk. Answers {runs: [[id, existing], ...], warnings: [text, ...]}; with "
        "`dry_run` nothing is queued and the answer is {settings: map}.",
        SUBMIT,
        ("env", "args", "timeout", "priority", "expires"),
    ),
    Verb(
        "run.list",
        False,
        {
            "status": "list?",
            "job": "str?",
            "labels": "map?",
            "since": "int?",
            "until": "int?",
            "limit": "int?",
            "all": "bool?",
            "runs": "list?",
        },
        "Runs, as rows of INTERFACE's shape: all that are not final, then final ones, newest "
        "first in each, 50 in all unless `limit` or `all` says otherwise. `status` words may "
        "also be `dead`. `runs` are selectors. `since` and `until` are of the last change: the "
        "end of one that has ended. Ended runs that have left memory are among them; where they "
        "cannot be read just now `trouble` says why. Parts {runs: [...]}, then {count, more}.",
        LOOK,
    ),
    Verb(
        "run.show",
        False,
        {"runs": "list"},
        "Everything about the runs that the selectors (`42`, `40-45`, `40,42`, `last`, "
        "`last:JOB`) name. Parts {runs: [...]}, then {count, single}: `single` is true where "
        "one plain selector was given.",
        READ,
    ),
    Verb(
        "run.wait",
        False,
        {"runs": "list", "for": "str?", "hold": "int?"},
        "Waits until every named run is `done` (the default), `running` (or past it) or "
        "`succeeded` (or cannot any more), `hold` milliseconds at most (HOLD_MS where not said). "
        "Answers {ready, runs: [row, ...], single}, 100 rows at most; not ready: ask again.",
        READ,
    ),
    Verb(
        "run.cancel",
        True,
        {"runs": "list?", "job": "str?", "status": "list?"},
        "Cancels the named runs, or all live ones of a job. A waiting one ends at once, an "
        "active one is told to stop. Answers {runs: [[id, status], ...], count}; `runs` has the "
        "first 10,000.",
        OWN,
    ),
    Verb(
        "run.retry",
        True,
        {"runs": "list", "payload": "bytes?", "upload": "bytes?"},
        "Queues ended runs again, each as a new run with `retry_of` set: with its own payload or "
        "the one given, by the newest revision of its job. Of several those that have ended. "
        "Answers {runs: [[retry_of, id], ...], count, single}.",
        SUBMIT,
    ),
    Verb(
        "run.next",
        True,
        {"runs": "list"},
        "Puts queued runs before all others of their job and priority, the first one named "
        "first. Answers as run.hold.",
        MANAGE,
    ),
    Verb(
        "run.edit",
        True,
        {
            "runs": "list",
            "priority": "int?",
            "not_before": "int?",
            "delay": "int?",
            "timeout": "int?",
            "labels": "map?",
        },
        "Changes settings of runs that wait or are held; `labels` (set beside the others) of "
        "active ones too. `not_before` or `delay` is another date, `timeout` of the attempts to "
        "come. Answers as run.hold.",
        MANAGE,
    ),
    Verb(
        "run.why",
        False,
        {"runs": "list"},
        "Why runs are where they are. Parts {runs: [{id, job, status, reason, constraints, place, "
        "estimated_start, estimate}]}, then {count, single}. Each constraint is {name, ok, text} "
        "and its numbers; `place` is {in_job, of_job, ahead}.",
        READ,
    ),
    Verb(
        "run.hold",
        True,
        {"runs": "list"},
        "Keeps waiting runs back until they are released. Of several those that can be. Answers "
        "{runs: [[id, status], ...], count}.",
        MANAGE,
    ),
    Verb(
        "run.release", True, {"runs": "list"}, "Lets held runs start. Answers as run.hold.", MANAGE
    ),
    Verb(
        "run.result",
        False,
        {"run": "str"},
        "Parts {data}, then {size}. Not ended: conflict; no result: not-found.",
        READ,
    ),
    Verb(
        "run.output",
        False,
        {"run": "str", "attempt": "int?", "offset": "int?"},
        "Up to CHUNK bytes, from `offset` on, of a tar of what an attempt left in OUTPUT_DIR: "
        "regular files and folders with relative names. The last attempt that ended where none is "
        "said. Answers {run, attempt, files, size, crc, data}: ask until `size` bytes are there, "
        "and compare their CRC-32. None ended: conflict; nothing was left: not-found.",
        READ,
    ),
    Verb("run.payload", False, {"run": "str"}, "Parts {data}, then {size}.", READ),
    Verb(
        "log.read",
        False,
        {
            "run": "str",
            "attempt": "int?",
            "offset": "int?",
            "tail": "int?",
            "since": "int?",
            "hold": "int?",
            "progress": "str?",
        },
        "Up to CHUNK bytes of an attempt's log file from `offset` (bytes) on, whole lines, in the "
        "form that runlog/FORMAT.md tells; `tail` (lines) or `since` (ms) choose the first "
        "offset instead. With `hold` and nothing new it waits. Answers {run, status, attempt, "
        "attempts, offset, data, end, progress}: `offset` is where to go on, `end` says that no "
        "more will come for this attempt; `attempt` 0: none has begun (data is empty). An attempt "
        "beyond the last is waited for while the run is live, and not-found when it is over; "
        "`progress` is what a starting attempt last said (a held request answers when it "
        "differs from the one given).",
        READ,
    ),
    Verb(
        "image.build",
        True,
        {
            "upload": "bytes",
            "job": "str",
            "dockerfile": "str?",
            "args": "map?",
            "network": "str?",
            "target": "str?",
        },
        "Begins to build an image from a tar that was sent by `upload.put` with `context`; for "
        "administrators. `network` is none, host or bridge. The image is named "
        "`jobd/<job>:<first 12 digits of its id>`; nothing is registered. Answers {build}.",
    ),
    Verb(
        "image.output",
        False,
        {"build": "int", "offset": "int?", "hold": "int?"},
        "What a build has said from `offset` (bytes) on; waits where there is nothing new, `hold` "
        "milliseconds at most. Answers {data, offset, end, image, image_id}: `offset` is where to "
        "go on, `image` the name and `image_id` the id once `end` is true. A build that failed: "
        "invalid, or refused where trying again may help, after all that it said. Not-found where "
        "the daemon was started anew.",
    ),
    Verb(
        "host.drain",
        True,
        {},
        "No run starts on this host from now on; queueing goes on, and what runs does. Answers "
        "{draining, changed, active}: how many runs are active.",
    ),
    Verb("host.undrain", True, {}, "Undoes host.drain. Answers {draining, changed, active}."),
    Verb(
        "host.snapshot",
        False,
        {},
        "Has a snapshot of the queue made now; nobody has to ask, as they are made when they are "
        "worth it. Answers {number} at once: it is there, or has failed, once `finished` in "
        "status' journal.snapshot is not less.",
    ),
    Verb(
        "host.idle",
        False,
        {"hold": "int?"},
        "Waits until no run is active, `hold` milliseconds at most (HOLD_MS where not said). "
        "Answers {ready, draining, active: [id, ...]}; not ready: ask again.",
    ),
    Verb(
        "events.read",
        False,
        {"after": "int?", "since": "int?", "audit": "bool?", "hold": "int?"},
        "What happened, oldest first: behind the event numbered `after`, not before `since` (ms); "
        "with neither nothing yet, and `next` is the last number there is. `audit`: what somebody "
        "asked for alone. With `hold` and nothing new it waits. Answers {events: [{seq, at, "
        "event, job, run, ..., by}, ...], next, more}: go on with `after` = `next`; `more` says "
        "that there is more now, also where `events` is empty. What the caller may not see is left "
        "out, and what was in files of the queue that snapshots have replaced.",
        LOOK,
    ),
    Verb(
        "upload.put",
        True,
        {
            "upload": "bytes",
            "offset": "int",
            "data": "bytes",
            "last": "bool",
            "context": "bool?",
        },
        "Sends a large payload in chunks of at most CHUNK bytes, in order, under a name of "
        "KEY_BYTES random bytes. The answer to the last one means: on disk. Kept 24 hours if no "
        "run comes to use it. With `context` it is what an image is built from, which may be "
        "larger and is an administrator's. Answers {size}.",
        SUBMIT,
    ),
)

BY_NAME: dict[str, Verb] = {verb.name: verb for verb in VERBS}

#: keys in answers whose values are times in integer milliseconds UTC (or None)
TIME_KEYS = frozenset(
    {"at", "queued_at", "not_before", "started_at", "finished_at", "scheduled_at", "expires_at"}
    | {"estimated_start", "loaded_at"}
)

"""The verbs of runs (what a declaration says: jobd/wire/verbs.py)."""

from __future__ import annotations

from jobd.wire.verb import LOOK, MANAGE, OWN, READ, SUBMIT, Verb

VERBS: tuple[Verb, ...] = (
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
            "mutex": "str?",
            "unmet": "str?",
            "latest": "bool?",
            "debounce": "int?",
            "dry_run": "bool?",
        },
        "Queues one run, `count` runs alike, or one for each of `payloads`. A payload above "
        "CHUNK bytes is sent before by `upload.put` and named by `upload`. `args` are put behind "
        "the job's command. `delay` counts from when the daemon takes the request. Runs of one "
        "request find BATCH_ID and BATCH_INDEX in their environment; where one batch takes several "
        "requests they share `batch` (1 to 64 letters and digits); `batch_offset` says how many "
        "runs came before. `after` are pairs of a run selector and `ok`, `any` or `fail`: the run "
        "waits for those to end, and where one ends otherwise it is skipped, or as `unmet` says: "
        "`skip`, `fail`, `hold`. Of the runs with one `mutex` (1 to 200 characters) one at a time "
        "is active, over all jobs. With `latest` those that wait with the `key` are skipped and "
        "this one is queued; `debounce` does so too, and the run is due when no other has come "
        "with the key for so long. The answer "
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
        "first 10,000, or 1,000 of a whole job that has more.",
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
        "estimated_start, estimated_earliest, estimated_latest, estimate}]}, then {count, single}. "
        "Each constraint is {name, ok, text} and its numbers; `place` is {in_job, of_job, ahead, "
        "more}: with `more` 10,000 or more are before it, and these are not counted further. Four "
        "of five futures that were tried lie between earliest and latest; where these are too far "
        "apart, `estimated_start` is nil.",
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
    Verb(
        "run.progress",
        False,
        {"percent": "int?", "message": "str?"},
        "From inside of an attempt alone (its job's `api`): how far it is, 0 to 100, and what it "
        "is at, in 200 characters; both take the place of what was said before. It is shown, not "
        "kept: what is said often is told a few times a second. Answers {}.",
    ),
    Verb("run.payload", False, {"run": "str"}, "Parts {data}, then {size}.", READ),
)

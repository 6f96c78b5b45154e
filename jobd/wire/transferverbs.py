"""The verbs of logs, uploads and builds (what a declaration says: jobd/wire/verbs.py)."""

from __future__ import annotations

from jobd.wire.verb import READ, SUBMIT, Verb

VERBS: tuple[Verb, ...] = (
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

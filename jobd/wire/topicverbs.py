"""The verbs of topics; see jobd/wire/verbs.py."""

from __future__ import annotations

from jobd.wire.verb import SUBMIT, Verb

VERBS: tuple[Verb, ...] = (
    Verb(
        "topic.emit",
        True,
        {"topic": "str", "payload": "bytes?", "upload": "bytes?", "labels": "map?"},
        "Notifies a topic: each job whose definition listens to it (`[[on]] topic = ...`), and "
        "whose filters are met by labels and payload, gets a run with both, all in one batch, in "
        "the name of the caller. For who may queue runs of some job; a job that the caller may not "
        "queue gets none. The answer means: on disk. Answers {topic, listening, count, runs: "
        "[[id, job], ...], refused: [[job, text], ...], forbidden: [job, ...]}: `count` is 0 where "
        "nobody listens, or all of the `listening` jobs to other labels or payloads; `refused` got "
        "none and says why; `forbidden` are jobs that the caller sees and may not queue.",
        SUBMIT,
    ),
)

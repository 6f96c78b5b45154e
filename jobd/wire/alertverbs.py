"""The verbs of alerts; see jobd/wire/verbs.py."""

from __future__ import annotations

from jobd.wire.verb import LOOK, MANAGE, NOTIFY, Verb

VERBS: tuple[Verb, ...] = (
    Verb(
        "alert.list",
        False,
        {"job": "str?", "alert": "int?", "all": "bool?"},
        "Parts {alerts: [alert, ...]}, newest first: those that are open or not delivered yet, "
        "with `all` those that are over as well; then {count, snoozes: [{job, what, until}, ...], "
        "problem}. An alert: {alert, state (open, resolved or test), what, job, run, "
        "count, text, raised_at, last_at, resolved_at, resolved_text, snoozed {until}, deliveries: "
        "[{delivery, tells, to, state, tries, due_at, done_at, error, run}, ...]}. `problem` says "
        "why nothing is delivered, or is nil.",
        LOOK,
    ),
    Verb(
        "alert.snooze",
        True,
        {"job": "str?", "alert": "int?", "what": "str?", "until": "int?"},
        "Sends nothing of the job's alerts (of the host's, where no job is named) before `until` "
        "(ms UTC), of one kind with `what`; `alert` names job and kind by an alert of theirs. "
        "Without `until` they are sent again. What is still wrong then is sent then. Answers {job, "
        "what, until, changed}.",
        MANAGE,
    ),
    Verb(
        "alert.resend",
        True,
        {"alert": "int"},
        "Sends once more what was given up of the alert, else its last message to each of its "
        "destinations, with the same ids. Answers {alert, deliveries}: how many.",
        MANAGE,
    ),
    Verb(
        "alert.test",
        True,
        {"job": "str?", "to": "str?"},
        "Sends a test to all destinations of the job, to the one called `to` in jobd.toml, or to "
        "those of the host's own alerts. Answers {alert}.",
        MANAGE,
    ),
    Verb(
        "alert.take",
        False,
        {"most": "int?", "hold": "int?"},
        "Gives deliveries that are due to who delivers them, `most` (8) at most and one a "
        "destination, and to nobody else for a minute; with nothing due it waits for `hold` ms. "
        "Answers {deliveries: [{delivery, id, kind, url, headers, command, journal, fields, "
        "content_type, body}, ...]}.",
        NOTIFY,
    ),
    Verb(
        "alert.settle",
        True,
        {"delivery": "int", "ok": "bool", "error": "str?"},
        "Tells what became of a delivery that was taken: delivered, or tried again later. Answers "
        "{delivery, result}: delivered, failed, given-up, or gone (it was settled before).",
        NOTIFY,
    ),
)

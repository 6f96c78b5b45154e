"""The verbs of the daemon and its host (what a declaration says: jobd/wire/verbs.py)."""

from __future__ import annotations

from jobd.wire.verb import LOOK, Verb

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
        "host.forecast",
        False,
        {"hours": "int?"},
        "What the next hours (24) will bring, as things stand: schedules and what waits, played "
        "through against the capacity. Answers {at, ends_at, complete, runs: {queued, started, "
        "waiting, left_out}, backlog: {most, peak_at, end}, hours: [{at, started, waiting, active, "
        "cpus, memory}, ...], collisions: [{job, name, fires, late, skipped, refused, longest_ms, "
        "at, reason, beside}, ...], clock: [{job, name, text}, ...], unknown: [job, ...], "
        "capacity, draining, paused}. An hour's `cpus` and `memory` are what is reserved on "
        "average; `unknown` are jobs of which no attempt has ended; not `complete`: it goes no "
        "further than `ends_at`. Jobs that the caller may not see are left out by name.",
        LOOK,
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
        "out. What was in files of the queue that snapshots have replaced is not there any more: "
        "then `gone` says before when (ms).",
        LOOK,
    ),
)

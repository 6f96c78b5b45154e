"""A snapshot's statements make the state that the events made: nothing is lost, nothing added."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from jobd.core import events as e
from jobd.core import statements as s
from jobd.core.alertbook import Alert, AlertBook, Delivery
from jobd.core.drops import Drops
from jobd.core.entities import Attempt, Breaker, Host, Job, Run
from jobd.core.groups import Group
from jobd.core.machine import TransitionError
from jobd.core.rates import Bucket
from jobd.core.reactions import Join
from jobd.core.schedules import Schedule
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.core.watches import Watch
from tests.support.core import Bench, problems
from tests.support.simulation import Life
from tests.support.stating import SCHEDULE, Kept, restore, told

EVENTS_MD = Path(e.__file__).with_name("EVENTS.md")

#: what each entity has, and where it comes from after a snapshot: stated, or made anew
STATED = {
    Run: {"id", "job", "revision", "state", "rev", "priority", "queued_at", "origin", "options"}
    | {"size", "body", "due", "attempts", "parents", "note"},
    Job: {"id", "name", "rev", "revision", "revisions", "made", "registered_at", "origin"}
    | {"paused", "removed", "ready", "done", "times"},
    Attempt: {"number", "claimed_at", "state", "started", "stopping", "end", "gpus"},
    Host: {"rev", "drained_at", "drained_by", "salvaged_at"},
    Schedule: {"job", *SCHEDULE},
    Breaker: {"failures", "opened_at", "text", "until"},
    Group: {"active", "bucket", "limits"},
    Bucket: {"full_at"},
    Join: {"reached", "since"},
    Watch: {"job", "spec", "mark", "seen"},
    Drops: {"_runs"},
    AlertBook: {"alerts", "next_alert", "next_delivery", "succeeded", "snoozes"},
    Alert: {"id", "what", "job", "scope", "at", "last_at", "run", "text", "count"}
    | {"resolved_at", "resolved_text", "deliveries"},
    Delivery: {"id", "alert", "tells", "to", "since", "due", "state", "tries", "error"}
    | {"done_at", "run"},
}
MADE_ANEW = {
    Run: {"where"},
    Job: {"reason", "passed", "keys", "runs", "waiting", "parked", "held", "active"},
    Attempt: {"where"},
    Host: set[str](),
    Schedule: {"_timing", "ghost", "next", "following", "ahead", "unplanned"},
    Breaker: set[str](),
    Group: set[str](),
    Bucket: {"_back_at"},
    Join: set[str](),
    Watch: set[str](),
    Drops: {"over"},
    AlertBook: {"open", "latest", "over", "waiting", "watched", "taken", "bucket"},
    Alert: set[str](),
    Delivery: set[str](),
}
OF_THE_STATE = {"host", "jobs", "jobs_by_id", "runs", "ready", "requests", "active", "next_run"} | {
    "alerts",
    "schedules",
    "next_job",
    "done",
    "gone",
    "groups",
    "buckets",
    "breakers",
    "replaceable",
    "reactions",
    "drops",
    "watches",
}
OF_THE_STATE_ANEW = {
    "children",
    "finished",
    "made",
    "reserved_millicpus",
    "reserved_memory",
    "waiting",
    "parked",
} | {
    "reserved_gpus",
    "held",
    "dirty",
    "active_of",
    "look_at",
    "_queued",
    "_at",
    "_options",
    "_trigger",
    "notes",
    "mutexes",
    "waiting_of",
    "_origins",
    "_appliers",
    # what the last run that was queued had, so that the next shares it
    "jobs_changed",
    "_caller",
    "_user",
}


def test_nothing_of_the_state_is_forgotten() -> None:
    """What is added to the state has to be stated too, or be made anew: say here which."""
    for cls, stated in STATED.items():
        assert set(cls.__slots__) == stated | MADE_ANEW[cls], cls  # type: ignore[attr-defined]
    assert set(vars(State())) == OF_THE_STATE | OF_THE_STATE_ANEW


@pytest.mark.parametrize("part", range(5))
def test_whole_lives(part: int) -> None:
    """At any moment of any life, and again in the middle of what comes after."""
    for seed in range(part * 8, part * 8 + 8):
        life = Life(seed)
        ends = set()  # of batches: a snapshot never stands inside one
        for _ in range(120):
            life.step()
            ends.add(life.synced)
        events = life.events[: life.synced]
        cuts = sorted(Random(seed).sample(sorted(ends), 4))
        log, kept, state = State(), Kept(), State()
        start = 0
        for cut in [*cuts, len(events)]:
            kept.apply(log, events[start:cut])
            Kept.apply(kept, state, events[start:cut])
            start = cut
            assert told(state) == told(log), f"seed {seed}, {cut} events"
            state, _ = kept.through(state)
            assert told(state) == told(log), f"seed {seed}, after {cut} events"
            assert not list(problems(state)), seed


def queue_with_all(bench: Bench) -> None:
    bench.register("job", priority=3, retry={"attempts": 3, "delay": "1s"})
    first = bench.queue(payload=b"one", key="k", labels={"a": "b"})
    bench.queue(payload=b"two", after=[[first.id, "any"]])
    bench.claim()


def test_payload_and_last_words_are_found_in_a_statement() -> None:
    bench = Bench()
    queue_with_all(bench)
    run = bench.run(1)
    ended = e.AttemptEnded(1, 1, bench.now.wall, "failed", True, 3, result=b"r", log_tail=b"words")
    bench.apply(e.AttemptStarted(1, 1, bench.now.wall, bench.now.wall, "c", "i"), ended)
    bench.apply(e.RunRequeued(1, bench.now.wall, 1000))
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    for _ in range(2):  # a snapshot of a queue, and one of what that snapshot made
        state, _ = kept.through(state)
        assert s.payload_in(*kept.stated[1][:1], 1, kept.stated[1][1]) == b"one"
        end = s.end_in(kept.stated[1][0], 1, 1, kept.stated[1][1])
        assert (end.result, end.log_tail, end.exit_code) == (b"r", b"words", 3)
    again = state.run(1).attempts
    assert again is not None
    assert again[0].end is not None
    assert (again[0].end.result, again[0].end.log_tail) == (1, b"")
    assert run.due == state.run(1).due


def test_schedules_stand_where_they_stood() -> None:
    at, who = 1_770_000_000_000, [0, "root", 1, "uid:0"]
    told_of = [
        {"name": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "jitter": "5m"},
        {"name": "often", "every": "90s", "timezone": "UTC", "times": 3, "payload": "p"},
    ]
    spec = to_mapping(parse({"name": "j", "image": "i", "schedule": told_of}))
    other = {"name": "added", "cron": "@hourly", "timezone": "UTC"}
    kept, state = Kept(), State()
    kept.apply(state, [
        e.JobRegistered(1, "j", 1, spec, at, who),
        e.ScheduleAdded(1, "added", other, at + 5, who),
        e.SchedulePaused(1, "nightly", at + 6, who),
        e.ScheduleFired(1, "often", at + 90_000, at + 90_010, 1, 2, 7, "", "boot"),
        e.ScheduleFired(1, "added", at + 90_000, at + 90_020, 0, 0, None, "queue full"),
    ])  # fmt: skip
    restored, _ = kept.through(state)
    assert len(restored.schedules) == 3
    assert told(restored) == told(state)
    for one in state.schedules.every():
        again = restored.schedules.get(*one.key)
        assert again is not None
        assert again.after(again.cursor) == one.after(one.cursor)
    # a new revision that says the same leaves them where they stand
    for each in (state, restored):
        each.apply(e.JobRegistered(1, "j", 2, spec, at + 100_000, who))
    assert told(restored) == told(state)


def test_what_is_too_long_for_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "_IDS", 3)
    monkeypatch.setattr(s, "_REQUESTS", 2)
    bench = Bench()
    bench.register("job")
    for number in range(8):
        bench.queue(request=bytes([number]) * 16, payload=b"%d" % number)
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    restored, made = kept.through(state)
    kinds = [type_ for type_, *_ in made]
    assert kinds.count(s.TYPE_OF[s.ReadyStands]) == 3
    assert kinds.count(s.TYPE_OF[s.RequestsStand]) == 4
    assert told(restored) == told(state)
    assert list(restored.requests.find(bytes([3]) * 16)) == [4]


def test_fields_of_a_later_version_are_left_out() -> None:
    bench = Bench()
    queue_with_all(bench)
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    _, made = kept.through(state)
    more = [
        (type_, kind, id_, rev, bytes([body[0] + 1]) + body[1:] + b"\xc0")
        for type_, kind, id_, rev, body in made
        if 0x90 <= body[0] < 0x9F
    ]
    assert len(more) == len(made)
    assert told(restore(more)) == told(state)


def test_what_cannot_be_is_refused() -> None:
    bench = Bench()
    queue_with_all(bench)
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    _, made = kept.through(state)
    without = [one for one in made if one[0] != s.TYPE_OF[s.RevisionStands]]
    with pytest.raises(TransitionError, match="no revision"):
        restore(without)


def test_the_table_in_the_document_is_the_codes() -> None:
    rows = {
        int(number): (about, name, fields.split(", "))
        for number, about, name, fields in re.findall(
            r"\| (\d+) \| (\w+) \| `(\w+Stands?)` \| ([^|]+) \|", EVENTS_MD.read_text()
        )
    }
    words = {e.JOB: "job", e.RUN: "run", e.HOST: "host"}
    assert rows == {
        number: (words[s.KIND_OF[cls]], cls.__name__, list(cls._fields))
        for number, cls in s.BY_TYPE.items()
    }
    assert not set(s.BY_TYPE) & set(e.BY_TYPE)

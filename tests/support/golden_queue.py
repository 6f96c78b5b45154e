"""Makes a golden queue: every event and every statement as this version writes them.

    python -m tests.support.golden_queue tests/data/queue-2

Makes the folder, with `expected.json` beside the queue's files: what has to be read from it for
ever. A new one is due when an event, a statement or the format is new; those that are there are
never made again. What a later version says besides (new keys of a job, new fields) does not matter
to the test.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobd.core import events as e
from jobd.core.schedule import to_mapping as schedule_mapping
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.core.statements import end_in, payload_in
from jobd.core.watching import to_mapping as watch_mapping
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.snapshotter import make as make_snapshot
from jobd.journal import Fs, Journal, RecordIn
from jobd.journal.retention import unfinished_name
from tests.support.stating import alerts_told

#: when it all happened, ms UTC
AT = 1_795_000_000_000
ANN = [1000, "ann", 4711, "uid:1000"]
JOBD = [0, "jobd", 1, "system"]

Batch = list[Any]


def _spec(name: str, **more: Any) -> dict[str, Any]:
    return to_mapping(parse({"name": name, "image": "busybox", "command": ["true"], **more}))


def _life(job: int, run: int, at: int) -> Iterator[Batch]:
    """Every event there is, batch by batch, about a job and runs from these ids on."""
    name = f"job-{job}"
    retry = {"attempts": 3, "delay": "10s", "on": ["failed", "3-5"]}
    yield [e.JobRegistered(job, name, 1, _spec(name), at, ANN)]
    yield [e.JobRegistered(job, name, 2, _spec(name, priority=5, retry=retry), at, ANN, "apply")]
    more = {"labels": {"a": "ä"}, "key": f"k{run}", "key_crc": 7, "args": ["-x"], "timeout": 5000}
    request = run.to_bytes(16, "big")
    yield [
        e.RunQueued(run, job, 2, at, "cli", ANN, b"payload\0\xff", 5, more, request),
        e.RunQueued(run + 1, job, 2, at, "cli", ANN, b"", 5, {"after": [[run, "any"]]}, request, 1),
        e.RunQueued(run + 2, job, 1, at, "api", ANN, ["body-1", 70_000, 99], 5),
        e.RunQueued(run + 3, job, 2, at, "api", ANN, b"late", 0, {"not_before": at + 86_400_000}),
        e.RunQueued(run + 4, job, 2, at, "api", ANN, b"held", 0, {"expires_at": at + 9_000_000}),
        e.RunQueued(run + 5, job, 2, at, "api", ANN, b"gone"),
    ]
    yield [e.AttemptClaimed(run, 1, at + 10), e.AttemptClaimed(run + 2, 1, at + 10)]
    yield [e.AttemptStarted(run, 1, at + 20, at + 19, "c1", "sha256:1", 4)]
    ended = e.AttemptEnded(
        run, 1, at + 30, "failed", True, 3, "broke", at + 29, True, 0.5, 4096, "parent", 12, True,
        b"result", b"last words", "parent", 1, 2, "parent", 3, 4, 5, "parent",
        ["out-1", 10_240, 5], 2, "one file was left out",
    )  # fmt: skip
    yield [ended, e.RunRequeued(run, at + 30, 10_000)]
    yield [e.AttemptStopping(run + 2, 1, at + 40, "cancelled", ANN)]
    yield [
        e.AttemptEnded(run + 2, 1, at + 50, "cancelled", False),
        e.RunFinished(run + 2, at + 50, "cancelled", "cancelled", "was cancelled by ann", ANN),
    ]
    yield [e.RunHeld(run + 4, at + 60, "held", "wait", ANN)]
    yield [e.RunHeld(run + 3, at + 60, "held", "wait", ANN), e.RunReleased(run + 3, at + 61, ANN)]
    yield [e.RunEdited(run + 3, at + 70, {"priority": 9, "labels": {"b": "c"}}, ANN)]
    yield [e.RunMovedFirst(run + 5, at + 80, ANN), e.JobRunsCancelled(
        job, [[run + 5, run + 5]], at + 81, ANN
    )]  # fmt: skip
    yield [e.JobPaused(job, at + 90, ANN), e.JobResumed(job, at + 91, ANN)]
    nightly = {"name": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    often = {"name": "often", "every": "90s", "timezone": "UTC", "payload": "p", "jitter": "5s"}
    yield [e.ScheduleAdded(job, each["name"], each, at + 91, ANN) for each in (nightly, often)]
    yield [e.SchedulePaused(job, "nightly", at + 91, ANN)]
    yield [
        e.SchedulePaused(job, "often", at + 91, ANN),
        e.ScheduleResumed(job, "often", at + 91, ANN),
    ]
    yield [e.ScheduleFired(job, "often", at + 91_000, at + 91_001, 1, 2, run + 3, "", "boot")]
    gone = {"name": "gone", "at": "2030-01-01T00:00:00", "timezone": "UTC"}
    yield [e.ScheduleAdded(job, "gone", gone, at + 91, ANN), e.ScheduleRemoved(
        job, "gone", at + 91, ANN
    )]  # fmt: skip
    yield [e.HostDrainStarted(1, at + 92, ANN), e.HostDrainEnded(1, at + 93, ANN)]
    groups = {"gpu": {"concurrency": 1}, "mail": {"rate": "100/h", "burst": 10}}
    yield [e.HostGroupsSet(1, at + 93, groups, JOBD)]
    fragile = {"breaker": {"failures": 2, "probe_after": "5m"}, "overlap": "replace"}
    limits = {"rate": "5/m", "burst": 2, "group": "gpu", "mutex": "{job}"}
    spec = _spec(name, limits=limits, **fragile)
    yield [e.JobRegistered(job, name, 3, spec, at + 93, ANN)]
    more = {"mutex": name, "memory": 1 << 30, "after": [[run, "ok"]], "unmet": "hold"}
    yield [e.RunQueued(run + 6, job, 3, at + 93, "api", ANN, b"one", 5, {"mutex": name})]
    yield [e.RunQueued(run + 7, job, 3, at + 93, "api", ANN, b"two", 5, more)]
    yield [e.AttemptClaimed(run + 6, 1, at + 93)]
    yield [
        e.JobBreakerOpened(job, at + 93, 2, at + 300_093, "2 attempts failed in a row"),
        e.JobBreakerClosed(job, at + 94, ANN),
        e.JobBreakerOpened(job, at + 95, 3, at + 300_095, "3 attempts failed in a row"),
    ]
    on: list[dict[str, Any]] = [
        {"run": ["etl", "crawl"], "outcome": "any"},
        {"run": "etl", "labels": {"a": ["b", "c"]}, "payload": {"n.k": 1}},
        {"topic": "orders"},
    ]
    yield [e.JobRegistered(job, name, 4, _spec(name, on=on, **fragile), at + 95, ANN)]
    source = {"source": ["orders", None], "chain": [2, run, run + 1, "failed", False]}
    yield [
        e.RunQueued(run + 8, job, 4, at + 95, "topic", ANN, b"note", 0, source),
        e.TopicEmitted(1, at + 95, "orders", ANN, 1, run + 8, 4, {"a": "b"}, run + 1),
        e.ReactionRefused(job, at + 95, "topic", "orders", run + 1, "its queue is full"),
    ]
    key = "etl+crawl"
    yield [e.JoinReached(job, at + 95, key, run, "etl", run, "failed")]
    yield [
        e.JoinReached(job, at + 95, key, run + 1, "crawl", run + 1, "succeeded"),
        e.JoinEnded(job, at + 96, key, run, run + 8),
    ]
    yield [e.JobRegistered(job + 1, f"old-{job}", 1, _spec(f"old-{job}"), at + 94, JOBD)]
    yield [e.JobRemoved(job + 1, at + 95, ANN), e.JobPaused(job, at + 96, ANN)]
    on = [{"path": "/srv/in", "event": "closed|created", "pattern": "*.csv", "debounce": "2s"}]
    yield [e.JobRegistered(job + 2, f"watch-{job}", 1, _spec(f"watch-{job}", on=on), at + 96, ANN)]
    many = {"source": ["ä.csv", None], "drop": [f"{run:032x}", ".", "ä.csv", None]}
    large = {"source": ["a", None], "drop": [f"{run + 1:032x}", "%", "%FF", 1 << 30]}
    yield [
        e.RunQueued(run + 9, job, 4, at + 96, "drop", ANN, b"1,2", 5, many),
        e.RunQueued(run + 10, job, 4, at + 96, "drop", ANN, b"", 5, large),
    ]
    ended = e.RunFinished(run + 9, at + 96, "cancelled", "cancelled", "was cancelled by ann", ANN)
    yield [ended, e.DropSettled(run + 9, at + 97)]
    yield [e.WatchMoved(job + 2, "/srv/in", at * 1_000_000, at + 97, [7, 1 << 62], 0, "refused")]
    yield from _alerts(job, run, at)
    yield [e.HostDrainStarted(1, at + 97, ANN)]
    yield [e.HostSalvaged(1, at + 98, ANN, run + 11, job + 5)]
    yield [e.HostRunsArchived(1, at + 99, [[run + 2, run + 2]])]


def _alerts(job: int, run: int, at: int) -> Iterator[Batch]:
    """Of alerts and deliveries that wait, that are over, that were given up."""
    one, two = ["to", "ops", ""], ["url", "http://127.0.0.1:9/x", "slack"]
    yield [
        e.AlertRaised(1, job, at + 96, "dead", job, run, "dé", "", [[job, *one], [job + 1, *two]]),
        e.AlertRaised(1, job + 1, at + 96, "engine", 0, 0, "gone", "process", [[job + 2, *one]]),
        e.AlertRaised(1, job + 2, at + 96, "test", job, 0, "test", "1", [[job + 3, *two]], ANN),
    ]
    yield [
        e.AlertTried(1, job, at + 96, "delivered", at + 96, "", None, run),
        e.AlertTried(1, job + 1, at + 96, "failed", at + 10_096, "refused"),
        e.AlertTried(1, job + 2, at + 96, "given-up", at + 96, "refused"),
    ]
    yield [e.AlertTried(1, job + 2, at + 97, "again", at + 97, "", ANN)]
    yield [e.AlertRepeated(1, job, at + 97, run + 1, "again", [])]
    yield [e.AlertResolved(1, job + 1, at + 97, "well", [[job + 4, *one]])]
    yield [e.AlertsSnoozed(1, at + 97, job, "dead", at + 1_000_000, ANN)]


def make(folder: Path) -> None:
    """The queue in `folder`, which must not be there, and what is to be read from it."""
    folder.mkdir(mode=0o700)
    journal = Journal.open(
        folder, segment_bytes=1 << 16, reserve_bytes=0, known_types=KNOWN_TYPES, clock_ms=lambda: AT
    )
    state = State()
    for turn in range(3):
        for batch in _life(1 + 20 * turn, 1 + 20 * turn, AT + 1000 * turn):
            records = []
            for event in batch:
                cls = type(event)
                revision = state.apply(event)
                number, kind = e.TYPE_OF[cls], e.KIND_OF[cls]
                records.append(RecordIn(number, kind, event[0], revision, e.encode(event)))
            journal.write(records)
        if turn < 2:
            journal.seal()
            end = journal.sealed()
            assert end is not None
            target = str(folder / unfinished_name(end.last_lsn, 1))
            made = make_snapshot(Fs(), str(folder), end.last_lsn, target, AT)
            journal.adopt(made)
            journal.retire()
    journal.close()
    (folder / "LOCK").unlink()
    for segment in folder.glob("seg-*"):
        # zeroes that were filled ahead mean nothing
        segment.write_bytes(_without_zeroes(segment.read_bytes()))
    with tempfile.TemporaryDirectory() as place:
        # opening it makes a segment more
        told = listing(copied(folder, Path(place)))
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "expected.json").write_text(text + "\n")


def copied(golden: Path, place: Path) -> Path:
    """A copy in the folder `place` that may be written to, with the mode that a queue must have."""
    target = place / golden.name
    shutil.copytree(golden, target)
    target.chmod(0o700)
    return target


def _without_zeroes(data: bytes) -> bytes:
    end = len(data.rstrip(b"\0"))
    return data[: max(4096, (end + 7) // 8 * 8)]


def listing(folder: Path) -> dict[str, Any]:
    """What the queue in `folder` tells, in JSON's values. The queue is opened and left unclean."""
    journal = Journal.open(folder, reserve_bytes=0, known_types=KNOWN_TYPES, segment_bytes=1 << 16)
    try:
        state = fold(journal.replay())
        return {
            "jobs": {str(job.id): _job(job) for job in state.jobs_by_id.values()},
            "runs": {str(run.id): _run(run, journal) for run in state.runs.oldest_first()},
            "next": [state.next_run, state.next_job],
            "drained": [state.host.drained_at, state.host.drained_by],
            "done": {str(outcome): count for outcome, count in state.done.items()},
            "requests": {
                key.hex(): [runs.start, len(runs)] for key, runs in state.requests.oldest_first()
            },
            "joins": {
                f"{job} {key}": [[root, join.since, join.reached] for root, join in open_.items()]
                for (job, key), open_ in state.reactions.joins.items()
            },
            "refused": {str(job): list(one) for job, one in state.reactions.refused.items()},
            "schedules": {
                f"{each.job.id} {each.spec.name}": [
                    schedule_mapping(each.spec),
                    each.added_at,
                    each.caller,
                    each.from_file,
                    each.cursor,
                    each.paused,
                    each.fired,
                    each.missed,
                    each.last_at,
                    each.last_run,
                    each.refused,
                    each.mark,
                ]
                for each in state.schedules.every()
            },
            "drops": state.drops.runs(),
            "watches": {
                f"{each.job.id} {each.spec.name}": [watch_mapping(each.spec), each.mark, each.seen]
                for each in state.watches.every()
            },
            "alerts": alerts_told(state),
            "turns": [
                [priority, [run.id for run in state.ready.heads(priority)]]
                for priority in state.ready.priorities()
            ],
        }
    finally:
        journal.close(clean=False)


def _job(job: Any) -> dict[str, Any]:
    return {
        "name": job.name,
        "revision": job.revision,
        "revisions": {
            str(number): [to_mapping(spec), *job.made[number]]
            for number, spec in job.revisions.items()
        },
        "state": [job.rev, job.paused, job.removed, job.origin, job.registered_at],
        "done": {str(outcome): count for outcome, count in job.done.items()},
        "counts": [job.waiting, job.held, job.active],
        "keys": dict(job.keys),
        "times": list(job.times),
    }


def _run(run: Any, journal: Journal) -> dict[str, Any]:
    payload = None
    if run.body is None:
        payload = payload_in(*_of(journal.kept(run.where, e.RUN, run.id), run.id)).hex()
    return {
        "job": [run.job.id, run.revision],
        "state": [run.rev, run.state.name, run.priority, run.queued_at, run.due],
        "origin": list(run.origin),
        "options": run.options,
        "payload": payload,
        "body": None if run.body is None else [run.body.name, run.body.size, run.body.crc],
        "parents": sorted(run.parents or ()),
        "note": None if run.note is None else _fields(run.note),
        "attempts": [_attempt(run, attempt, journal) for attempt in run.attempts or ()],
    }


def _of(kept: tuple[int, bytes], run: int) -> tuple[int, int, bytes]:
    return kept[0], run, kept[1]


def _attempt(run: Any, attempt: Any, journal: Journal) -> dict[str, Any]:
    told: dict[str, Any] = {
        "number": attempt.number,
        "state": attempt.state.name,
        "claimed_at": attempt.claimed_at,
        "started": attempt.started and _fields(attempt.started),
        "stopping": attempt.stopping and _fields(attempt.stopping),
        "end": attempt.end and _fields(attempt.end),
    }
    if attempt.end is not None:
        type_, body = journal.kept(attempt.where, e.RUN, run.id)
        whole = end_in(type_, run.id, attempt.number, body)
        told["result"] = whole.result.hex() if isinstance(whole.result, bytes) else whole.result
        told["words"] = whole.log_tail.hex()
    return told


def _fields(event: Any) -> dict[str, Any]:
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in event._asdict().items()
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]))

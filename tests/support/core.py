"""A core to try things on, with timers and a clock of its own; and what can be said of a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobd.core import events as e
from jobd.core.commands import Body, Caller, Command, QueueRun, RegisterJob
from jobd.core.decide import Decision, decide
from jobd.core.dispatch import Admission, picks
from jobd.core.effects import Effect
from jobd.core.entities import Job, Run
from jobd.core.model import Needs, Now, Reason
from jobd.core.policy import Rules
from jobd.core.runs import PIECE
from jobd.core.state import State
from jobd.core.states import Kind, RunState, Status
from jobd.core.timers import Timers
from jobd.errors import JobdError

ANN = Caller(1000, "ann", 4711, groups=frozenset({"jobd-admin"}))
SYSTEM = Caller(0, "jobd", 0)
#: some moment in 2026
START = Now(1_770_000_000_000, 5_000_000)


class Open:
    """Lets everything start."""

    def closed(self, kind: Kind) -> Reason | None:
        return None

    def shortfall(self, needs: Needs, reserved: Needs, running: int) -> Reason | None:
        return None


class Bench:
    """A core with its timers, driven as daemon/core_loop.py drives it; keeps every event."""

    def __init__(self, rules: Rules | None = None, now: Now = START) -> None:
        self.rules = rules or Rules()
        self.now = now
        self.state = State()
        self.timers = Timers()
        self.events: list[e.Event] = []
        self.effects: list[Effect] = []

    def apply(self, *events: e.Event) -> None:
        """Take events in as the loop does."""
        for event in events:
            self.state.apply(event)
            self.timers.arm(self.state, event, self.now)
            self.events.append(event)

    def do(self, command: Command, caller: Caller = ANN) -> Decision:
        """Decide on a command and apply what follows."""
        decision = decide(self.state, command, self.now, self.rules, caller)
        self.apply(*decision.events)
        self.effects += decision.effects
        return decision

    def register(self, name: str = "job", **settings: Any) -> Job:
        """Register a job; `retry=...` and other tables are given as such."""
        self.do(RegisterJob({"name": name, "image": "busybox", **settings}))
        return self.state.jobs[name]

    def queue(self, job: str = "job", payload: bytes = b"", **more: Any) -> Run:
        """Queue one run."""
        more.setdefault("trigger", "cli")
        decision = self.do(QueueRun(job, [payload], caller=ANN, **more))
        return self.run(decision.answer[0][0][0])

    def run(self, id_: int) -> Run:
        """The run, which is there."""
        run = self.state.runs.get(id_)
        assert run is not None
        return run

    def claim(self, admission: Admission | None = None) -> list[int]:
        """Dispatch once; the ids of what was claimed, in that order."""
        claimed = []
        for run in picks(self.state, admission or Open(), self.now):
            self.apply(e.AttemptClaimed(run.id, len(run.attempts or ()) + 1, self.now.wall))
            claimed.append(run.id)
        return claimed

    def later(self, ms: int) -> list[e.Event]:
        """Let time go by on both clocks, and take what came due; the events of that."""
        self.now = Now(self.now.wall + ms, self.now.mono + ms)
        return self.due()

    def due(self) -> list[e.Event]:
        """Take what is due now; the events of that."""
        before = len(self.events)
        for over in self.timers.advance(self.state, self.now):
            self.do(over, SYSTEM)
        return self.events[before:]

    def set_clock(self, by: int) -> None:
        """Somebody sets the wall's clock; the monotonic one does not notice."""
        self.now = Now(self.now.wall + by, self.now.mono)

    def restart(self, mono: int = 1_000) -> None:
        """Kill the core and build it anew from its events, through their form on disk."""
        self.state = replay(self.events)
        self.timers = Timers()
        self.now = Now(self.now.wall, mono)
        self.timers.arm_all(self.state, self.now)


def replay(events: list[e.Event]) -> State:
    """The state that the events make after a way through their bytes."""
    state = State()
    for event in events:
        cls = type(event)
        state.apply(e.decode(e.TYPE_OF[cls], event[0], e.encode(event)))
    return state


def live(events: list[e.Event]) -> State:
    """The state that the very same events make, without the way through bytes."""
    state = State()
    for event in events:
        state.apply(event)
    return state


def refused(bench: Bench, command: Command, error: type[JobdError], match: str) -> None:
    """The command is refused so, and changes nothing."""
    before = dump_all(bench.state)
    with pytest.raises(error, match=match):
        bench.do(command)
    assert dump_all(bench.state) == before


def queueing(*payloads: bytes | Body, **more: Any) -> QueueRun:
    return QueueRun(more.pop("job", "job"), payloads or (b"",), "cli", ANN, **more)


# -- what can be said of a state -----------------------------------------------------------


def dump(state: State) -> dict[str, Any]:
    """Everything durable in a state as plain values: equal for states that are alike."""
    return {
        "jobs": {job.id: _job(job) for job in state.jobs_by_id.values()},
        "names": {name: job.id for name, job in state.jobs.items()},
        "runs": {run.id: _run(run) for run in state.runs.oldest_first()},
        "active": list(state.active),
        "limits": (
            state.groups.limits(),
            {name: (set(g.active), g.bucket.full_at) for name, g in state.groups.named.items()},
            {job: bucket.full_at for job, bucket in state.buckets.items()},
            dict(state.mutexes.holders),
            dict(state.waiting_of),
            {j: (b.failures, b.opened_at, b.until, b.text) for j, b in state.breakers.items()},
        ),
        "host": (state.host.rev, state.host.drained_at, state.host.drained_by),
        "next": (state.next_run, state.next_job),
        "reserved": (state.reserved_millicpus, state.reserved_memory, state.reserved_gpus),
        "counts": (state.waiting, state.held, {str(o): n for o, n in state.done.items() if n}),
        "requests": {
            key: list(state.requests.find(key)) for part in state.requests._parts for key in part
        },
    }


def dump_all(state: State) -> dict[str, Any]:
    """Like :func:`dump`, with what time alone decides and the indexes."""
    return {
        **dump(state),
        "due": {run.id: run.due for run in state.runs.oldest_first()},
        "parked": dict(state.parked),
        "job_parked": {job.id: dict(job.parked) for job in state.jobs_by_id.values()},
        "ready": {
            job.id: {priority: list(queue) for priority, queue in job.ready.items()}
            for job in state.jobs_by_id.values()
        },
        "rings": {p: [job.id for job in ring] for p, ring in state.ready._rings.items()},
        "reasons": {job.id: job.reason for job in state.jobs_by_id.values()},
        "dirty": state.dirty,
        "aside": set(state.mutexes._aside),
    }


def _job(job: Job) -> tuple[Any, ...]:
    done = {str(outcome): n for outcome, n in job.done.items() if n}
    counts = (job.waiting, job.held, job.active, done)
    flags = (job.paused, job.removed, job.registered_at, job.origin)
    return (job.name, job.rev, job.revision, dict(job.revisions), flags, dict(job.keys), counts)


def run_dump(run: Run) -> tuple[Any, ...]:
    """Everything durable in a run as plain values."""
    return _run(run)


def _run(run: Run) -> tuple[Any, ...]:
    attempts = [
        (a.number, a.claimed_at, a.gpus, a.state, *map(_plain, (a.started, a.stopping, a.end)))
        for a in run.attempts or []
    ]
    return (
        run.rev,
        run.state,
        run.job.id,
        run.revision,
        run.spec,
        run.priority,
        run.queued_at,
        list(run.origin),
        run.options,
        (run.size, run.body),
        set(run.parents or ()),
        attempts,
        (type(run.note).__name__, _plain(run.note)),
    )


def _plain(event: e.Event | None) -> Any:
    return None if event is None else list(event)


def problems(state: State) -> Iterator[str]:
    """What is wrong with a state, by a recount of everything that is counted or indexed."""
    runs = list(state.runs.oldest_first())
    yield from _count_problems(state, runs)
    yield from _ready_problems(state, runs)
    yield from _table_problems(state, runs)
    active = {run.id for run in runs if run.state is RunState.ACTIVE}
    if set(state.active) != active:
        yield f"active index {set(state.active)}, active runs {active}"
    cpus = sum(round(run.spec.cpus * 1000) for run in state.active.values())
    memory = sum(run.memory for run in state.active.values())
    gpus = sum(run.spec.gpus for run in state.active.values())
    if gpus != state.reserved_gpus:
        yield f"reserved {state.reserved_gpus} gpus, sum {gpus}"
    if (cpus, memory) != (state.reserved_millicpus, state.reserved_memory):
        yield f"reserved {state.reserved_millicpus, state.reserved_memory}, sum {cpus, memory}"
    for run in runs:
        open_ends = [a.number for a in run.attempts or [] if a.end is None]
        if run.state is RunState.ACTIVE:
            if open_ends != [len(run.attempts or [])]:
                yield f"run {run.id}: active, with open attempts {open_ends}"
        elif open_ends:
            yield f"run {run.id}: {run.state!r}, with open attempts {open_ends}"
        if run.due is not None and run.state not in (RunState.WAITING, RunState.HELD):
            yield f"run {run.id}: {run.state!r}, and still due at {run.due}"
        for parent in run.parents or ():
            found = state.runs.get(parent)
            if found is None or found.state is RunState.DONE:
                yield f"run {run.id}: still waits for run {parent}, which is over"
            elif run.id not in state.children.of(parent):
                yield f"run {run.id}: waits for run {parent}, whose end would not be told to it"
        if (run.note is not None) != (run.state in (RunState.HELD, RunState.DONE)):
            yield f"run {run.id}: {run.state!r}, noted {run.note}"


def _table_problems(state: State, runs: list[Run]) -> Iterator[str]:
    """Where the table's counts by state, or a job's ids, are not those of the runs."""
    table: dict[int, list[int]] = {}
    of_job: dict[int, list[int]] = {}
    for run in runs:
        table.setdefault(run.id // PIECE, [0] * len(RunState))[run.state] += 1
        of_job.setdefault(run.job.id, []).append(run.id)
    if table != state.runs._counts:
        yield f"table counts {state.runs._counts}, recount {table}"
    for job in state.jobs_by_id.values():
        ids = [id_ for id_ in job.runs.between(0, 1 << 62) if state.runs.get(id_) is not None]
        if ids != of_job.get(job.id, []) or len(job.runs) != len(ids):
            yield f"job {job.name}: has ids {ids}, {len(job.runs)}, runs {of_job.get(job.id)}"


def _count_problems(state: State, runs: list[Run]) -> Iterator[str]:
    everything: dict[str, int] = {}
    found: dict[int, dict[str, int]] = {job: {} for job in state.jobs_by_id}
    for run in runs:
        counts = found[run.job.id]
        for word in _words(run):
            counts[word] = counts.get(word, 0) + 1
            everything[word] = everything.get(word, 0) + 1
    for job in state.jobs_by_id.values():
        kept = _kept(job.waiting, job.held, job.parked, job.done) | {"ACTIVE": job.active}
        if not _alike(found[job.id], kept, state):
            yield f"job {job.name}: counts {kept}, recount {found[job.id]}"
    kept = _kept(state.waiting, state.held, state.parked, state.done)
    kept["ACTIVE"] = len(state.active)
    if not _alike(everything, kept, state):
        yield f"counts {kept}, recount {everything}"


def _alike(found: dict[str, int], kept: dict[str, int], state: State) -> bool:
    """Whether the counts are right; those of ended runs count the ones that have left too."""
    if not state.gone.marks():
        return found == {word: n for word, n in kept.items() if n}
    over = {word for word in found.keys() | kept.keys() if word.lower().startswith("done")}
    exact = {word: n for word, n in kept.items() if n and word not in over}
    return exact == {word: n for word, n in found.items() if word not in over} and all(
        found.get(word, 0) <= kept.get(word, 0) for word in over
    )


def _words(run: Run) -> list[str]:
    assert run.state is not None
    words = [run.state.name]
    if run.state is RunState.WAITING and run.due is not None:
        words.append("retrying" if run.attempts else "delayed")
    elif run.state is RunState.WAITING and run.parents:
        words.append("blocked")
    if run.state is RunState.DONE:
        words.append(f"done {getattr(run.note, 'outcome', None)}")
    return words


def _kept(
    waiting: int, held: int, parked: dict[Status, int], done: dict[Any, int]
) -> dict[str, int]:
    kept = {"WAITING": waiting, "HELD": held, "DONE": sum(done.values())}
    kept |= {str(word): n for word, n in parked.items()}
    return kept | {f"done {outcome}": n for outcome, n in done.items()}


def _ready_problems(state: State, runs: list[Run]) -> Iterator[str]:
    indexed: dict[int, set[int]] = {}
    for job in state.jobs_by_id.values():
        for priority, queue in job.ready.items():
            if not queue:
                yield f"job {job.name}: an empty queue at priority {priority}"
            if list(state.ready._rings.get(priority, ())).count(job) != 1:
                yield f"job {job.name}: not once in the ring of priority {priority}"
            for id_ in queue:
                run = state.runs.get(id_)
                if run is not None and run.job is job and run.priority == priority:
                    indexed.setdefault(id_, set()).add(priority)
    for priority, ring in state.ready._rings.items():
        for job in ring:
            if priority not in job.ready:
                yield f"ring of priority {priority} has job {job.name}, which has no queue there"
    for run in runs:
        ready = run.state is RunState.WAITING and run.due is None and not run.parents
        key = run.option("mutex")
        if ready and run.id not in indexed:
            if run.id not in state.mutexes:
                yield f"run {run.id}: due, and not in the ready index"
            elif key not in state.mutexes.holders and not any(
                other.id in indexed and other.option("mutex") == key and other.job is run.job
                for other in runs
            ):
                yield f"run {run.id}: set aside for {key!r}, which nobody holds"

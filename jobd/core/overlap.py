"""What becomes of runs where a new one comes: a job's `overlap`, and `--latest` of a key.

Decided when a run is queued, whatever queued it, in one batch with it. One that is queued for later
or behind parents is not compared: when its time comes it waits its turn. Runs that are held, not
due or blocked are in nobody's way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.changes import stop
from jobd.core.effects import Effect
from jobd.core.entities import Job, Run
from jobd.core.model import Now
from jobd.core.state import State
from jobd.core.states import Outcome, RunState, Status
from jobd.core.topics import chain_of

#: of a debounce's time, how often it may be put off before its run starts all the same
PUT_OFF = 10


class Settled(NamedTuple):
    """What follows beside the new runs."""

    events: list[e.Event]
    effects: list[Effect]


def settle(state: State, job: Job, queued: list[e.RunQueued], overlap: str, now: Now) -> Settled:
    """What `overlap` makes of new runs of a job (not applied yet), and of those that are there."""
    coming = [run for run in queued if not _later(run, now)]
    if overlap not in ("skip", "replace") or not coming:
        return Settled([], [])
    if overlap == "skip":
        here = _here(state, job)
        stay = coming[0] if here is None else None
        other = f"run {coming[0].run}" if here is None else here
        text = f"{other} of job {job.name} is there already (overlap = skip)"
        ends = [_skip(run.run, "overlap", text, now) for run in coming if run is not stay]
        return Settled(list(ends), [])
    last = coming[-1]
    text = f"run {last.run} takes its place (overlap = replace)"
    events: list[e.Event] = [_skip(run.run, "overlap", text, now) for run in coming[:-1]]
    effects: list[Effect] = []
    for old in list(state.replaceable.get(job.id, ())):
        run = state.runs.get(old)
        if run is not None and run.state is RunState.WAITING and _due(run):
            events.append(_skip(old, "overlap", text, now))
    for run in state.active.values():
        if run.job is job:
            told = stop(run, now, "cancelled", last.caller)
            events += told.events
            effects += told.effects
    return Settled(events, effects)


def superseded(
    state: State, job: Job, key: str, new: int, parents: set[int], now: Now
) -> Superseded:
    """The ends of those that wait with the key, as run `new` has it now (`--latest`).

    Its own parents stay: it would wait for them for nothing.
    """
    ends: list[e.RunFinished] = []
    follows: int | None = None
    since: int | None = None
    number = job.keys.get(key)
    while number is not None:
        run = state.runs.get(number)
        if run is None:
            break
        if run.state is RunState.WAITING and run.id not in parents:
            text = f"run {new} came after it with the key {key!r:.80} (--latest)"
            ends.append(_skip(run.id, "superseded", text, now))
            since = run.option("debounced") if since is None else since
        elif run.state is not RunState.DONE and follows is None:
            # it may wait once more, for another attempt
            follows = run.id
        number = run.option("follows")
    return Superseded(ends, follows, since)


class Superseded(NamedTuple):
    """Ends of older runs; one of the key that is active or held; since when all is put off."""

    ends: list[e.RunFinished]
    follows: int | None = None
    since: int | None = None

    def options(self, debounce: int | None, now: Now) -> dict[str, Any]:
        """What the new run keeps of it."""
        options: dict[str, Any] = {}
        if self.follows is not None:
            options["follows"] = self.follows
        if debounce is not None:
            options["debounced"] = self._since(now)
        return options

    def due(self, debounce: int, now: Now) -> int:
        """When a debounced run is due: when nothing has come for so long, or it is enough."""
        return min(now.wall + debounce, self._since(now) + PUT_OFF * debounce)

    def _since(self, now: Now) -> int:
        return now.wall if self.since is None else min(self.since, now.wall)


def _later(run: e.RunQueued, now: Now) -> bool:
    options = run.options or {}
    # the parents of one that their ends made are over: it waits for nothing
    blocked = bool(options.get("after")) and not chain_of(options, run.run).joined
    return blocked or (options.get("not_before") or 0) > now.wall


def _due(run: Run) -> bool:
    """Whether it is due or between two attempts, and waits for no parent."""
    return not run.parents and (run.due is None or bool(run.attempts))


def _here(state: State, job: Job) -> str | None:
    """One of the job's runs that is active or due, in words; None: there is none."""
    for run in state.active.values():
        if run.job is job:
            return f"run {run.id}"
    if job.waiting - job.parked[Status.DELAYED] - job.parked[Status.BLOCKED] > 0:
        return "a run"
    return None


def _skip(run: int, code: str, text: str, now: Now) -> e.RunFinished:
    return e.RunFinished(run, now.wall, Outcome.SKIPPED, code, text)

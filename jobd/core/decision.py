"""What the deciders share: their answer, who asked, what is found by name, what is in bounds."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.commands import Caller
from jobd.core.effects import Effect
from jobd.core.entities import Job, Run
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import RunState
from jobd.errors import InvalidError, NotFoundError
from jobd.units import MAX_MS, duration_text


class Decision(NamedTuple):
    """What follows from a command: all of it, or (by an exception) nothing."""

    events: list[e.Event]
    effects: list[Effect]
    answer: Any = None


NOTHING = Decision([], [])


def caller_fields(caller: Caller) -> list[Any]:
    """A caller as it stands in events: uid, user, pid, principal."""
    return [caller.uid, caller.user, caller.pid, caller.principal]


def find_job(state: State, name: str) -> Job:
    """The job of that name. Raises NotFoundError."""
    job = state.jobs.get(name)
    if job is None:
        raise NotFoundError(f"job {name:.80}: no such job; `jobctl jobs` lists them")
    return job


def find_run(state: State, run_id: int) -> Run:
    """The run with that id. Raises NotFoundError."""
    run = state.runs.get(run_id)
    if run is None:
        raise NotFoundError(f"run {run_id}: no such run; `jobctl ls --all` lists them")
    return run


def held_as(run: Run) -> str:
    """The code of what holds the run back; empty where it is not held."""
    note = run.note
    return note.code if run.state is RunState.HELD and note is not None else ""


def check_priority(priority: int) -> None:
    """Raises InvalidError where no run may have that priority."""
    if not -1000 <= priority <= 1000:
        raise InvalidError(f"priority: {priority}: expected a whole number, -1000 to 1000")


def check_timeout(timeout: int, rules: Rules) -> None:
    """Raises InvalidError where no attempt may take so long, in milliseconds."""
    longest = MAX_MS if rules.max_timeout is None else rules.max_timeout
    if not 1 <= timeout <= longest:
        raise InvalidError(
            f"timeout: {timeout} ms: expected more than nothing and "
            f"{duration_text(longest)} at most"
        )


def check_due(not_before: int, now: Now) -> None:
    """Raises InvalidError for a time that no record can hold (milliseconds UTC)."""
    if not_before > now.wall + MAX_MS:
        raise InvalidError("not_before: expected a time within the next 100 years")

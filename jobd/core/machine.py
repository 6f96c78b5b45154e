"""The one table of transitions: `(state, event) -> state`. What is not in it cannot happen.

jobd/ARCHITECTURE.md shows :func:`diagram`, and a test keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobd.core.events import (
    AttemptClaimed,
    AttemptEnded,
    AttemptStarted,
    AttemptStopping,
    DropSettled,
    HostRunsArchived,
    JobRunsCancelled,
    RunEdited,
    RunFinished,
    RunHeld,
    RunMovedFirst,
    RunQueued,
    RunReleased,
    RunRequeued,
)
from jobd.core.states import AttemptState, RunState

R, A = RunState, AttemptState

#: what a run's own events do to it; None is "not there yet"
RUN: dict[tuple[RunState | None, type], RunState] = {
    (None, RunQueued): R.WAITING,
    (R.WAITING, AttemptClaimed): R.ACTIVE,
    (R.WAITING, RunFinished): R.DONE,
    (R.WAITING, JobRunsCancelled): R.DONE,
    (R.WAITING, RunHeld): R.HELD,
    (R.WAITING, RunEdited): R.WAITING,
    (R.WAITING, RunMovedFirst): R.WAITING,
    (R.HELD, RunReleased): R.WAITING,
    (R.HELD, RunEdited): R.HELD,
    (R.HELD, RunFinished): R.DONE,
    (R.HELD, JobRunsCancelled): R.DONE,
    (R.ACTIVE, AttemptStarted): R.ACTIVE,
    (R.ACTIVE, AttemptStopping): R.ACTIVE,
    (R.ACTIVE, AttemptEnded): R.ACTIVE,
    (R.ACTIVE, RunEdited): R.ACTIVE,
    (R.ACTIVE, RunRequeued): R.WAITING,
    (R.ACTIVE, RunHeld): R.HELD,
    (R.ACTIVE, RunFinished): R.DONE,
    # it leaves the state, and is done in the archive
    (R.DONE, HostRunsArchived): R.DONE,
    (R.DONE, DropSettled): R.DONE,
}

#: what a run's events do to its current attempt
ATTEMPT: dict[tuple[AttemptState | None, type], AttemptState] = {
    (None, AttemptClaimed): A.CLAIMED,
    (A.CLAIMED, AttemptStarted): A.RUNNING,
    (A.CLAIMED, AttemptStopping): A.STOPPING,
    (A.CLAIMED, AttemptEnded): A.ENDED,
    (A.RUNNING, AttemptStopping): A.STOPPING,
    (A.RUNNING, AttemptEnded): A.ENDED,
    # told to stop while it was being started: it may still turn out to have started
    (A.STOPPING, AttemptStarted): A.STOPPING,
    # cancelled while it was being stopped for its time: then it is not tried again
    (A.STOPPING, AttemptStopping): A.STOPPING,
    (A.STOPPING, AttemptEnded): A.ENDED,
}


class TransitionError(Exception):
    """An event met a state in which it cannot happen: a bug, or a damaged queue."""


def run_after(run: int, state: RunState | None, event: type) -> RunState:
    """The run's state after `event`. Raises TransitionError."""
    try:
        return RUN[state, event]
    except KeyError:
        raise TransitionError(f"run {run}: {event.__name__} cannot happen in {state!r}") from None


def attempt_after(run: int, state: AttemptState | None, event: type) -> AttemptState:
    """The current attempt's state after `event`. Raises TransitionError."""
    try:
        return ATTEMPT[state, event]
    except KeyError:
        raise TransitionError(
            f"attempt of run {run}: {event.__name__} cannot happen in {state!r}"
        ) from None


def diagram() -> str:
    """Both tables as one Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += _part("Run", RUN)
    lines += _part("Attempt", ATTEMPT)
    return "\n".join(lines) + "\n"


def _part(title: str, table: Mapping[Any, RunState | AttemptState]) -> list[str]:
    lines = [f"    state {title} {{"]
    for (before, event), after in table.items():
        source = "[*]" if before is None else f"{title}_{before.name}"
        lines.append(f"        {source} --> {title}_{after.name}: {event.__name__}")
    return [*lines, "    }"]

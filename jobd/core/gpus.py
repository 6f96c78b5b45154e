"""Which of the host's GPUs an attempt has for itself: told at its claim, and recorded there. Pure.

They are numbered from 0, as the host's own tools number them.
"""

from __future__ import annotations

from jobd.core.entities import Run
from jobd.core.events import AttemptClaimed
from jobd.core.moves import Moves


def claim(state: Moves, run: Run, at: int, gpus: int) -> AttemptClaimed:
    """The claim of the run's next attempt on a host with so many GPUs; the lowest free are its.

    Admission has seen that enough are free (capacity/ledger.py).
    """
    number = len(run.attempts or ()) + 1
    wanted = run.spec.gpus
    if not wanted:
        return AttemptClaimed(run.id, number, at)
    taken = held(state)
    free = [gpu for gpu in range(gpus) if gpu not in taken]
    return AttemptClaimed(run.id, number, at, free[:wanted])


def held(state: Moves) -> dict[int, int]:
    """The GPUs that live attempts have, each with its run."""
    return {gpu: run.id for run in state.active.values() for gpu in of(run)}


def of(run: Run) -> tuple[int, ...]:
    """The GPUs of the run's newest attempt."""
    attempt = run.attempt
    return tuple(attempt.gpus or ()) if attempt is not None else ()

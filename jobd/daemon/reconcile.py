"""What the engine has against what the journal knows: leftovers go, strangers are reported.

Live attempts are not decided on here: each has a driver, which finds out what became of it. Only
containers that bear this queue's own uuid are looked at, and those that it does not know are never
removed: the queue may be an old copy (DURABILITY R13, checklist 30).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from jobd.core.decision import held_as
from jobd.core.salvage import SUSPECT
from jobd.core.state import State
from jobd.core.states import AttemptState
from jobd.engine.base import Found

_log = logging.getLogger(__name__)


def reconcile(
    state: State, found: Sequence[Found], discard: Callable[[int, int], None]
) -> list[Found]:
    """Discard what is left of attempts whose end is known; the ones that nobody knows."""
    strangers = []
    for one in found:
        known = _ended(state, one)
        if known is None:
            strangers.append(one)
        elif known:
            discard(int(one.labels["jobd.run"]), int(one.labels["jobd.attempt"]))
    for line in warnings(strangers):
        _log.warning("engine: %s", line)
    return strangers


def warnings(strangers: Sequence[Found]) -> list[str]:
    """A line for each, for the log and for `status`."""
    return [
        f"{one.ref} ({one.phase}) bears this queue's name and is not known to it; left alone: "
        "look at it and remove it by hand"
        for one in strangers
    ]


def _ended(state: State, one: Found) -> bool | None:
    """Whether the attempt's end is known; None where the attempt is not known at all."""
    run_text, attempt_text = one.labels.get("jobd.run", ""), one.labels.get("jobd.attempt", "")
    if not run_text.isdecimal() or not attempt_text.isdecimal():
        return None
    run = state.runs.get(int(run_text))
    if run is not None and held_as(run) == SUSPECT:
        return None  # what it did is not known: only a person may put an end to it
    for attempt in (run.attempts or []) if run is not None else []:
        if attempt.number == int(attempt_text):
            return attempt.state is AttemptState.ENDED
    return None

"""What events of dropped files and watched paths do to the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import events as e
from jobd.core import machine
from jobd.core.moves import Moves


def _settled(state: Moves, event: e.DropSettled) -> None:
    run = state.run(event.run)
    machine.run_after(run.id, run.state, e.DropSettled)
    options = dict(run.options or {})
    drop = options.pop("drop", None)
    if drop is not None:
        state.drops.settled(drop[0])
        # not changed in place: the runs of one request share theirs
        run.options = {**options, "dropped": drop}


def _moved(state: Moves, event: e.WatchMoved) -> None:
    watch = state.watches.get(event.job, event.name)
    if watch is None:
        raise machine.TransitionError(f"job {event.job}: no watched path {event.name!r:.80}")
    watch.mark = event.mark
    watch.seen = event.seen


APPLIERS: dict[type[Any], Callable[[Any, Any], None]] = {
    e.DropSettled: _settled,
    e.WatchMoved: _moved,
}

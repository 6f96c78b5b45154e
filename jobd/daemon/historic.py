"""Puts the history together, and opens its door to the core loop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jobd.core import archiving
from jobd.core.archiving import Window
from jobd.core.commands import ArchiveRuns
from jobd.core.entities import Run
from jobd.core.events import RUN
from jobd.core.state import State
from jobd.core.states import RunState
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.errors import ConfigError
from jobd.history.keeper import Door, Keeper
from jobd.history.oldlogs import OldLogs
from jobd.history.reader import History
from jobd.history.retention import Retention
from jobd.journal import Fs
from jobd.journal.archive import Archive
from jobd.journal.bodies import Bodies
from jobd.runlog.folder import LogFolder

_log = logging.getLogger(__name__)

#: what the event that lets runs go takes of the queue, in bytes: at most, and for each of them
_ROOM, _ROOM_EACH = 256, 24
#: runs in memory that are looked at in one pass of the loop
_SCAN = 2_000
#: seconds between two steps of removing
_REST = 0.05


def make_history(
    loop: CoreLoop, state_folder: Path, logs: LogFolder, bodies: Bodies
) -> tuple[History, Keeper]:
    """The history of the queue in that folder. Raises ConfigError where it cannot be opened.

    Once its index is whole, the body files that no run has are swept.
    """
    live = bodies_in_memory(loop.state)
    # what the damage took the names of is kept: a person may want it
    salvaged = (loop.state.host.salvaged_at or 0) / 1000
    store = loop.journal.store
    folder = str(state_folder / "archive")
    try:
        archive = Archive(Fs(), folder, store)
    except OSError as error:
        raise ConfigError(f"archive {folder}: cannot be opened: {error.strerror}") from None
    history = History(archive, loop.state)
    retention = Retention(
        archive,
        history,
        logs,
        bodies,
        needed=loop.state.children.needed_ids,
        live_bodies=lambda below, names: live_bodies(loop, below, names),
        rest=lambda: time.sleep(_REST),
    )
    index = os.path.join(state_folder, "history.sqlite")
    keeper = Keeper(
        archive,
        history,
        index,
        store,
        door_of(loop),
        retention,
        OldLogs(logs, lambda runs: not_over(loop.state, runs), lambda: time.sleep(_REST)),
        lambda: time.time_ns() // 10**6,
        whole=lambda index: sweep(bodies, InUse(live, index.has_body), salvaged),
    )
    return history, keeper


def not_over(state: State, runs: Sequence[int]) -> set[int]:
    """Those of the runs that have not ended."""
    found = ((number, state.runs.get(number)) for number in runs)
    return {number for number, run in found if run is not None and run.state is not RunState.DONE}


def sweep(bodies: Bodies, in_use: InUse, not_before: float) -> None:
    """Remove the bodies that no run has any more, and that are younger than `not_before` (s)."""
    gone = bodies.sweep(in_use, not_before=not_before)
    if gone:
        _log.info("bodies: %d files were removed that no run has", len(gone))


def bodies_in_memory(state: State) -> set[str]:
    """The names of the body files of runs in memory: payloads, results, output folders."""
    found: set[str] = set()
    for run in state.runs.oldest_first():
        if run.body is not None:
            found.add(run.body.name)
        for attempt in run.attempts or ():
            end = attempt.end
            for body in (end.result, end.output) if end is not None else ():
                if isinstance(body, list):
                    found.add(body[0])
    return found


def door_of(loop: CoreLoop) -> Door:
    """What the keeper needs of the loop."""
    state = loop.state

    def due(window: Window) -> bool:
        if state.ended > window.runs:
            return True
        try:
            run = state.runs.get(state.finished[0])
        except (IndexError, KeyError):
            return False  # the loop is about to change it
        before = time.time_ns() // 10**6 - window.age
        return run is None or run.note is None or run.note.at < before

    def leaving(window: Window, most: int) -> list[Run]:
        return archiving.leaving(state, window, loop.now.wall, most)

    def forget(runs: Sequence[int]) -> bool:
        if loop.room.missing(_ROOM + _ROOM_EACH * len(runs)):
            return False
        loop.decide(ArchiveRuns(runs), SYSTEM)
        return True

    def kept(where: int, run: int) -> tuple[int, bytes]:
        return loop.journal.kept(where, RUN, run)

    return Door(loop.post, due, leaving, forget, lambda runs: archiving.stay(state, runs), kept)


def live_bodies(
    loop: CoreLoop, below: int | None, names: frozenset[str]
) -> tuple[set[str], int | None]:
    """Which of the names the next runs in memory below an id have, and where to go on."""
    found: set[str] = set()
    for count, run in enumerate(loop.state.runs.newest_first(below), 1):
        if run.body is not None and run.body.name in names:
            found.add(run.body.name)
        if count == _SCAN:
            return found, run.id
    return found, None


class InUse:
    """The body files that some run has: those of runs in memory, and of archived ones."""

    def __init__(self, live: set[str], archived: Callable[[str], bool]) -> None:
        self._live, self._archived = live, archived

    def __contains__(self, name: object) -> bool:
        return name in self._live or self._archived(str(name))

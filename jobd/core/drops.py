"""Dropped files as runs: each is queued once, however often it is asked for. Pure.

A claimed file has a key of its own in its name. Which run a key has made is known for as long as
the file may still be there: until `DropSettled`, which is recorded after the file has gone for good
(DURABILITY, rulings: "a drop's key"). So a key that is not known was never queued, after any crash
and after any time.
"""

from __future__ import annotations

from jobd.core import events as e
from jobd.core.arrivals import Drop
from jobd.core.entities import Run
from jobd.core.states import RunState


class Drops:
    """The runs of dropped files that are not settled, by the files' keys."""

    __slots__ = ("_runs", "over")

    def __init__(self) -> None:
        self._runs: dict[str, int] = {}
        #: those that have ended, since somebody last looked
        self.over: list[int] = []

    def add(self, key: str, run: int) -> None:
        """A run was made of a file."""
        self._runs[key] = run

    def find(self, key: str) -> int | None:
        """The run that a file has made."""
        return self._runs.get(key)

    def runs(self) -> list[int]:
        """All runs that are not settled."""
        return list(self._runs.values())

    def ended(self, run: Run) -> None:
        """A run is over: its end is to be told where the file came from, if it came so."""
        if run.options is not None and "drop" in run.options:
            self.over.append(run.id)

    def restore(self, run: Run) -> None:
        """Take in a run that is known to stand so."""
        if run.options is not None and "drop" in run.options:
            self._runs[run.options["drop"][0]] = run.id
            if run.state is RunState.DONE:
                self.over.append(run.id)

    def settled(self, key: str) -> None:
        """It may be forgotten."""
        self._runs.pop(key, None)


def drop_of(run: Run) -> Drop | None:
    """The file that the run was made of, while it is not settled."""
    found = run.option("drop")
    return None if found is None else Drop(*found)


def held_name(run: Run) -> str | None:
    """The name of the file that is the run's payload without being copied, or None."""
    found = run.option("drop") or run.option("dropped")
    return found[2] if found is not None and found[3] is not None else None


def with_drop(event: e.RunQueued, drop: Drop) -> e.RunQueued:
    """The run's event with the file that it was made of."""
    return event._replace(options={**(event.options or {}), "drop": [*drop]})

"""Runs that wait for others to end (`queue --after`): who waits for whom, and what an end means.

A condition is `ok` (the parent succeeded), `fail` (it ended in any other way: cancelled and skipped
too) or `any`. It is the parent run that counts, over all of its attempts; a run that does it again
(`retry`) is another run, and nobody waits for that one.
"""

from __future__ import annotations

from typing import Protocol

from jobd.core.entities import Run
from jobd.core.model import met
from jobd.core.states import RunState

#: parents that one run may have
MOST = 1000
#: pairs of a run and a live parent that there may be in all: what one end lets down is one batch
MOST_PAIRS = 50_000


class Runs(Protocol):
    """Where a run is found by its id."""

    def get(self, run: int) -> Run | None:
        """The run, or None."""


class Children:
    """Parent -> the runs that wait for it."""

    __slots__ = ("_of", "_readers", "pairs")

    def __init__(self) -> None:
        self._of: dict[int, list[int]] = {}
        #: parent -> pairs with a run that is not over: its result may still be read
        self._readers: dict[int, int] = {}
        #: how many pairs of parent and child there are
        self.pairs = 0

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, child: Run, runs: Runs) -> set[int]:
        """Take in a run with parents; those that it has to wait for.

        A parent that is gone had ended as it should, or the run would not have been queued. One
        that ended otherwise stays among them: an event in the same batch skips the run.
        """
        open_ = set()
        self.read_by(child)
        for number, condition in child.option("after"):
            parent = runs.get(number)
            if parent is None:
                continue
            if parent.state is RunState.DONE:
                if not met(outcome_of(parent), condition) and child.option("unmet") != "hold":
                    open_.add(number)
            elif number not in open_:
                open_.add(number)
                self._of.setdefault(number, []).append(child.id)
                self.pairs += 1
        return open_

    def read_by(self, child: Run) -> None:
        """A run that is not over may read the results of its parents."""
        for number, _ in child.option("after") or ():
            self.hold(number)

    def hold(self, run: int) -> None:
        """Keep a run from being forgotten, until `free` is called as often."""
        self._readers[run] = self._readers.get(run, 0) + 1

    def free(self, run: int) -> None:
        """Undo one `hold`."""
        left = self._readers.get(run, 0) - 1
        if left > 0:
            self._readers[run] = left
        else:
            self._readers.pop(run, None)

    def needed(self, parent: int) -> bool:
        """Whether a run that is not over may read the parent's result: it must not be forgotten."""
        return parent in self._readers

    def needed_ids(self) -> list[int]:
        """The parents that are `needed`, in memory or in the archive."""
        return list(self._readers)

    def over(self, child: Run) -> None:
        """A child has ended: it reads its parents' results no more."""
        for number, _ in child.option("after") or ():
            self.free(number)

    def restore(self, child: Run) -> None:
        """Take in a run whose `parents` are known."""
        for number in sorted(child.parents or ()):
            self._of.setdefault(number, []).append(child.id)
            self.pairs += 1

    def of(self, parent: int) -> list[int]:
        """The ids of the runs that wait for `parent`; some may be over by now."""
        return self._of.get(parent, [])

    def parents(self) -> list[int]:
        """The runs that others wait for."""
        return list(self._of)

    def pop(self, parent: int) -> list[int]:
        """As :meth:`of`, and forget it: the parent has ended."""
        if not self._of:
            return []
        found = self._of.pop(parent, [])
        self.pairs -= len(found)
        return found


def outcome_of(run: Run) -> str:
    """How a run that is over ended."""
    return str(getattr(run.note, "outcome", ""))

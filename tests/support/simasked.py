"""Days in which somebody asks of waiting runs when they will start, and looks at what then happens.

Whom they ask of is chance: any run that waits, at any moment. Nothing is left out of the account
but runs that never started: an estimate that named no time is in it as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from jobd.capacity.ledger import Ledger
from jobd.core.entities import Run
from jobd.core.policy import Rules
from jobd.core.states import Kind, RunState
from jobd.forecast.prospect import Estimate, starts, view
from tests.support.simdays import HOST, Days

#: what is no error, in milliseconds
SECOND = 1_000


class Asked(NamedTuple):
    """One question: what it was that the run waited for, the estimate, and when it started. Times
    are milliseconds from the question on."""

    reason: str
    named: int | None
    bounds: tuple[int, int] | None
    started: int

    @property
    def ratio(self) -> float | None:
        """By how many times the wait that was named is the one that was; None: none was named."""
        if self.named is None:
            return None
        return max(self.named, SECOND) / max(self.started, SECOND)


class AskedDays(Days):
    """Days with questions: one at each so many passes, by chance."""

    def __init__(self, seed: int, jobs: int, runs: int, share: float) -> None:
        super().__init__(seed, jobs, runs)
        self.asked: list[Asked] = []
        self._who = Random(seed + 1)
        self._share = share
        self._open: dict[int, list[tuple[int, int, str, Estimate]]] = {}

    def _check(self, passes: int) -> None:
        super()._check(passes)
        if self._who.random() < self._share:
            waiting = [r for r in self.state.live_runs() if r.state is RunState.WAITING]
            if waiting:
                self._ask(self._who.choice(waiting))

    def _ask(self, run: Run) -> None:
        told = self._why(run)
        guess = Estimate(None, "not while the host is busy with something else")
        if self.ledger.closed(run.spec.kind) is None:
            free = Ledger(HOST, self.pace)
            free.engines = dict.fromkeys(Kind)
            seen = view(self.state, free, self.pace, Rules(), self.now)
            assert seen is not None
            guess = starts(seen, [run.id])[run.id]
        entry = (self.now.wall, len(run.attempts or ()), told.code if told else "", guess)
        self._open.setdefault(run.id, []).append(entry)

    def _look_at_claim(self, run: Run) -> None:
        super()._look_at_claim(run)
        for at, attempts, reason, guess in self._open.pop(run.id, ()):
            if attempts == len(run.attempts or ()):
                named = None if guess.at is None else guess.at - at
                bounds = guess.range and (guess.range[0] - at, guess.range[1] - at)
                self.asked.append(Asked(reason, named, bounds, self.now.wall - at))


def within(asked: Sequence[Asked], low: float, high: float) -> float:
    """The share of the named times whose ratio lies in these bounds."""
    ratios = [one.ratio for one in asked if one.ratio is not None]
    return sum(low <= ratio <= high for ratio in ratios) / max(1, len(ratios))


def told(asked: Sequence[Asked]) -> list[str]:
    """The distribution of the errors, in lines: of all, and by what the runs waited for."""
    lines = []
    for reason in ("all", *sorted({one.reason for one in asked})):
        some = [one for one in asked if reason in ("all", one.reason)]
        ratios = sorted(one.ratio for one in some if one.ratio is not None)
        line = f"{reason:9} asked {len(some):4}, named {len(ratios):4}"
        if ratios:
            cuts = [ratios[int(part * (len(ratios) - 1))] for part in (0.05, 0.25, 0.5, 0.75, 0.95)]
            line += f": {within(some, 0.75, 1.25):4.0%} within 25 %"
            line += f", {within(some, 0.5, 2):4.0%} within a factor of two; named / real at"
            line += " 5, 25, 50, 75, 95 %: " + " ".join(f"{cut:.2f}" for cut in cuts)
        lines.append(line)
    return lines

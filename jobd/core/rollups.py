"""What the ended runs of a job were like, hour by hour: small, mergeable, and kept when runs go.

A roll-up counts outcomes, and of each figure keeps number, sum, largest, and a sketch from which
quantiles can be told within 5 %: counts of values by their logarithm, which add up. After DDSketch
(Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch").
"""

from __future__ import annotations

from math import ceil, exp, log
from typing import Any

from jobd.core.entities import Attempt, Run

HOUR_MS = 3_600_000
#: the figures of each attempt: milliseconds, and bytes of memory at most
FIGURES = ("wait_ms", "pull_ms", "run_ms", "cpu_ms", "memory_peak")
#: values of one count differ by a tenth at most, so the middle of them by a twentieth
_GAMMA = 1.1
_LOG = log(_GAMMA)


class Sketch:
    """Number, sum and largest of values from 0 on, and how they are spread."""

    __slots__ = ("buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.largest = 0
        #: how many values lie in each power of `_GAMMA`; those below 1 in bucket -1
        self.buckets: dict[int, int] = {}

    def add(self, value: int) -> None:
        """Take a value in; one below 0 counts as 0."""
        value = max(0, value)
        bucket = -1 if value < 1 else ceil(log(value) / _LOG - 1e-9)
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Sketch) -> None:
        """Take in all values of another one."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        for bucket, number in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number

    def quantile(self, part: float) -> float | None:
        """The value below which that part (0 to 1) of them lies, within 5 %; None of none."""
        if not self.count:
            return None
        rank = part * (self.count - 1)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                middle = 0.0 if bucket < 0 else 2 * exp(bucket * _LOG) / (1 + _GAMMA)
                return min(middle, float(self.largest)) if bucket > 0 else middle
        return float(self.largest)

    def fields(self) -> list[Any]:
        """What :meth:`of` makes it from again."""
        return [self.count, self.total, self.largest, self.buckets]

    @classmethod
    def of(cls, fields: list[Any]) -> Sketch:
        """The sketch with these fields."""
        made = cls()
        made.count, made.total, made.largest, buckets = fields[:4]
        made.buckets = dict(buckets)
        return made


class Rollup:
    """Runs by outcome, how many attempts they had, and the figures of those."""

    __slots__ = ("attempts", "figures", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.attempts = 0
        self.figures = {name: Sketch() for name in FIGURES}

    def take(self, run: Run) -> None:
        """Count in a run that is over."""
        outcome = str(getattr(run.note, "outcome", ""))
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        for attempt in run.attempts or ():
            self._take(run, attempt)

    def _take(self, run: Run, attempt: Attempt) -> None:
        figures, started, end = self.figures, attempt.started, attempt.end
        self.attempts += 1
        figures["wait_ms"].add(attempt.claimed_at - waiting_since(run, attempt))
        if started is not None:
            figures["pull_ms"].add(started.pull_ms)
        if end is None:
            return
        if started is not None:
            figures["run_ms"].add((end.finished_at or end.at) - started.started_at)
        if end.cpu_seconds is not None:
            figures["cpu_ms"].add(round(end.cpu_seconds * 1000))
        if end.memory_peak is not None:
            figures["memory_peak"].add(end.memory_peak)

    def merge(self, other: Rollup) -> None:
        """Take in all that another one has."""
        self.attempts += other.attempts
        for outcome, number in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + number
        for name, sketch in other.figures.items():
            self.figures.setdefault(name, Sketch()).merge(sketch)

    def fields(self) -> list[Any]:
        """What :meth:`of` makes it from again."""
        figures = {name: sketch.fields() for name, sketch in self.figures.items() if sketch.count}
        return [self.outcomes, self.attempts, figures]

    @classmethod
    def of(cls, fields: list[Any]) -> Rollup:
        """The roll-up with these fields."""
        made = cls()
        outcomes, made.attempts, figures = fields[:3]
        made.outcomes = dict(outcomes)
        for name, sketch in figures.items():
            made.figures[name] = Sketch.of(sketch)
        return made


def hour_of(run: Run) -> int:
    """The hour since 1970 (UTC) in which a run ended."""
    return (run.note.at if run.note is not None else run.queued_at) // HOUR_MS


def waiting_since(run: Run, attempt: Attempt) -> int:
    """From when on an attempt could have begun (ms UTC): the run due, or the one before over."""
    if attempt.number == 1:
        return max(run.queued_at, run.option("not_before") or 0)
    before = (run.attempts or [])[attempt.number - 2]
    return before.end.at if before.end else run.queued_at

"""`[[on]] run = "etl"`: a run of the job for each end of another job's run, by its outcome. Pure.

With a list (`run = ["left", "right"]`) it waits until a run of each of them has ended so, of those
that began with the same run or notification: a fan-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobd.core import onfilter
from jobd.core.specvalues import check_name, choice, shown
from jobd.core.states import DEAD_OUTCOMES, Outcome
from jobd.errors import InvalidError

#: jobs that one entry may wait for
MOST = 32
KEYS = ("run", "outcome", "labels", "payload")

_outcome = choice("succeeded", "failed", "any")


@dataclass(frozen=True, slots=True)
class OnRun:
    """The jobs whose runs are meant, by name, and how they are to end."""

    runs: tuple[str, ...]
    outcome: str = "succeeded"
    filter: onfilter.Filter = onfilter.ALL

    @property
    def key(self) -> str:
        """What a gathering of several is known by, over revisions that leave it as it is."""
        return "+".join(self.runs)

    def means(self, outcome: str) -> bool:
        """Whether a run that ended so is meant.

        A run that was cancelled has not failed: nobody wants an alarm for what they did.
        """
        if self.outcome == "any":
            return True
        if self.outcome == "failed":
            return outcome in DEAD_OUTCOMES
        return outcome == Outcome.SUCCEEDED


def parse(given: Mapping[str, Any], path: str) -> OnRun:
    """Raises InvalidError naming the key below `path`."""
    value = given["run"]
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not 0 < len(names) <= MOST:
        raise InvalidError(f"{path}.run: {shown(value)}: expected a job, or up to {MOST} of them")
    runs = tuple(check_name(name, f"{path}.run") for name in names)
    for name in runs:
        if runs.count(name) > 1:
            raise InvalidError(f"{path}.run: {name} is there twice")
    outcome = given.get("outcome")
    return OnRun(
        runs,
        "succeeded" if outcome is None else _outcome(outcome, f"{path}.outcome"),
        onfilter.parse(given.get("labels"), given.get("payload"), path),
    )


def to_mapping(made: OnRun) -> dict[str, Any]:
    """As in a job file."""
    run = made.runs[0] if len(made.runs) == 1 else list(made.runs)
    return {"run": run, "outcome": made.outcome, **onfilter.to_mapping(made.filter)}

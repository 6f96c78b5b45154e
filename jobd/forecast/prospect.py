"""When waiting runs will probably start: what most of several tried futures agree on. Pure.

A time is named where they agree on it within a factor of about two; else the time between which
bounds it will be, which is all that the past allows to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from jobd.core.copying import copy, waiting
from jobd.core.dispatch import Admission
from jobd.core.entities import Run
from jobd.core.limits import Pace
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.forecast.future import Future
from jobd.forecast.pasts import Past, pasts
from jobd.units import duration_text

#: waiting runs in all that are gone through; behind more of them nobody can tell
MOST = 1_000
#: futures that are tried: of a long queue few, as it takes 0.5 ms for each start, and little is
#: chance where a thousand come before
_TRIED, _FEWEST, _STARTS = 15, 2, 2_000
#: how far ahead, in milliseconds
_AHEAD = 7 * 86_400_000
#: of the futures that are looked at, the upper bound may be so many times the lower one
_AGREED = 3.5
#: a difference that is nobody's matter, in milliseconds
_MOMENT = 1_000


class Estimate(NamedTuple):
    """When it will start (ms UTC; None: nobody can tell), what that is taken from, and the bounds
    between which four of five futures lie."""

    at: int | None
    text: str
    range: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What is to be known of a moment to tell its future: safe to be used beside the core."""

    state: State
    pasts: dict[int, Past]
    admission: Admission
    pace: Pace
    rules: Rules
    now: Now
    cards: int = 0


def view(
    state: State, admission: Admission, pace: Pace, rules: Rules, now: Now, cards: int = 0
) -> View | None:
    """The state as it is now, to look ahead from; None: too many runs wait."""
    found = waiting(state, MOST)
    if found is None:
        return None
    known = pasts(state, found, now.wall)
    return View(copy(state, found), known, admission, pace, rules, now, cards)


def starts(
    seen: View, asked: Collection[int], rest: Callable[[], None] = lambda: None
) -> dict[int, Estimate]:
    """When the runs with these ids will start. `rest` is called between futures."""
    count = max(_FEWEST, min(_TRIED, _STARTS // (seen.state.waiting + 1)))
    found: dict[int, list[int]] = {number: [] for number in asked}
    for number in range(count):
        for run, at in _tried(seen, set(asked), number).items():
            found[run].append(at)
        rest()
    return {run: _agreed(seen, run, sorted(times), count) for run, times in found.items()}


def _tried(seen: View, asked: set[int], number: int) -> dict[int, int]:
    """One future: when each of the runs starts, of those that do."""
    rng = Random(number)
    state = copy(seen.state, waiting(seen.state, MOST) or [])
    supposed = {job: past.supposed(rng) for job, past in seen.pasts.items()}
    future = Future(
        state, supposed, seen.admission, seen.pace, seen.rules, seen.now, rng, seen.cards
    )
    found: dict[int, int] = {}

    def start(run: Run) -> None:
        if run.id in asked:
            found.setdefault(run.id, future.now.wall)

    future.on_start = start
    most = 4 * (seen.state.waiting + 10)
    future.go(seen.now.wall + _AHEAD, most, lambda: len(found) == len(asked))
    return found


def _agreed(seen: View, number: int, times: list[int], count: int) -> Estimate:
    """What futures say of one run; in some of them it may never start."""
    wall, run = seen.now.wall, seen.state.run(number)
    if len(times) * 3 < count * 2:
        return Estimate(None, "it depends on what nobody knows: it may not start for a week")
    low, mid, high = (times[round(part * (len(times) - 1))] for part in (0.1, 0.5, 0.9))
    bounds = (low, high)
    if run.due is not None and high <= run.due + _MOMENT:
        return Estimate(run.due, "when it is due", bounds)
    if high - wall <= _MOMENT or high - wall + _MOMENT <= _AGREED * (low - wall + _MOMENT):
        return Estimate(mid, "if attempts take as long as the last ones", bounds)
    fresh = _fresh(seen, run)
    # whose job that is, the caller may not be meant to know
    why = {None: "it depends on others", run.job.name: "no run of its job has ended yet"}.get(
        fresh, "no run of a job before it has ended yet"
    )
    return Estimate(None, f"{why}; in {_in(low - wall)} to {_in(high - wall)}", bounds)


def _fresh(seen: View, run: Run) -> str | None:
    """The name of a job in the run's way of which no attempt has ended yet, or None."""
    for one in (*seen.state.active.values(), run):
        past = seen.pasts.get(one.job.id)
        if past is not None and not past.lengths:
            return one.job.name
    return None


def _in(ms: int) -> str:
    return duration_text(max(0, ms + 999) // 1000 * 1000)

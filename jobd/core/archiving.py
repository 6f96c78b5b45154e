"""Which finished runs leave memory, and what follows when they are in the archive. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core.commands import ArchiveRuns, Caller
from jobd.core.decision import NOTHING, Decision
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import RunState


class Window(NamedTuple):
    """What of the finished runs stays in memory: so many, and none older than `age` (ms)."""

    runs: int = 1000
    age: int = 24 * 3_600_000


class Wanted(NamedTuple):
    """What a list asks of archived runs: jobs by id, outcomes (or dead), times of the end (ms UTC),
    labels."""

    jobs: tuple[int, ...] | None = None
    outcomes: tuple[str, ...] | None = None
    dead: bool = False
    since: int | None = None
    until: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


class Found(NamedTuple):
    """A page of archived runs. All that fit and have an id from `below` on were looked at (0: all
    there are); `damaged`: those of them that cannot be read."""

    runs: list[Run]
    below: int
    damaged: Sequence[int] = ()


def leaving(state: State, window: Window, at: int, most: int) -> list[Run]:
    """Takes up to `most` finished runs that are beyond the window at `at` (ms UTC) off the list.

    Those that ended first; what then does not leave is to be given to :func:`stay`. Looks at no
    more than twice as many, so that it costs a pass little. A run whose child is not over stays, as
    the child may read its result, as does one that a run has queued that is not over, which may ask
    for it; they go to the end of the list.
    """
    finished = state.finished
    found: list[Run] = []
    over = state.ended - window.runs
    before = at - window.age
    for _ in range(min(len(finished), 2 * most)):
        run = state.runs.get(finished[0])
        if run is None:
            finished.popleft()
            continue
        ended_at = run.note.at if run.note is not None else 0
        if len(found) == most or (len(found) >= over and ended_at >= before):
            break
        finished.popleft()
        if _needed(state, run):
            finished.append(run.id)
        else:
            found.append(run)
    return found


def _needed(state: State, run: Run) -> bool:
    """Whether a run that is not over may ask for it, or be counted with it (core/inside.py)."""
    if run.option("drop") is not None:
        return True  # its end is to be told where its file came from
    made_by = run.option("made_by")
    maker = state.runs.get(made_by[0]) if made_by is not None else None
    return state.children.needed(run.id) or (maker is not None and maker.state is not RunState.DONE)


def stay(state: State, runs: Sequence[int]) -> None:
    """Put those of the runs back on the list, as the first, that are still in memory."""
    state.finished.extendleft(
        number for number in reversed(runs) if state.runs.get(number) is not None
    )


def ranges_of(numbers: Iterable[int]) -> list[list[int]]:
    """`[first, last]` of the numbers, those that follow each other in one."""
    made: list[list[int]] = []
    for number in sorted(numbers):
        if made and made[-1][1] == number - 1:
            made[-1][1] = number
        else:
            made.append([number, number])
    return made


def _archive(
    state: State, command: ArchiveRuns, now: Now, rules: Rules, caller: Caller
) -> Decision:
    ready = []
    for number in set(command.runs):
        run = state.runs.get(number)
        if run is None or run.state is not RunState.DONE or _needed(state, run):
            continue
        ready.append(number)
    if not ready:
        return NOTHING
    return Decision([e.HostRunsArchived(1, now.wall, ranges_of(ready))], [], len(ready))


DECIDERS: dict[type[Any], Callable[..., Decision]] = {ArchiveRuns: _archive}

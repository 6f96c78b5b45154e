"""What the end of runs means for those that wait for them: some will never start.

Those that may start now need no event: that follows from the parent's own (core/moves.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jobd.core import events as e
from jobd.core.entities import Run
from jobd.core.model import CONDITIONS, met
from jobd.core.parents import outcome_of
from jobd.core.state import State
from jobd.core.states import Outcome, RunState


def skipped_by(state: State, events: Sequence[e.Event], at: int) -> list[e.Event]:
    """The ends of all runs that the ends in `events` (not applied yet) let down, and so on."""
    over = deque(_ends(state, events))
    # those that are over or held by this very decision
    gone = {number for number, _ in over}
    cancelled = [event for event in events if type(event) is e.JobRunsCancelled]
    made: list[e.Event] = []
    ends: dict[int, str] = {}
    while over:
        number, outcome = over.popleft()
        for child in map(state.runs.get, state.children.of(number)):
            if child is None or child.id in gone or not child.parents:
                continue
            text = _let_down(number, outcome, child.option("after"))
            if text is None or any(_means(event, child) for event in cancelled):
                continue
            gone.add(child.id)
            event = _unmet(child.id, child.option("unmet"), text, at)
            if isinstance(event, e.RunFinished):
                over.append((child.id, event.outcome))
            elif child.state is RunState.HELD:
                continue  # somebody holds it already, and is told by `why`
            made.append(event)
        ends[number] = outcome
    return made + list(_skipped_anew(events, ends, at))


def _skipped_anew(
    events: Sequence[e.Event], ends: dict[int, str], at: int
) -> Iterator[e.RunFinished | e.RunHeld]:
    """The ends of runs that are queued behind one that their very queueing ends (`--latest`)."""
    over = {event.run for event in events if type(event) is e.RunFinished}
    for event in events:
        if type(event) is e.RunQueued and event.options and event.run not in over:
            after = event.options.get("after") or ()
            texts = (
                _let_down(number, ends[number], after) for number, _ in after if number in ends
            )
            text = next((text for text in texts if text is not None), None)
            if text is not None:
                yield _unmet(event.run, event.options.get("unmet"), text, at)


def skipped_at_once(
    state: State,
    run: int,
    after: Sequence[Sequence[object]],
    unmet: str,
    past: Mapping[int, str],
    at: int,
) -> e.RunFinished | e.RunHeld | None:
    """The end of a run that is queued behind one that has ended otherwise already; else None.

    `past`: how those ended that have left memory.
    """
    for each, _ in after:
        number = int(str(each))
        parent = state.runs.get(number)
        if parent is not None and parent.state is RunState.DONE:
            outcome = outcome_of(parent)
        elif parent is None and number in past:
            outcome = past[number]
        else:
            continue
        text = _let_down(number, outcome, after)
        if text is not None:
            return _unmet(run, unmet, text, at)
    return None


def _let_down(parent: int, outcome: str, after: Sequence[Sequence[object]]) -> str | None:
    """The sentence for a run that asked for another end of its parent; None where it is met."""
    for number, condition in after:
        if number == parent and not met(outcome, str(condition)):
            return f"run {parent} was to {CONDITIONS[str(condition)]} and is {outcome}"
    return None


def _unmet(run: int, unmet: str | None, text: str, at: int) -> e.RunFinished | e.RunHeld:
    """What becomes of a run whose parent ended otherwise, as its submitter asked."""
    if unmet == "hold":
        return e.RunHeld(run, at, "parent", f"{text}; release or cancel it")
    outcome = Outcome.FAILED if unmet == "fail" else Outcome.SKIPPED
    return e.RunFinished(run, at, outcome, "parent", text)


def _ends(state: State, events: Iterable[e.Event]) -> Iterator[tuple[int, str]]:
    """Run and outcome of each end in `events` that somebody may wait for."""
    for event in events:
        if type(event) is e.RunFinished:
            yield event.run, event.outcome
        elif type(event) is e.JobRunsCancelled:
            for run in map(state.runs.get, state.children.parents()):
                if run is not None and _means(event, run):
                    yield run.id, Outcome.CANCELLED


def _means(event: e.JobRunsCancelled, run: Run) -> bool:
    return (
        run.job.id == event.job
        and run.state in (RunState.WAITING, RunState.HELD)
        and any(first <= run.id <= last for first, last in event.ranges)
    )

"""What asking the daemon is made of: steps that say what they wait for, and who carries them out.

Everything between a call and its answer (how to ask again, what a lost daemon means, where to go on
in a log) is written once, as generators that yield one of the four things below. :func:`drive` and
:func:`stream` carry them out for the blocking client, jobctl/aio.py for asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from jobd.errors import JobdError

_T = TypeVar("_T")


class Pause:
    """Nothing for so many seconds."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Look:
    """Until the connection has something, `seconds` at most; answered as `Waiting.look` does."""

    __slots__ = ("on", "seconds")

    def __init__(self, on: Waiting, seconds: float) -> None:
        self.on = on
        self.seconds = seconds


class Work:
    """A call that may block for a part of a second; answered by what it returns or raises."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call


class Item:
    """Something for the caller, with more to come (:func:`stream`)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Waiting(Protocol):
    """What can be looked at: a connection."""

    def look(self, seconds: float) -> tuple[bool, bool]:
        """Whether a reply is there, and whether the death detector stirred; waits for either."""

    def descriptors(self) -> list[int]:
        """The file descriptors whose readiness makes another `look(0)` worth while."""


Step = Pause | Look | Work | Item
#: a call: yields steps, is sent their answers, returns what the caller wants
Steps = Generator[Step, Any, _T]


def perform(step: Step) -> Any:
    """Carry a step out by waiting for it."""
    if isinstance(step, Look):
        return step.on.look(step.seconds)
    if isinstance(step, Work):
        return step.call()
    assert isinstance(step, Pause)
    return time.sleep(step.seconds)


def stream(steps: Steps[_T]) -> Generator[Any, None, _T]:
    """Carries the steps out; yields the items as they come, returns what the call returns."""
    answer: Any = None
    problem: Exception | None = None
    while True:
        try:
            step = steps.send(answer) if problem is None else steps.throw(problem)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        answer = problem = None
        if isinstance(step, Item):
            yield step.value
            continue
        try:
            answer = perform(step)
        except (OSError, JobdError) as error:
            problem = error


def drive(steps: Steps[_T]) -> _T:
    """Carries the steps out; what the call returns. Its items, where it has any, are dropped."""
    items = stream(steps)
    try:
        while True:
            next(items)
    except StopIteration as stop:
        value: _T = stop.value
        return value

"""How jobd is asked: what the calls of each noun are made of.

A call is a function of a channel and of what the caller gives; it yields steps (jobctl/steps.py).
The calls stand in a module for each noun: jobctl/jobcalls.py, runcalls.py, queueing.py,
scheduling.py, topics.py, alerting.py, control.py (the host), transfers.py. `jobctl.client.Client`
and `jobctl.aio.AsyncClient` have a method of the same name for each, with the signature and the
text that stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jobctl.channel import Channel
from jobctl.shape import shaped
from jobctl.steps import Item, Steps
from jobctl.values import is_single
from jobd.errors import JobdError

Run = dict[str, Any]
Job = dict[str, Any]
Selector = int | str
_T = TypeVar("_T")


def ask(to: Channel, verb: str, arguments: dict[str, Any]) -> Steps[dict[str, Any]]:
    """The answer in JSON's shape."""
    answer: dict[str, Any] = shaped((yield from to.ask(verb, arguments)))
    return answer


def change(to: Channel, verb: str, arguments: dict[str, Any]) -> Steps[dict[str, Any]]:
    """As `ask`, as a piece of work of its own."""
    to.new_keys()
    return (yield from ask(to, verb, arguments))


def collect(
    to: Channel, verb: str, arguments: dict[str, Any], name: str
) -> Steps[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The rows of all parts in JSON's shape, and the last word."""
    rows: list[dict[str, Any]] = []
    last: dict[str, Any] = yield from to.ask(
        verb, arguments, each=lambda part: rows.extend(part[name])
    )
    return shaped(rows), last


def each_run(to: Channel, verb: str, selectors: Sequence[Selector], **more: Any) -> Steps[Any]:
    """A verb that answers `[id, status]` of each run: one where one was asked for."""
    which = {"runs": named(selectors)} if selectors else {}
    answer = yield from change(to, verb, {**which, **more})
    rows = [{"id": number, "status": word} for number, word in answer["runs"]]
    if answer["count"] > len(rows):
        to.note(f"{answer['count']} runs; the first {len(rows)} of them are shown")
    single = len(selectors) == 1 and is_single(str(selectors[0]))
    return rows[0] if single and rows else rows


def given(**values: Any) -> dict[str, Any]:
    """What was given, without what was not."""
    return {name: value for name, value in values.items() if value is not None}


def each_item(steps: Steps[_T], made: Callable[[Any], Sequence[Any]]) -> Steps[_T]:
    """The same steps, with several items made of each item."""
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
            for value in made(step.value):
                yield Item(value)
            continue
        try:
            answer = yield step
        except (OSError, JobdError) as error:
            problem = error


def named(selectors: Sequence[Selector]) -> list[str]:
    """Selectors as the wire has them."""
    return [str(selector) for selector in selectors]

"""What the events of ends and topics that others listen to do to the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import onevents as o
from jobd.core.moves import Moves
from jobd.core.reactions import Refusal


def _refused(state: Moves, event: o.ReactionRefused) -> None:
    state.job(event.job)
    refused = state.reactions.refused
    old = refused.get(event.job)
    refused[event.job] = Refusal(*event[1:], 1 if old is None else old.times + 1)


def _reached(state: Moves, event: o.JoinReached) -> None:
    state.job(event.job)
    state.reactions.reach(event, state.children)


def _ended(state: Moves, event: o.JoinEnded) -> None:
    state.job(event.job)
    state.reactions.end_join(event.job, event.key, event.root, state.children)


def _emitted(state: Moves, event: o.TopicEmitted) -> None:
    """That it was is in the queue's files, and in nothing that grows."""


APPLIERS: dict[type[Any], Callable[[Any, Any], None]] = {
    o.ReactionRefused: _refused,
    o.JoinReached: _reached,
    o.JoinEnded: _ended,
    o.TopicEmitted: _emitted,
}

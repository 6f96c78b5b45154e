"""The state that records tell of: first the statements of a snapshot, then events."""

from __future__ import annotations

import gc
from collections.abc import Iterable

from jobd.core import events, statements
from jobd.core.events import decode
from jobd.core.restoring import Restoring
from jobd.core.state import State
from jobd.errors import DiskFailedError
from jobd.journal import Record

#: every type of record that this program knows (DURABILITY R12)
KNOWN_TYPES = frozenset(events.BY_TYPE) | frozenset(statements.BY_TYPE)


def fold(records: Iterable[Record]) -> State:
    """The state that the records make. Raises DiskFailedError for a sequence that cannot be."""
    restoring = Restoring()
    state, takers = restoring.state, restoring.takers
    gc.disable()  # a collection amid a million new objects finds nothing and costs a third
    try:
        # a record's fields by place: a million of these are most of a start
        for type_, _, id_, told, body, where, _ in records:
            take = takers.get(type_)
            if take is not None:
                take(id_, told, body)
                continue
            event = decode(type_, id_, body)
            revision = state.apply(event)
            if revision != told:
                raise DiskFailedError(
                    f"queue: {type(event).__name__} of {id_} is change {told}, "
                    f"expected {revision}: a bug; run `jobd fsck`"
                )
            state.placed(event, where)
    finally:
        gc.enable()
    return state

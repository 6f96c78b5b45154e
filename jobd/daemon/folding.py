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
        for record in records:
            take = takers.get(record.type)
            if take is not None:
                take(record.id, record.revision, record.body)
                continue
            event = decode(record.type, record.id, record.body)
            revision = state.apply(event)
            if revision != record.revision:
                raise DiskFailedError(
                    f"queue: {type(event).__name__} of {record.id} is change {record.revision}, "
                    f"expected {revision}: a bug; run `jobd fsck`"
                )
            state.placed(event, record.where)
    finally:
        gc.enable()
    return state

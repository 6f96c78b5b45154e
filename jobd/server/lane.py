"""The short way of a plain submission through the server (core/plain.py): one object a pass.

A request costs the loop 10 us this way, and twice that by `handlers.answer`. It is taken only where
the answer is a success; for all else :meth:`Lane.queue` gives None, and the long way answers.
"""

from __future__ import annotations

from jobd.core.access import Right, may
from jobd.core.commands import Caller
from jobd.core.plain import Grant, grant, plain
from jobd.server.kernel import Kernel, Request
from jobd.server.runs import INLINE, RUN_ROOM
from jobd.wire import envelope


class Lane:
    """Grants for one pass, or less: :meth:`close` where anything else was decided in between."""

    __slots__ = ("_by", "_caller", "_grants", "_kernel", "_name", "_room", "_state", "_take")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._state = kernel.state
        self._take = kernel.take
        self._grants: dict[tuple[int, str], Grant] = {}
        #: who asked last, for which job, and what they were granted
        self._caller: Caller | None = None
        self._name = ""
        self._by: Grant | None = None
        #: bytes that are known to fit
        self._room = 0

    def close(self) -> None:
        """Believe nothing any more: something else was decided on."""
        self._grants.clear()
        self._caller = self._by = None
        self._room = 0

    def queue(self, request: Request) -> bytes | None:
        """The frame of the answer, true after the sync; None: not by this way."""
        arguments, key = request.arguments, request.key
        if len(arguments) != 2 or key is None:
            return None
        name, payload = arguments.get("job"), arguments.get("payload")
        if type(name) is not str or type(payload) is not bytes:
            return None
        if request.caller is self._caller and name == self._name:
            by = self._by
        else:
            by = self._grants.get((id(request.caller), name)) or self._grant(request, name)
            self._caller, self._name, self._by = request.caller, name, by
        size = len(payload) + RUN_ROOM
        if by is None or (size > self._room and not self._has_room(size)):
            return None
        if size > INLINE + RUN_ROOM:
            return None  # it becomes a file of its own
        event = plain(self._state, by, payload, key)
        if event is None:
            return None
        self._room -= size
        self._take(event)
        body = {"runs": ((event.run, False),), "warnings": ()}
        return envelope.result(request.number, body)

    def _grant(self, request: Request, name: str) -> Grant | None:
        kernel, caller = self._kernel, request.caller
        rules, job = kernel.rules, self._state.jobs.get(name)
        if (
            job is None
            or caller.within is not None
            or not may(caller, Right.SUBMIT, rules.access, job.spec.access)
        ):
            return None
        if kernel.never_fits(name) is not None:
            return None
        made = grant(self._state, name, caller, rules, kernel.now.wall)
        if made is not None:
            # `caller` is kept by the request's connection for longer than the pass
            self._grants[id(caller), name] = made
        return made

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes fit; where many do, as many as a pass may take are known to."""
        self._room = min(self._kernel.room_for(size), 1 << 20)
        return size <= self._room

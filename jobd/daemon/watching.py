"""Watched paths and the loop: their changes become runs, and the marks move in the same batch."""

from __future__ import annotations

from collections.abc import Callable

from jobd.core.arrivals import TakeChanges
from jobd.core.commands import Body
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.errors import RefusedError
from jobd.intake.loading import INLINE
from jobd.intake.paths import Paths
from jobd.intake.watched import Group
from jobd.server.runs import RUN_ROOM

#: what a group takes of the queue's disk beside its runs: a number for each file that was told
_NUMBER = 9


class Watching:
    """The intake of changed paths; its thread is there once a job watches something."""

    def __init__(self, loop: CoreLoop, keep: Callable[[bytes], Body]) -> None:
        """`keep` makes a body file of a long payload; it is called beside the loop."""
        self._loop = loop
        self._keep = keep
        self._paths: Paths | None = None

    def look(self) -> None:
        """The jobs have changed: watch what they say now. For the loop's thread."""
        watches = self._loop.state.watches.every()
        if self._paths is None:
            if not watches:
                return
            self._paths = Paths(self._deliver, self._loop.fatal)
        self._paths.watch(
            [(one.key, one.job.name, one.spec, one.mark, one.seen) for one in watches]
        )

    def close(self) -> None:
        """End the thread."""
        if self._paths is not None:
            self._paths.close()

    def _deliver(self, group: Group) -> None:
        """In the thread of the paths."""
        assert self._paths is not None
        try:
            payloads = [
                data if len(data) <= INLINE else self._keep(data) for data in group.payloads
            ]
        except RefusedError as error:
            self._paths.went(group.key, str(error))
            return
        command = TakeChanges(*group.key, payloads, group.mark, group.seen)
        self._loop.post(lambda: self._take(command))

    def _take(self, command: TakeChanges) -> None:
        loop, paths = self._loop, self._paths
        assert paths is not None
        inline = sum(len(each) for each in command.payloads if isinstance(each, bytes))
        key = command.job, command.name
        try:
            size = inline + RUN_ROOM * len(command.payloads) + _NUMBER * len(command.seen)
            loop.room.require(size)
            loop.decide(command, SYSTEM)
        except RefusedError as error:
            paths.went(key, str(error))
            return
        loop.after_sync(lambda: paths.went(key))

"""An engine whose silence is told at once to whoever decides on claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobd.engine.base import (
    Ending,
    Engine,
    EngineInfo,
    EngineTroubleError,
    EngineUnreachableError,
    Found,
    Line,
    Order,
    Phase,
    Progress,
    Started,
    Usage,
)


class NoticingEngine:
    """`engine`, call for call; `away` is told of each :class:`EngineUnreachableError`.

    Not of trouble that the engine itself reports: it answers then. `away` is called from any
    thread, and must return at once.
    """

    def __init__(self, engine: Engine, away: Callable[[EngineUnreachableError], None]) -> None:
        self._engine = engine
        self._away = away

    @contextmanager
    def _noticed(self) -> Iterator[Engine]:
        try:
            yield self._engine
        except EngineTroubleError:
            raise
        except EngineUnreachableError as error:
            self._away(error)
            raise

    def connect(self) -> EngineInfo:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.connect()

    def start(self, order: Order, progress: Progress) -> Started:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.start(order, progress)

    def phase(self, ref: str) -> Phase:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.phase(ref)

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """As the engine's."""
        with self._noticed() as engine:
            yield from engine.output(ref, since_ns)

    def ending(self, ref: str) -> Ending | None:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.ending(ref)

    def signal(self, ref: str, signal: str) -> None:
        """As the engine's."""
        with self._noticed() as engine:
            engine.signal(ref, signal)

    def usage(self, ref: str) -> Usage:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.usage(ref)

    def discard(self, ref: str) -> None:
        """As the engine's."""
        with self._noticed() as engine:
            engine.discard(ref)

    def found(self) -> list[Found]:
        """As the engine's."""
        with self._noticed() as engine:
            return engine.found()

    def close(self) -> None:
        """As the engine's."""
        self._engine.close()

"""The engines of one daemon side by side: each attempt goes to the one that its kind needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from jobd.engine.base import (
    Ending,
    Engine,
    EngineInfo,
    EngineUnreachableError,
    Found,
    Line,
    Order,
    Phase,
    Progress,
    Started,
    Usage,
)


class Absent:
    """Stands where this daemon has no engine of a kind: as one that is out of reach, with why.

    So runs that need it wait, and nothing is said about attempts that it may have had.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def _refuse(self) -> NoReturn:
        raise EngineUnreachableError(self.why)

    def connect(self) -> EngineInfo:
        """See the protocol."""
        self._refuse()

    def start(self, order: Order, progress: Progress) -> Started:
        """See the protocol."""
        self._refuse()

    def phase(self, ref: str) -> Phase:
        """See the protocol."""
        self._refuse()

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """See the protocol."""
        self._refuse()

    def ending(self, ref: str) -> Ending | None:
        """See the protocol."""
        self._refuse()

    def signal(self, ref: str, signal: str) -> None:
        """See the protocol."""
        self._refuse()

    def usage(self, ref: str) -> Usage:
        """See the protocol."""
        self._refuse()

    def discard(self, ref: str) -> None:
        """See the protocol."""
        self._refuse()

    def found(self) -> list[Found]:
        """See the protocol."""
        self._refuse()

    def close(self) -> None:
        """See the protocol."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The engine for containers, and the one for processes of the host."""

    containers: Engine
    processes: Engine

    def of(self, image: str) -> Engine:
        """The engine of a job with that image; empty: of one without."""
        return self.containers if image else self.processes

    def close(self) -> None:
        """Let go of both. Attempts go on."""
        self.containers.close()
        self.processes.close()

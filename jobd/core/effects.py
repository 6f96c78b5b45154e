"""What is to be done in the world, once the batch that decided it is on disk."""

from __future__ import annotations

from typing import NamedTuple


class StartAttempt(NamedTuple):
    """See to it that the attempt runs; `started` says that the journal knows it did start."""

    run: int
    number: int
    started: bool = False


class SignalAttempt(NamedTuple):
    """Send the attempt a signal: its stop signal, or SIGKILL after the grace."""

    run: int
    number: int
    signal: str


class DiscardAttempt(NamedTuple):
    """Its end is durable: remove its container and folder."""

    run: int
    number: int


Effect = StartAttempt | SignalAttempt | DiscardAttempt

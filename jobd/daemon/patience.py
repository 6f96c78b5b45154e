"""Waiting for what does not answer: growing pauses, and a memory of when the engine was away."""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an attempt's driver waits for what; all in seconds."""

    #: first and longest pause between two tries; each is shortened by up to half at random
    backoff_first: float = 0.2
    backoff_longest: float = 10.0
    #: how often the end is asked for while the output is not followed
    poll: float = 1.0
    #: how long a claim waits for a registry before it gives its share of the host back
    pull_patience: float = 30.0
    #: how far apart two answers "no such attempt" must be (DURABILITY, "spurious NoSuchContainer")
    gone_apart: float = 5.0
    #: how near to a loss of the engine an end by signal counts as the host's fault
    fault_window: float = 10.0
    #: an engine that was away for less is not worth a note in the log
    notice: float = 1.0
    #: how long an ended attempt's report waits for the engine to give the rest of the output
    log_patience: float = 60.0
    #: how long it waits for room for its result on a full disk
    result_patience: float = 60.0


class Backoff:
    """Pauses that double from the first to the longest, each shortened at random by up to half.

    At random, so that fifty attempts do not ask an engine that has just come back all at once.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._next = timing.backoff_first

    def reset(self) -> None:
        """All is well again: the next pause is the first."""
        self._next = self._timing.backoff_first

    def pause(self) -> float:
        """The next pause in seconds."""
        pause = self._next
        self._next = min(self._next * 2, self._timing.backoff_longest)
        return pause * random.uniform(0.5, 1.0)


class Losses:
    """When the engine was out of reach: the last few times."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque(maxlen=8)
        self._since_ms = 0
        self._since: float | None = None

    def lost(self) -> None:
        """The engine did not answer."""
        if self._since is None:
            self._since = time.monotonic()
            self._since_ms = _now_ms()

    def answered(self) -> float:
        """The engine answered; how long it had been away, in seconds (0 where it had not)."""
        if self._since is None:
            return 0.0
        away = time.monotonic() - self._since
        self._since = None
        self._spans.append((self._since_ms, _now_ms()))
        return away

    def near(self, at_ms: int, window_s: float) -> bool:
        """Whether `at_ms` (milliseconds UTC) lies in a loss, or so near to one."""
        window = int(window_s * 1000)
        spans = list(self._spans)
        if self._since is not None:
            spans.append((self._since_ms, _now_ms()))
        return any(begin - window <= at_ms <= end + window for begin, end in spans)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

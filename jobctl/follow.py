"""Reads a run's log from the daemon, piece by piece, over attempts where it is followed.

The daemon keeps no state for a follower: each piece is asked for, with where to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobctl.channel import Channel
from jobctl.logtext import entries
from jobctl.shape import FINAL
from jobctl.steps import Item, Pause, Steps
from jobd.errors import NotFoundError
from jobd.wire.envelope import HOLD_MS

#: seconds between asking, where the daemon answers a held request at once with nothing new
_PAUSE = 0.2


class Followed:
    """What is known of the run whose log is read; updated with each piece."""

    __slots__ = ("attempt", "attempts", "run", "status")

    def __init__(self) -> None:
        self.run = 0
        self.status = ""
        #: the attempt that is being read, and how many have begun
        self.attempt = self.attempts = 0


def read(
    channel: Channel,
    run: str,
    *,
    attempt: int | None = None,
    tail: int | None = None,
    since: int | None = None,
    follow: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    next_attempt: Callable[[Followed], None] = lambda state: None,
    state: Followed | None = None,
    whole: bool = False,
) -> Steps[None]:
    """The log's entries in pieces, each an item: of `attempt`, else the last; more with `follow`.

    With `follow` it goes on over further attempts until the run has ended. An empty list means
    that all there is was read, and what comes next is new. `since` is in milliseconds UTC; `whole`
    begins with the first attempt.
    """
    state = state or Followed()
    request = _Request(run, attempt=1 if whole else attempt, tail=tail, since=since)
    expected = whole
    while True:
        try:
            answer = yield from request.send(channel)
        except NotFoundError:
            # the run ended before the attempt that was waited for: cancelled, mostly
            if expected:
                return
            raise
        state.run, state.status, state.attempts = (
            answer["run"],
            answer["status"],
            answer["attempts"],
        )
        if answer["progress"] != request.said:
            request.said = answer["progress"]
            if request.said:
                progress(request.said)
        over = state.status in FINAL or not follow
        if not request.reached(answer):
            if over:
                return
        else:
            state.attempt = answer["attempt"]
            if answer["data"]:
                yield Item(entries(answer["data"], state.attempt))
            if answer["end"]:
                if over and (not follow or state.attempt >= state.attempts):
                    return
                expected = True
                next_attempt(state)
                request.next(attempt=state.attempt + 1)
                continue
            if not follow and not answer["data"]:
                return
            request.next(attempt=state.attempt, offset=answer["offset"])
            if answer["data"]:
                continue
        if not request.holds:
            yield Item([])
        yield from request.hold()


class _Request:
    """The next `log.read`: asked at once while there is more, else with `hold`."""

    __slots__ = ("_arguments", "_began", "_run", "holds", "said")

    def __init__(self, run: str, **where: int | None) -> None:
        self._run = run
        #: the progress that was told last; the daemon answers when there is another
        self.said = ""
        self._began = 0.0
        self.next(**where)

    def next(self, **where: int | None) -> None:
        """Asks for another place; without `hold`, so that what is there comes without waiting."""
        self.holds = False
        self._arguments: dict[str, Any] = {"run": self._run}
        self._arguments.update({k: value for k, value in where.items() if value is not None})

    def hold(self) -> Steps[None]:
        """From now on the daemon keeps the request until there is something new."""
        if self.holds and time.monotonic() - self._began < _PAUSE:
            yield Pause(_PAUSE)
        self.holds = True
        self._arguments["hold"] = HOLD_MS

    def send(self, channel: Channel) -> Steps[dict[str, Any]]:
        """The daemon's answer."""
        self._began = time.monotonic()
        if self.holds:
            self._arguments["progress"] = self.said
        answer: dict[str, Any] = yield from channel.ask(
            "log.read", self._arguments, hold_ms=HOLD_MS if self.holds else 0
        )
        return answer

    def reached(self, answer: dict[str, Any]) -> bool:
        """Whether the attempt that was asked for has begun."""
        number: int = answer["attempt"]
        wanted: int = self._arguments.get("attempt", 1)
        return number >= max(wanted, 1)

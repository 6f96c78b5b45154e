"""The requests that wait until something changes, or their time is over. The desk's own."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from jobd.errors import RefusedError
from jobd.server.kernel import ANYTHING, MANY, Later, Request

#: requests of one user that wait, their bytes, and how many of them for anything at all: these are
#: asked again with every change
_MOST, _MOST_BYTES, _MOST_ANYTHING = 8_192, 16 << 20, 256


class Parking:
    """Requests by the runs that they wait for, by connection and by deadline."""

    def __init__(self) -> None:
        self._parked: dict[Request, frozenset[int]] = {}
        self._by_run: dict[int, set[Request]] = {}
        self._by_peer: dict[int, set[Request]] = {}
        self._sizes: dict[Request, int] = {}
        #: by uid
        self._count: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._anything: Counter[int] = Counter()
        self._deadlines: list[tuple[int, int, Request]] = []
        self._counter = 0

    def __bool__(self) -> bool:
        return bool(self._parked)

    def park(self, request: Request, later: Later, now_mono: int) -> None:
        """Keep a request. Raises RefusedError where too many of its user's wait already."""
        self._require_room(request, later)
        if request.deadline is None:
            request.deadline = now_mono + later.hold
        self._counter += 1
        heapq.heappush(self._deadlines, (request.deadline, self._counter, request))
        self._parked[request] = later.runs
        self._by_peer.setdefault(request.peer, set()).add(request)
        for run in later.runs:
            self._by_run.setdefault(run, set()).add(request)
        self._sizes[request] = _size(request)
        self._account(request, later.runs, 1)

    def _require_room(self, request: Request, later: Later) -> None:
        uid, size = request.turn, _size(request)
        if self._count[uid] >= _MOST or self._bytes[uid] + size > _MOST_BYTES:
            raise RefusedError(
                f"{request.verb}: {self._count[uid]} requests of {_who(uid)} wait already, of "
                f"{self._bytes[uid]} bytes: at most {_MOST} may, of {_MOST_BYTES} bytes; wait for "
                "several runs with one request, or ask again later"
            )
        if ANYTHING in later.runs and self._anything[uid] >= _MOST_ANYTHING:
            raise RefusedError(
                f"{request.verb}: {_MOST_ANYTHING} requests of {_who(uid)} wait for new events "
                "already: follow them with fewer, or ask again later"
            )

    def _account(self, request: Request, runs: frozenset[int], sign: int) -> None:
        uid = request.turn
        self._count[uid] += sign
        self._bytes[uid] += sign * self._sizes[request]
        self._anything[uid] += sign * (ANYTHING in runs)
        if not self._count[uid]:
            del self._count[uid], self._bytes[uid], self._anything[uid]

    def take(self, request: Request) -> None:
        """Let go of a request that is kept."""
        others = self._by_peer[request.peer]
        others.discard(request)
        if not others:
            del self._by_peer[request.peer]
        runs = self._parked.pop(request)
        for run in runs:
            waiting = self._by_run[run]
            waiting.discard(request)
            if not waiting:
                del self._by_run[run]
        self._account(request, runs, -1)
        del self._sizes[request]

    def forget(self, peers: set[int]) -> None:
        """Let go of what was asked over connections that are gone."""
        for peer in peers & self._by_peer.keys():
            for request in list(self._by_peer[peer]):
                self.take(request)

    def changed(self, runs: set[int], ranges: Sequence[Sequence[int]]) -> Iterable[Request]:
        """The requests that wait for one of these runs, or for one in these ranges, all of which
        are added to `runs`; each once, and not kept any longer."""
        if ranges:
            # looked for among those that are waited for: the ranges may mean a million
            runs |= _within(self._by_run, ranges)
            runs.add(MANY)
        woken: dict[Request, None] = {}
        for run in runs:
            woken.update(dict.fromkeys(self._by_run.get(run, ())))
        for request in woken:
            self.take(request)
        return woken

    def overdue(self, now_mono: int) -> Request | None:
        """One whose time is over, which is not kept any longer."""
        while self._deadlines and self._deadlines[0][0] <= now_mono:
            _, _, request = heapq.heappop(self._deadlines)
            if request in self._parked:
                self.take(request)
                return request
        return None

    def wait_ms(self, now_mono: int) -> int | None:
        """How long nothing here comes due; None: nothing is parked."""
        while self._deadlines and self._deadlines[0][2] not in self._parked:
            heapq.heappop(self._deadlines)
        return max(0, self._deadlines[0][0] - now_mono) if self._deadlines else None


def _size(request: Request) -> int:
    """Bytes that a request takes while it waits, about."""
    return request.size + 8 * len(request.pending or ())


def _within(runs: Iterable[int], ranges: Sequence[Sequence[int]]) -> set[int]:
    """Those of the runs that are in one of the ranges `[first, last]`, of which there may be
    thousands."""
    ordered = sorted((first, last) for first, last in ranges)
    firsts = [first for first, _ in ordered]
    lasts = list(accumulate((last for _, last in ordered), max))
    return {run for run in runs if (at := bisect_right(firsts, run)) and run <= lasts[at - 1]}


def _who(turn: int) -> str:
    return f"uid {turn}" if turn >= 0 else f"run {-turn}"

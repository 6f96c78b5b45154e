"""The requests under way: answered now, in parts, by a thread, or later when something changed.

Owned by the core loop's thread, but for the work that it hands to its own threads. Replies are kept
until :meth:`Desk.flush`, which the loop calls after the sync: a reply means "on disk".
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jobd.errors import JobdError, OutcomeUnknownError
from jobd.server.handlers import answer, guarded
from jobd.server.kernel import MANY, Kernel, Later, Offload, Parts, Request
from jobd.server.lane import Lane
from jobd.server.parking import Parking
from jobd.server.rota import Lanes, Rota
from jobd.server.router import Router
from jobd.wire import envelope
from jobd.wire.verbs import BY_NAME

#: requests taken in one pass of the loop, and those that are read before they are answered
_TAKEN, _ROUND = 2_000, 64
#: bytes made of answers in parts in one pass, before what is there is sent
_STREAMED = 4 << 20
#: runs that are remembered to have changed while a thread was at work
_NAMED = 1_000
#: seconds that requests, and answers in parts, may take of one pass: then it is others' turn
_SLICE_S = 0.03
#: threads for work on files, and works that are given to them at once
_THREADS = 2
_GIVEN = 2 * _THREADS


class Desk:
    """Every request from its arrival to its last reply."""

    def __init__(
        self, router: Router, post: Callable[[Callable[[], None]], None], watched: set[int]
    ) -> None:
        self._router = router
        self._post = post
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._replies: list[tuple[Request, bytes, bool]] = []
        #: answers in parts by connection: its first goes on, the others come after it
        self._streams: dict[int, deque[tuple[Request, Iterator[Any]]]] = {}
        self._streaming: Rota[int] = Rota()
        #: connections for which a part of an answer is being made by a thread
        self._making: set[int] = set()
        #: work for the threads by connection, and how many they have
        self._works: dict[int, deque[tuple[Request, Callable[[], None]]]] = {}
        self._working: Rota[int] = Rota()
        self._given = 0
        #: connections whose turn has to wait: they read slowly
        self._waiting: dict[int, Request] = {}
        self._offloaded: set[Request] = set()
        self._parking = Parking()
        #: what has arrived, or has waited: to be answered now
        self._entered: Lanes[Request] = Lanes()
        #: when this pass's time for that is over
        self._until = 0.0
        #: runs whose log somebody waits for; read by the threads that write logs
        self._watched = watched

    def take(self, kernel: Kernel) -> bool:
        """Answer what has arrived; whether more may wait."""
        self._until = time.monotonic() + _SLICE_S
        taken, more, lane = 0, True, Lane(kernel)
        while more and taken < _TAKEN:
            requests, more = self._router.receive(_ROUND)
            taken += len(requests)
            self._answer_now(kernel, lane, requests)
            if not self._go_on(kernel, lane):
                break
        if self._router.gone:
            self._forget(set(self._router.gone))
            self._router.gone.clear()
        return more or bool(self._entered)

    def _answer_now(self, kernel: Kernel, lane: Lane, requests: list[Request]) -> None:
        """Answer what came by turns; where that takes long, or others wait, behind those."""
        for request in requests:
            if self._entered or time.monotonic() >= self._until:
                self._enter(request)
                continue
            frame = lane.queue(request) if request.verb == "run.queue" else None
            if frame is not None:
                self._reply(request, frame)
            else:
                self._answer(kernel, request)
                lane.close()

    def _enter(self, request: Request) -> None:
        self._entered.put(request.turn, request.peer, request)

    def _go_on(self, kernel: Kernel, lane: Lane | None = None) -> bool:
        """Answer requests by turns for the rest of this pass's time, one at least; whether there
        is time left. One that names many runs may take some 50 ms."""
        while (request := self._entered.next(_turn)) is not None:
            if self._router.is_there(request.peer):
                self._answer(kernel, request)
                if lane is not None:
                    lane.close()
            if time.monotonic() >= self._until:
                return False
        return time.monotonic() < self._until

    def _forget(self, gone: set[int]) -> None:
        """Nobody is there any more to be answered."""
        self._parking.forget(gone)
        for peer in gone:
            self._streams.pop(peer, None)
            self._offloaded.difference_update(request for request, _ in self._works.pop(peer, ()))
            self._waiting.pop(peer, None)

    def changed(self, kernel: Kernel, runs: set[int], ranges: Sequence[Sequence[int]] = ()) -> None:
        """Ask again the requests that wait for one of these runs, or one in these ranges."""
        if not self._parking and not self._offloaded and not self._watched:
            return  # nobody waits: most passes of a busy queue
        woken = self._parking.changed(runs, ranges)
        self._watched -= runs
        for request in self._offloaded:
            request.changed |= runs if len(request.changed) < _NAMED else {MANY}
        for request in woken:
            self._enter(request)
        self._use_time(kernel)

    def overdue(self, kernel: Kernel) -> None:
        """Answer the requests that have waited as long as they may."""
        while (request := self._parking.overdue(kernel.now.mono)) is not None:
            request.final = True
            self._enter(request)
        self._use_time(kernel)

    def _use_time(self, kernel: Kernel) -> None:
        if time.monotonic() < self._until:
            self._go_on(kernel)

    def stream(self) -> bool:
        """Give answers in parts their turns, one part each; whether any can go on at once."""
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            self._queue_up(request)
        self._give_works()
        until = time.monotonic() + _SLICE_S
        made = 0
        while made < _STREAMED and time.monotonic() < until:
            peer = self._streaming.next()
            if peer is None:
                break
            made += self._next_part(peer)
        return bool(self._streaming or self._entered)

    def _next_part(self, peer: int) -> int:
        """Take one part of a connection's first answer; its bytes."""
        mine = self._streams.get(peer)
        if mine is None:
            return 0
        request, parts = mine[0]
        if self._router.is_full(peer) or peer in self._making:
            self._waiting[peer] = request  # the loop comes round when that is over
            return 0
        try:
            body = guarded(request.verb, partial(_next, parts))
        except JobdError as error:
            return self._say(request, envelope.error(request.number, error), last=True)
        if isinstance(body, _Last):
            return self._say(request, envelope.result(request.number, body.body), last=True)
        if isinstance(body, Offload):
            self._make_part(request, body)
            return 0
        if body is None:
            self._queue_up(request)
            return 0
        return self._say(request, envelope.part(request.number, body), last=False)

    def _say(self, request: Request, frame: bytes, *, last: bool) -> int:
        """Reply with a part of a connection's first answer, and have its turn come again."""
        mine = self._streams.get(request.peer)
        if mine is not None and last:
            mine.popleft()
            if not mine:
                del self._streams[request.peer]
        self._reply(request, frame, last)
        self._queue_up(request)
        return len(frame)

    def _make_part(self, request: Request, offload: Offload) -> None:
        """Have a part made by a thread: one at a time for each peer, so that none piles them up."""
        self._making.add(request.peer)

        def done(body: Any, problem: JobdError | None) -> None:
            self._making.discard(request.peer)
            if problem is not None:
                self._say(request, envelope.error(request.number, problem), last=True)
            else:
                self._say(request, envelope.part(request.number, body), last=False)

        def run() -> None:
            body, problem = None, None
            try:
                body = guarded(request.verb, offload.work)
            except JobdError as error:
                problem = error
            self._post(lambda: done(body, problem))

        self._pool.submit(run)

    def _queue_up(self, request: Request) -> None:
        """Have a connection take its turns, for what there is of it."""
        peer, turn = request.peer, request.turn
        if peer in self._streams:
            self._streaming.put(turn, peer, peer)
        if peer in self._works:
            self._working.put(turn, peer, peer)

    def wait_ms(self, now_mono: int) -> int | None:
        """How long nothing here comes due; None: nothing is parked."""
        return self._parking.wait_ms(now_mono)

    def flush(self) -> None:
        """Send every reply: what they tell of is on disk."""
        replies, self._replies = self._replies, []
        for request, frame, last in replies:
            self._router.send(request, frame, last, len(frame))
        self._router.flush()

    def fail(self, error: JobdError) -> None:
        """The disk failed: tell who changed something that nobody knows the outcome of."""
        for request, frame, last in self._replies:
            verb = BY_NAME.get(request.verb)
            expected = len(frame)
            if verb is not None and verb.changes:
                key = f"; ask again with key {request.key.hex()}" if request.key else ""
                problem = OutcomeUnknownError(f"{request.verb}: outcome unknown: {error}{key}")
                frame = envelope.error(request.number, problem)
            self._router.send(request, frame, last, expected)
        self._replies = []

    def close(self) -> None:
        """Let go of the threads; what is parked gets no answer, its clients ask again."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- the turns of one request ----------------------------------------------------------

    def _answer(self, kernel: Kernel, request: Request) -> None:
        try:
            self._settle(kernel, request, answer(kernel, request))
        except Later as later:
            self._park(kernel, request, later)
        except JobdError as error:
            self._refuse(request, error)

    def _settle(self, kernel: Kernel, request: Request, value: Any) -> None:
        if type(value) is Parts:
            if self._router.is_there(request.peer):
                request.arguments = {}
                self._streams.setdefault(request.peer, deque()).append((request, value.parts))
                self._queue_up(request)
        elif type(value) is Offload:
            self._offload(kernel, request, value)
        else:
            self._reply(request, envelope.result(request.number, value))

    def _offload(self, kernel: Kernel, request: Request, offload: Offload) -> None:
        if not self._router.is_there(request.peer):
            return

        def run() -> None:
            value: Any = None
            problem: BaseException | None = None
            try:
                value = guarded(request.verb, offload.work)
            except (JobdError, Later) as error:
                problem = error
            self._post(lambda: self._done(kernel, request, offload, value, problem))

        request.changed.clear()
        self._offloaded.add(request)
        self._works.setdefault(request.peer, deque()).append((request, run))
        self._queue_up(request)
        self._give_works()

    def _give_works(self) -> None:
        """Give the threads work, by turns; who has not read its answers gets none."""
        while self._given < _GIVEN:
            peer = self._working.next()
            if peer is None:
                return
            mine = self._works.get(peer)
            if mine is None:
                continue
            request, run = mine[0]
            if peer in self._streams or self._router.is_full(peer):
                self._waiting[peer] = request
                continue
            mine.popleft()
            if not mine:
                del self._works[peer]
            self._given += 1
            self._pool.submit(run)
            self._queue_up(request)

    def _done(
        self,
        kernel: Kernel,
        request: Request,
        offload: Offload,
        value: Any,
        problem: BaseException | None,
    ) -> None:
        self._given -= 1
        self._give_works()
        self._offloaded.discard(request)
        then = offload.then
        if problem is None and then is not None:
            try:
                value = guarded(request.verb, lambda: then(value))
            except (JobdError, Later) as error:
                problem = error
        if isinstance(problem, JobdError):
            self._refuse(request, problem)
        elif isinstance(problem, Later):
            if problem.runs & request.changed or MANY in request.changed:
                self._answer(kernel, request)  # it changed after the thread had looked
            else:
                self._park(kernel, request, problem)
        else:
            self._settle(kernel, request, value)

    def _park(self, kernel: Kernel, request: Request, later: Later) -> None:
        if not self._router.is_there(request.peer):
            return
        try:
            self._parking.park(request, later, kernel.now.mono)
        except JobdError as error:
            self._refuse(request, error)

    def _refuse(self, request: Request, error: JobdError) -> None:
        self._reply(request, envelope.error(request.number, error))

    def _reply(self, request: Request, frame: bytes, last: bool = True) -> None:
        if last:
            request.arguments = {}  # a payload, mostly
        self._router.expect(request.peer, len(frame))
        self._replies.append((request, frame, last))


class _Last:
    __slots__ = ("body",)

    def __init__(self, body: Any) -> None:
        self.body = body


def _turn(request: Request) -> int:
    return request.turn


def _next(parts: Iterator[Any]) -> Any:
    try:
        return next(parts)
    except StopIteration as stop:
        return _Last(stop.value)

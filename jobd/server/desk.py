"""The requests under way: answered now, in parts, by a thread, or later when something changed.

Owned by the core loop's thread, but for the work that it hands to its own threads. Replies are kept
until :meth:`Desk.flush`, which the loop calls after the sync: a reply means "on disk".
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from typing import Any

from jobd.errors import JobdError, OutcomeUnknownError
from jobd.server.handlers import answer, guarded
from jobd.server.kernel import MANY, Kernel, Later, Offload, Parts, Recall, Request
from jobd.server.lane import Lane
from jobd.server.router import Router
from jobd.wire import envelope
from jobd.wire.verbs import BY_NAME

#: requests taken in one pass of the loop
_TAKEN = 2_000
#: bytes made of answers in parts in one pass, before what is there is sent
_STREAMED = 4 << 20
#: threads for work on files
_THREADS = 2


class Desk:
    """Every request from its arrival to its last reply."""

    def __init__(
        self, router: Router, post: Callable[[Callable[[], None]], None], watched: set[int]
    ) -> None:
        self._router = router
        self._post = post
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._replies: list[tuple[Request, bytes, bool]] = []
        #: answers in parts, with what their iterator is to be sent (None: nothing)
        self._streams: deque[tuple[Request, Iterator[Any], Any]] = deque()
        self._offloaded: set[Request] = set()
        #: peers for which a part of an answer is being made by a thread
        self._making: set[int] = set()
        self._by_run: dict[int, set[Request]] = {}
        self._parked: dict[Request, frozenset[int]] = {}
        self._by_peer: dict[int, set[Request]] = {}
        self._deadlines: list[tuple[int, int, Request]] = []
        self._counter = 0
        #: runs whose log somebody waits for; read by the threads that write logs
        self._watched = watched

    def take(self, kernel: Kernel) -> bool:
        """Answer what has arrived; whether more may wait."""
        requests, more = self._router.receive(_TAKEN)
        lane = Lane(kernel)
        queue, add = lane.queue, self._replies.append
        for request in requests:
            frame = queue(request) if request.verb == "run.queue" else None
            if frame is not None:
                add((request, frame, True))
            else:
                self._answer(kernel, request)
                lane.close()
        if self._router.gone:
            self._forget(set(self._router.gone))
            self._router.gone.clear()
        return more

    def _forget(self, gone: set[int]) -> None:
        """Nobody is there any more to be answered."""
        for peer in gone & self._by_peer.keys():
            for request in list(self._by_peer[peer]):
                self._unpark(request)
        if self._streams:
            left = [each for each in self._streams if each[0].peer not in gone]
            self._streams = deque(left)

    def changed(self, kernel: Kernel, runs: set[int], ranges: Sequence[Sequence[int]] = ()) -> None:
        """Ask again the requests that wait for one of these runs, or one in these ranges."""
        if not self._by_run and not self._offloaded and not self._watched:
            return  # nobody waits: most passes of a busy queue
        woken: dict[Request, None] = {}
        if ranges:
            # looked for among those that are waited for: the ranges may mean a million
            runs |= _within(self._by_run, ranges)
            runs.add(MANY)
        for run in runs:
            self._watched.discard(run)
            woken.update(dict.fromkeys(self._by_run.get(run, ())))
            for request in self._offloaded:
                request.changed.add(run)
        for request in woken:
            self._unpark(request)
            self._answer(kernel, request)

    def overdue(self, kernel: Kernel) -> None:
        """Answer the requests that have waited as long as they may."""
        now = kernel.now.mono
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, request = heapq.heappop(self._deadlines)
            if request in self._parked:
                self._unpark(request)
                request.final = True
                self._answer(kernel, request)

    def stream(self) -> bool:
        """Take one part of every answer in parts; whether any can go on at once."""
        going, made = False, 0
        for _ in range(len(self._streams)):
            if made >= _STREAMED:
                return True
            request, parts, value = self._streams.popleft()
            if self._router.is_full(request.peer) or request.peer in self._making:
                # the loop comes round when that is over
                self._streams.append((request, parts, value))
                continue
            try:
                body = guarded(request.verb, partial(_next, parts, value))
            except JobdError as error:
                self._refuse(request, error)
                continue
            if isinstance(body, _Last):
                self._reply(request, envelope.result(request.number, body.body))
            elif isinstance(body, Offload):
                self._make_part(request, parts, body)
            else:
                if body is not None:
                    frame = envelope.part(request.number, body)
                    made += len(frame)
                    self._reply(request, frame, last=False)
                self._streams.append((request, parts, None))
                going = True
        return going

    def _make_part(self, request: Request, parts: Iterator[Any], offload: Offload) -> None:
        """Have a part made by a thread: one at a time for each peer, so that none piles them up."""
        self._making.add(request.peer)

        def done(body: Any, problem: JobdError | Later | None) -> None:
            self._making.discard(request.peer)
            if isinstance(problem, JobdError):
                self._refuse(request, problem)
            elif offload.then is not None:
                self._streams.append((request, parts, offload.then(body)))
            else:
                self._reply(request, envelope.part(request.number, body), last=False)
                self._streams.append((request, parts, None))

        self._beside(request.verb, offload.work, done)

    def _beside(
        self,
        verb: str,
        work: Callable[[], Any],
        done: Callable[[Any, JobdError | Later | None], None],
    ) -> None:
        """Have a thread do the work, and the loop go on with what it made, or why it did not."""

        def run() -> None:
            value: Any = None
            problem: JobdError | Later | None = None
            try:
                value = guarded(verb, work)
            except (JobdError, Later) as error:
                problem = error
            self._post(lambda: done(value, problem))

        self._pool.submit(run)

    def wait_ms(self, now_mono: int) -> int | None:
        """How long nothing here comes due; None: nothing is parked."""
        while self._deadlines and self._deadlines[0][2] not in self._parked:
            heapq.heappop(self._deadlines)
        return max(0, self._deadlines[0][0] - now_mono) if self._deadlines else None

    def flush(self) -> None:
        """Send every reply: what they tell of is on disk."""
        replies, self._replies = self._replies, []
        for request, frame, last in replies:
            self._router.send(request.peer, frame, last)
        self._router.flush()

    def fail(self, error: JobdError) -> None:
        """The disk failed: tell who changed something that nobody knows the outcome of."""
        for request, frame, _ in self._replies:
            verb = BY_NAME.get(request.verb)
            if verb is not None and verb.changes:
                key = f"; ask again with key {request.key.hex()}" if request.key else ""
                problem = OutcomeUnknownError(f"{request.verb}: outcome unknown: {error}{key}")
                frame = envelope.error(request.number, problem)
            self._router.send(request.peer, frame)
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
        except Recall as recall:
            self._recall(kernel, request, recall)
        except JobdError as error:
            self._refuse(request, error)

    def _recall(self, kernel: Kernel, request: Request, recall: Recall) -> None:
        """Have a thread read of the archive what the request needs, and ask it again."""

        def done(value: Any, problem: JobdError | Later | None) -> None:
            if isinstance(problem, JobdError):
                self._refuse(request, problem)
            else:
                recall.take(value)
                self._answer(kernel, request)

        self._beside(request.verb, recall.work, done)

    def _settle(self, kernel: Kernel, request: Request, value: Any) -> None:
        if type(value) is Parts:
            self._streams.append((request, value.parts, None))
        elif type(value) is Offload:
            self._offload(kernel, request, value)
        else:
            self._replies.append((request, envelope.result(request.number, value), True))

    def _offload(self, kernel: Kernel, request: Request, offload: Offload) -> None:
        request.changed.clear()
        self._offloaded.add(request)
        self._beside(
            request.verb,
            offload.work,
            lambda value, problem: self._done(kernel, request, offload, value, problem),
        )

    def _done(
        self,
        kernel: Kernel,
        request: Request,
        offload: Offload,
        value: Any,
        problem: JobdError | Later | Recall | None,
    ) -> None:
        self._offloaded.discard(request)
        then = offload.then
        if problem is None and then is not None:
            try:
                value = guarded(request.verb, lambda: then(value))
            except (JobdError, Later, Recall) as error:
                problem = error
        if isinstance(problem, JobdError):
            self._refuse(request, problem)
        elif isinstance(problem, Recall):
            self._recall(kernel, request, problem)
        elif isinstance(problem, Later):
            if problem.runs & request.changed or MANY in request.changed:
                self._answer(kernel, request)  # it changed after the thread had looked
            else:
                self._park(kernel, request, problem)
        else:
            self._settle(kernel, request, value)

    def _park(self, kernel: Kernel, request: Request, later: Later) -> None:
        if request.deadline is None:
            request.deadline = kernel.now.mono + later.hold
        self._counter += 1
        heapq.heappush(self._deadlines, (request.deadline, self._counter, request))
        self._parked[request] = later.runs
        self._by_peer.setdefault(request.peer, set()).add(request)
        for run in later.runs:
            self._by_run.setdefault(run, set()).add(request)

    def _unpark(self, request: Request) -> None:
        others = self._by_peer[request.peer]
        others.discard(request)
        if not others:
            del self._by_peer[request.peer]
        for run in self._parked.pop(request):
            waiting = self._by_run[run]
            waiting.discard(request)
            if not waiting:
                del self._by_run[run]

    def _refuse(self, request: Request, error: JobdError) -> None:
        self._reply(request, envelope.error(request.number, error))

    def _reply(self, request: Request, frame: bytes, last: bool = True) -> None:
        self._replies.append((request, frame, last))


def _within(runs: Iterable[int], ranges: Sequence[Sequence[int]]) -> set[int]:
    """Those of the runs that are in one of the ranges `[first, last]`, of which there may be
    thousands."""
    ordered = sorted((first, last) for first, last in ranges)
    firsts = [first for first, _ in ordered]
    lasts = list(accumulate((last for _, last in ordered), max))
    return {run for run in runs if (at := bisect_right(firsts, run)) and run <= lasts[at - 1]}


class _Last:
    __slots__ = ("body",)

    def __init__(self, body: Any) -> None:
        self.body = body


def _next(parts: Iterator[Any], value: Any) -> Any:
    try:
        return next(parts) if value is None else parts.send(value)  # type: ignore[attr-defined]
    except StopIteration as stop:
        return _Last(stop.value)

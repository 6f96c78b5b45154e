"""The Python API of jobd for asyncio: the same calls as `jobctl.client.Client`, awaited.

    from jobctl.aio import AsyncClient

    async with AsyncClient() as jobd:
        run = (await jobd.queue("sendemail", b"..."))["runs"][0]["id"]
        ended = await jobd.wait(run, timeout=600)
        async for line in jobd.logs(run):
            print(line["text"])

Many calls may be under way at once; each has a connection of its own while it is, and connections
are used again. A call that is cancelled lets go of its connection: what it asked for may have been
done (a run that was queued stays queued). A lost reply is asked for again with the same request
key, and a daemon that is gone raises UnreachableError at once, as in the blocking client: both are
made of the same steps (jobctl/steps.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import zmq

from jobctl import (
    alerting,
    connect,
    control,
    jobcalls,
    queueing,
    runcalls,
    scheduling,
    topics,
    transfers,
)
from jobctl.channel import Channel
from jobctl.steps import Item, Look, Pause, Step, Steps, Waiting, Work
from jobd.errors import JobdError, UsageError

__all__ = ["AsyncClient"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _awaited(
    call: Callable[Concatenate[Channel, _P], Steps[_T]],
) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]]:
    """The coroutine method that carries a call out and returns what it returns."""

    @wraps(call)
    async def method(self: AsyncClient, /, *given: _P.args, **more: _P.kwargs) -> _T:
        steps = _Running(self, lambda channel: call(channel, *given, **more))
        try:
            while await steps.next_item():
                pass  # no call that is awaited has items
        finally:
            steps.end()
        value: _T = steps.value
        return value

    return method


def _iterated(
    call: Callable[Concatenate[Channel, _P], Steps[None]],
) -> Callable[Concatenate[AsyncClient, _P], AsyncIterator[Any]]:
    """The method that gives a call's items as they come."""

    @wraps(call)
    async def method(
        self: AsyncClient, /, *given: _P.args, **more: _P.kwargs
    ) -> AsyncIterator[Any]:
        steps = _Running(self, lambda channel: call(channel, *given, **more))
        try:
            while await steps.next_item():
                yield steps.value
        finally:
            steps.end()

    return method


class AsyncClient:
    """Connections to one jobd, for one event loop.

    `socket` is the path of its socket, `home` the folder of a daemon that has one; where neither
    is given it is found as `jobctl` does. `request_timeout` is in seconds. `note` is told what a
    person should know while a request waits. Each call is a piece of work with keys of its own.
    """

    def __init__(
        self,
        socket: str | None = None,
        home: str | None = None,
        *,
        request_timeout: float = 30.0,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        if socket and home:
            raise UsageError("socket and home were both given: one of them says where jobd is")
        self._place = connect.locate(socket, home, os.environ)
        self._request_timeout = request_timeout
        self._note = note
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._idle: list[Channel] = []
        self._busy: set[Channel] = set()
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections; calls under way must have been cancelled or awaited before."""
        self._closed = True
        for channel in [*self._idle, *self._busy]:
            channel.close()
        self._idle.clear()
        self._busy.clear()
        self._context.term()

    def _take(self) -> Channel:
        if self._closed:
            raise UsageError("this client was closed")
        channel = (
            self._idle.pop()
            if self._idle
            else Channel(self._place, self._request_timeout, self._note, context=self._context)
        )
        self._busy.add(channel)
        return channel

    def _give_back(self, channel: Channel, whole: bool) -> None:
        """A connection whose call was broken off is not used again: a reply may still come."""
        if channel not in self._busy:
            return
        self._busy.discard(channel)
        if whole and not self._closed:
            self._idle.append(channel)
        else:
            channel.close()

    # the calls, each declared once in its noun's module (jobctl/calls.py says which)

    ping = _awaited(control.ping)
    status = _awaited(control.status)
    doctor = _awaited(control.doctor)
    forecast = _awaited(control.forecast)
    register = _awaited(jobcalls.register)
    apply = _awaited(jobcalls.apply)
    unregister = _awaited(jobcalls.unregister)
    jobs = _awaited(jobcalls.jobs)
    job_names = _awaited(jobcalls.job_names)
    job = _awaited(jobcalls.job)
    suggest = _awaited(jobcalls.suggest)
    set = _awaited(jobcalls.set_)
    history = _awaited(jobcalls.history)
    pause = _awaited(jobcalls.pause)
    resume = _awaited(jobcalls.resume)
    queue = _awaited(queueing.queue)
    queue_each = _iterated(queueing.queue_each)
    queue_many = _iterated(queueing.queue_many)
    runs = _awaited(runcalls.runs)
    runs_and_more = _awaited(runcalls.runs_and_more)
    show = _awaited(runcalls.show)
    wait = _awaited(runcalls.wait)
    cancel = _awaited(runcalls.cancel)
    retry = _awaited(runcalls.retry)
    hold = _awaited(runcalls.hold)
    release = _awaited(runcalls.release)
    next = _awaited(runcalls.next_)
    progress = _awaited(runcalls.progress)
    edit = _awaited(runcalls.edit)
    why = _awaited(runcalls.why)
    result = _awaited(runcalls.result)
    payload = _awaited(runcalls.payload)
    fetch = _awaited(runcalls.fetch)
    output = _awaited(transfers.output)
    save_output = _awaited(transfers.save_output)
    build = _awaited(transfers.build)
    logs = _iterated(runcalls.logs)
    follow = _iterated(runcalls.follow)
    add_schedule = _awaited(scheduling.add_schedule)
    remove_schedule = _awaited(scheduling.remove_schedule)
    pause_schedule = _awaited(scheduling.pause_schedule)
    resume_schedule = _awaited(scheduling.resume_schedule)
    fire_schedule = _awaited(scheduling.fire_schedule)
    schedules = _awaited(scheduling.schedules)
    schedules_and_clock = _awaited(scheduling.schedules_and_clock)
    next_firings = _awaited(scheduling.next_firings)
    emit = _awaited(topics.emit)
    alerts = _awaited(alerting.alerts)
    alerts_and_more = _awaited(alerting.alerts_and_more)
    snooze_alerts = _awaited(alerting.snooze_alerts)
    resend_alert = _awaited(alerting.resend_alert)
    send_test_alert = _awaited(alerting.send_test_alert)
    take_alerts = _awaited(alerting.take_alerts)
    settle_alert = _awaited(alerting.settle_alert)
    drain = _awaited(control.drain)
    undrain = _awaited(control.undrain)
    snapshot = _awaited(control.snapshot)
    events = _iterated(control.events)
    event_pages = _iterated(control.event_pages)


class _Running:
    """One call under way, from its first step to its last; `value` is its item, or its result."""

    def __init__(self, client: AsyncClient, call: Callable[[Channel], Steps[Any]]) -> None:
        self._client = client
        self._channel = client._take()
        self._steps = call(self._channel)
        #: whether the connection has no reply outstanding
        self._whole = False
        self.value: Any = None

    async def next_item(self) -> bool:
        """Goes on to the next item; False at the end. Raises what the call raises."""
        answer: Any = None
        problem: Exception | None = None
        self._whole = False
        try:
            while True:
                step = self._steps.send(answer) if problem is None else self._steps.throw(problem)
                answer = problem = None
                if isinstance(step, Item):
                    self.value = step.value
                    return True
                try:
                    answer = await _perform(step)
                except (OSError, JobdError) as error:
                    problem = error
        except StopIteration as stop:
            self.value = stop.value
            self._whole = True
            return False

    def end(self) -> None:
        """Lets go of the connection."""
        self._steps.close()
        self._client._give_back(self._channel, self._whole)


async def _perform(step: Step) -> Any:
    if isinstance(step, Look):
        return await _look(step.on, step.seconds)
    if isinstance(step, Work):
        # a part of a second at the most, but the loop has others to see to
        return await asyncio.to_thread(step.call)
    assert isinstance(step, Pause)
    return await asyncio.sleep(step.seconds)


async def _look(on: Waiting, seconds: float) -> tuple[bool, bool]:
    """As `on.look`, with the event loop going on. ZeroMQ's descriptor tells of a change once, so
    it is looked at anew after each."""
    loop = asyncio.get_running_loop()
    end = loop.time() + max(seconds, 0)
    while not any(ready := on.look(0)) and (left := end - loop.time()) > 0:
        stirred = asyncio.Event()
        descriptors = on.descriptors()
        for descriptor in descriptors:
            loop.add_reader(descriptor, stirred.set)
        try:
            await asyncio.wait_for(stirred.wait(), left)
        except TimeoutError:
            pass  # the last look tells
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
    return ready

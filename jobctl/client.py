"""The Python API of jobd, blocking; `jobctl` itself is made of it.

    from jobctl.client import Client

    with Client() as jobd:
        run = jobd.queue("sendemail", b'{"to": "ops@example.com"}')["runs"][0]["id"]
        print(jobd.wait(run)["status"], jobd.result(run))

Runs, jobs and status are plain dicts in INTERFACE's JSON shape: times are ISO 8601 text. What goes
wrong is an exception of `jobd.errors`, each with `code`, `status` (the exit status of `jobctl`) and
a sentence. Durations are seconds, times `datetime` (a naive one is in the local zone).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

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
from jobctl.queueing import BATCH_RUNS, Readable
from jobctl.steps import Steps, drive, stream
from jobd.errors import UsageError
from jobd.wire.envelope import KEY_BYTES

__all__ = ["BATCH_RUNS", "Client", "Readable"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _blocking(
    call: Callable[Concatenate[Channel, _P], Steps[_T]],
) -> Callable[Concatenate[Client, _P], _T]:
    """The method that carries a call out and returns what it returns."""

    @wraps(call)
    def method(self: Client, /, *given: _P.args, **more: _P.kwargs) -> _T:
        return drive(call(self._channel, *given, **more))

    return method


def _streaming(
    call: Callable[Concatenate[Channel, _P], Steps[None]],
) -> Callable[Concatenate[Client, _P], Iterator[Any]]:
    """The method that gives a call's items as they come."""

    @wraps(call)
    def method(self: Client, /, *given: _P.args, **more: _P.kwargs) -> Iterator[Any]:
        return stream(call(self._channel, *given, **more))

    return method


class Client:
    """A connection to one jobd, made with the first request; not to be shared between threads.

    `socket` is the path of its socket, `home` the folder of a daemon that has one; where neither
    is given it is found as `jobctl` does (JOBCTL_SOCKET, JOBCTL_HOME, a personal one, the
    system's). `request_timeout` is in seconds. `note` is told what a person should know while a
    request waits. `request_key` (16 bytes) repeats work whose outcome was unknown: the same calls
    in the same order do nothing twice, for 24 hours.
    """

    def __init__(
        self,
        socket: str | None = None,
        home: str | None = None,
        *,
        request_timeout: float = 30.0,
        note: Callable[[str], None] = lambda text: None,
        request_key: bytes | None = None,
    ) -> None:
        if socket and home:
            raise UsageError("socket and home were both given: one of them says where jobd is")
        if request_key is not None and len(request_key) != KEY_BYTES:
            raise UsageError(f"request key: expected {KEY_BYTES} bytes")
        place = connect.locate(socket, home, os.environ)
        self._channel = Channel(place, request_timeout, note, request_key)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. What was acknowledged stays done."""
        self._channel.close()

    @property
    def place(self) -> str:
        """The path of the daemon's socket."""
        return self._channel.place.path

    @property
    def request_key(self) -> bytes:
        """The first request key of the work under way: with it, it can be asked for again."""
        return self._channel.first_key

    # the calls, each declared once in its noun's module (jobctl/calls.py says which)

    ping = _blocking(control.ping)
    status = _blocking(control.status)
    doctor = _blocking(control.doctor)
    forecast = _blocking(control.forecast)
    register = _blocking(jobcalls.register)
    apply = _blocking(jobcalls.apply)
    unregister = _blocking(jobcalls.unregister)
    jobs = _blocking(jobcalls.jobs)
    job_names = _blocking(jobcalls.job_names)
    job = _blocking(jobcalls.job)
    suggest = _blocking(jobcalls.suggest)
    set = _blocking(jobcalls.set_)
    history = _blocking(jobcalls.history)
    pause = _blocking(jobcalls.pause)
    resume = _blocking(jobcalls.resume)
    queue = _blocking(queueing.queue)
    queue_each = _streaming(queueing.queue_each)
    queue_many = _streaming(queueing.queue_many)
    runs = _blocking(runcalls.runs)
    runs_and_more = _blocking(runcalls.runs_and_more)
    show = _blocking(runcalls.show)
    wait = _blocking(runcalls.wait)
    cancel = _blocking(runcalls.cancel)
    retry = _blocking(runcalls.retry)
    hold = _blocking(runcalls.hold)
    release = _blocking(runcalls.release)
    next = _blocking(runcalls.next_)
    progress = _blocking(runcalls.progress)
    edit = _blocking(runcalls.edit)
    why = _blocking(runcalls.why)
    result = _blocking(runcalls.result)
    payload = _blocking(runcalls.payload)
    fetch = _blocking(runcalls.fetch)
    output = _blocking(transfers.output)
    save_output = _blocking(transfers.save_output)
    build = _blocking(transfers.build)
    logs = _streaming(runcalls.logs)
    follow = _streaming(runcalls.follow)
    add_schedule = _blocking(scheduling.add_schedule)
    remove_schedule = _blocking(scheduling.remove_schedule)
    pause_schedule = _blocking(scheduling.pause_schedule)
    resume_schedule = _blocking(scheduling.resume_schedule)
    fire_schedule = _blocking(scheduling.fire_schedule)
    schedules = _blocking(scheduling.schedules)
    schedules_and_clock = _blocking(scheduling.schedules_and_clock)
    next_firings = _blocking(scheduling.next_firings)
    emit = _blocking(topics.emit)
    alerts = _blocking(alerting.alerts)
    alerts_and_more = _blocking(alerting.alerts_and_more)
    snooze_alerts = _blocking(alerting.snooze_alerts)
    resend_alert = _blocking(alerting.resend_alert)
    send_test_alert = _blocking(alerting.send_test_alert)
    take_alerts = _blocking(alerting.take_alerts)
    settle_alert = _blocking(alerting.settle_alert)
    drain = _blocking(control.drain)
    undrain = _blocking(control.undrain)
    snapshot = _blocking(control.snapshot)
    events = _streaming(control.events)
    event_pages = _streaming(control.event_pages)

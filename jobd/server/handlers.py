"""Which function answers which verb, and the guard around each request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from jobd.errors import InternalError, JobdError, UsageError
from jobd.server import (
    alerts,
    changes,
    events,
    foresight,
    host,
    images,
    inside,
    jobs,
    lists,
    logs,
    outputs,
    runs,
    schedules,
    topics,
    why,
)
from jobd.server.access import authorize
from jobd.server.kernel import Kernel, Later, Recall, Request
from jobd.wire.verbs import BY_NAME

_log = logging.getLogger(__name__)

#: these find by themselves what the same request did before: runs in the queue, an upload's bytes
_REMEMBER = frozenset({"run.queue", "run.retry", "upload.put", "image.build"})

Handler = Callable[[Kernel, Request], Any]

HANDLERS: dict[str, Handler] = {
    "ping": host.ping,
    "status": host.status,
    "host.doctor": host.doctor,
    "job.register": jobs.register,
    "job.unregister": jobs.unregister,
    "job.apply": jobs.apply,
    "job.set": jobs.set_,
    "job.history": jobs.history,
    "job.list": jobs.list_,
    "job.show": jobs.show,
    "job.suggest": foresight.suggest,
    "job.pause": jobs.pause,
    "job.resume": jobs.resume,
    "schedule.add": schedules.add,
    "schedule.remove": schedules.remove,
    "schedule.pause": schedules.pause,
    "schedule.resume": schedules.resume,
    "schedule.fire": schedules.fire,
    "schedule.list": schedules.list_,
    "schedule.next": schedules.next_,
    "topic.emit": topics.emit,
    "run.queue": runs.queue,
    "run.progress": inside.progress,
    "run.list": lists.list_,
    "run.show": runs.show,
    "run.wait": runs.wait,
    "run.why": why.why,
    "run.cancel": changes.cancel,
    "run.retry": changes.retry,
    "run.hold": changes.hold,
    "run.release": changes.release,
    "run.next": changes.next_,
    "run.edit": changes.edit,
    "run.result": outputs.result,
    "run.output": outputs.read,
    "run.payload": outputs.payload,
    "image.build": images.build,
    "image.output": images.output,
    "log.read": logs.read,
    "host.forecast": foresight.forecast,
    "host.drain": host.drain,
    "host.undrain": host.undrain,
    "host.snapshot": host.snapshot,
    "host.idle": host.idle,
    "events.read": events.read,
    "upload.put": host.upload,
    "alert.list": alerts.list_,
    "alert.snooze": alerts.snooze,
    "alert.resend": alerts.resend,
    "alert.test": alerts.test,
    "alert.take": alerts.take,
    "alert.settle": alerts.settle,
}


def answer(kernel: Kernel, request: Request) -> Any:
    """What the verb's handler says to who has the right.

    Raises Later, Recall, or a JobdError and nothing else: one bad request ends neither the loop
    nor the daemon.
    """
    verb = BY_NAME.get(request.verb)
    if verb is None:
        raise UsageError(f"{request.verb!r:.60}: no such verb")
    verb.check(request.arguments)
    try:
        authorize(kernel, request, verb)
        if not verb.changes or verb.name in _REMEMBER:
            return HANDLERS[verb.name](kernel, request)
        known = kernel.answers.find(request)
        if known is not None:
            return known
        made = HANDLERS[verb.name](kernel, request)
        if isinstance(made, dict):
            kernel.answers.keep(request, made, kernel.now.mono)
        return made
    except JobdError as error:
        kernel.refused(request, error)
        raise
    except (Later, Recall):
        raise
    except Exception as error:
        raise _bug(verb.name, error) from error


def guarded(verb: str, work: Callable[[], Any]) -> Any:
    """`work()`, with what is not an error of ours told as a bug, its traceback in the log."""
    try:
        return work()
    except (JobdError, Later, Recall):
        raise
    except Exception as error:
        raise _bug(verb, error) from error


def _bug(verb: str, error: Exception) -> InternalError:
    """What the caller is told of an error that nobody expected; the log has its traceback."""
    _log.exception("%s: a bug", verb)
    return InternalError(f"{verb}: a bug in jobd: {type(error).__name__}; see its log")

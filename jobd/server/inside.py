"""What is asked from inside of an attempt: which verbs, of what; and run.progress.

The rules are core/inside.py's; here they meet requests. All else is refused, so a verb that is new
is not for runs until it is named here.
"""

from __future__ import annotations

from typing import Any

from jobd.core import inside
from jobd.core.commands import QueueRun
from jobd.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, UsageError
from jobd.server.kernel import Kernel, Request
from jobd.wire.verb import Verb

#: what reads: of the runs that a run has queued, and itself (core/access.py, `owns`)
_READS = frozenset(
    {"run.list", "run.show", "run.wait", "run.why", "run.result", "run.output", "run.payload"}
    | {"log.read"}
)
_VERBS = _READS | {"ping", "run.progress", "run.queue", "upload.put"}
#: what notifies of the topic that `topic` names
_EMIT = "topic.emit"
#: characters of a message
LONGEST = 200


def require(kernel: Kernel, request: Request, verb: Verb) -> None:
    """Let through what a run may ask, of those jobs and topics that its job names.

    Raises ForbiddenError, ConflictError once its attempt is over, NotFoundError.
    """
    number, attempt = request.caller.within or (0, 0)
    run = kernel.state.runs.get(number)
    if run is None or not inside.lives(run, attempt):
        raise ConflictError(f"run {number}: its attempt {attempt} is over: it asks nothing more")
    name = request.arguments.get("job")
    if verb.name == "run.queue":
        inside.require_queue(run, name or "")
    elif verb.name == _EMIT:
        inside.require_emit(run, str(request.arguments.get("topic")))
    elif verb.name not in _VERBS or request.arguments.get("context"):
        raise ForbiddenError(f"{verb.name}: run {run.id} may not ask that from inside (api)")
    elif name is not None and not inside.may_queue(run, name):
        raise NotFoundError(f"job {name:.80}: no such job")


def marked(request: Request, command: QueueRun) -> QueueRun:
    """The command with who queues it, where that is a run."""
    if request.caller.within is None:
        return command
    return command._replace(trigger="api", within=request.caller.within)


def of_run(kernel: Kernel, request: Request) -> list[int] | None:
    """The runs that a run may see, oldest first; None where a person asks."""
    within = request.caller.within
    return None if within is None else [within[0], *kernel.state.made.of(within[0])]


def progress(kernel: Kernel, request: Request) -> Any:
    """run.progress"""
    within, arguments = request.caller.within, request.arguments
    if within is None:
        raise ConflictError(
            "run.progress: is for who asks from inside of an attempt, by the socket in JOBD_SOCKET "
            "(api of a job file)"
        )
    percent, message = arguments.get("percent"), arguments.get("message", "")
    if percent is None and not message:
        raise UsageError("run.progress: expected a percent, a message, or both")
    if percent is not None and not 0 <= percent <= 100:
        raise InvalidError(f"percent: {percent}: expected a whole number, 0 to 100")
    kernel.report(within, percent, message)
    return {}


def clean(text: str) -> str:
    """A message as it is shown: one line of printable characters, no longer than LONGEST."""
    plain = "".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST])
    return " ".join(plain.split())[:LONGEST]

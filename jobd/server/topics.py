"""The verbs of topics."""

from __future__ import annotations

from typing import Any

from jobd.core.commands import Body
from jobd.core.onfilter import LOOKED_INTO
from jobd.core.ontopic import check_topic
from jobd.core.reacting import listeners
from jobd.core.topics import EmitTopic
from jobd.errors import UsageError
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Offload, Request
from jobd.server.runs import INLINE, RUN_ROOM, labels_of

#: bytes that one notification's payload takes of the queue in all; more is one file for all
_INLINE_IN_ALL = 1 << 20


def emit(kernel: Kernel, request: Request) -> Any:
    """topic.emit"""
    arguments = request.arguments
    if "payload" in arguments and "upload" in arguments:
        raise UsageError("topic.emit: 'payload' and 'upload' exclude each other")
    topic, labels = check_topic(arguments["topic"]), labels_of(arguments.get("labels") or {})
    known = request.key is not None and bool(kernel.state.requests.find(request.key))
    payload: bytes | Body = arguments.get("payload", b"")
    if "upload" in arguments and not known:
        payload = kernel.uploaded(request.caller, arguments["upload"])
    seen = payload[: LOOKED_INTO + 1] if isinstance(payload, bytes) else b""
    command = EmitTopic(topic, payload, labels, seen, request.key)
    count = len(listeners(kernel.state, topic, labels, seen))
    texts = sum(len(name) + len(value) for name, value in labels.items())
    each = RUN_ROOM + 4 * texts
    if isinstance(payload, bytes) and not known:
        if len(payload) > INLINE or len(payload) * count > _INLINE_IN_ALL:
            data = payload
            # a file is made and synced beside the loop
            return Offload(
                lambda: kernel.keep(data),
                lambda body: _emitted(kernel, request, _with(command, body), count * each),
            )
        each += len(payload)
    return _emitted(kernel, request, command, count * each)


def _with(command: EmitTopic, body: Body) -> EmitTopic:
    return EmitTopic(command.topic, body, command.labels, command.seen, command.request)


def _emitted(kernel: Kernel, request: Request, command: EmitTopic, room: int) -> Any:
    kernel.require_room(room + RUN_ROOM)
    made = kernel.decide(command, request.caller)
    sight = Sight(kernel, request.caller)
    within = request.caller.within is not None
    listening = [
        job for job in kernel.state.reactions.of_topic(command.topic) if within or sight.job(job)
    ]
    return {
        "topic": command.topic,
        "listening": len(listening),
        "count": len(made.runs),
        "runs": made.runs,
        "refused": made.refused,
        "forbidden": made.forbidden,
    }

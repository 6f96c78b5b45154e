"""The calls of topics. Steps, as jobctl/calls.py says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobctl.calls import ask, given
from jobctl.channel import Channel
from jobctl.queueing import Readable, payload_arguments
from jobctl.steps import Steps


def emit(
    to: Channel,
    topic: str,
    payload: bytes | Readable = b"",
    *,
    labels: Mapping[str, str] | None = None,
) -> Steps[dict[str, Any]]:
    """Notifies a topic: each job that listens gets a run; returned means: on disk.

    Answers `{topic, listening, count, runs: [{id, job}], refused: [{job, text}],
    forbidden: [job]}`: `count` is 0 where nobody listens, or none of the `listening` jobs to such
    labels and such a payload.

        jobd.emit("orders", b'{"id": 7}', labels={"region": "eu"})
    """
    to.new_keys()
    asked: dict[str, Any] = {"topic": topic, **given(labels=dict(labels or {}) or None)}
    asked.update((yield from payload_arguments(to, payload, keep=True)))
    answer = yield from ask(to, "topic.emit", asked)
    return {
        **answer,
        "runs": [{"id": number, "job": job} for number, job in answer["runs"]],
        "refused": [{"job": job, "text": text} for job, text in answer["refused"]],
    }

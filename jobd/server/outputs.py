"""The verbs that give bytes back: payloads, results, what an attempt left in its output folder.

No more of them is held than one piece for each reader, however slowly it reads.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any
from zlib import crc32

from jobd.core.commands import Body
from jobd.core.entities import Attempt, Run
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.errors import ConflictError, NotFoundError, QueueDamagedError, UsageError
from jobd.server.kernel import Kernel, Offload, Parts, Request
from jobd.server.selectors import one
from jobd.wire.envelope import CHUNK


def result(kernel: Kernel, request: Request) -> Any:
    """run.result"""
    run = one(kernel, request, request.arguments["run"])
    if run.state is not RunState.DONE:
        raise ConflictError(f"run {run.id}: has not ended: {status(run)}")

    def work() -> Any:
        found = kernel.result_source(run)
        if found is None:
            raise NotFoundError(f"run {run.id}: left no result")
        return Parts(_pieces(kernel, found))

    return Offload(work)


def payload(kernel: Kernel, request: Request) -> Any:
    """run.payload"""
    run = one(kernel, request, request.arguments["run"])
    return Offload(lambda: Parts(_pieces(kernel, kernel.payload_source(run))))


def _pieces(kernel: Kernel, source: bytes | Body) -> Generator[Any, None, Any]:
    if isinstance(source, bytes):
        if source:
            yield {"data": source}
        return {"size": len(source)}
    crc = 0

    def work(offset: int) -> Any:
        nonlocal crc
        data = kernel.piece(source, offset, CHUNK)
        crc = crc32(data, crc)
        return {"data": data}

    for offset in range(0, source.size, CHUNK):
        yield Offload(partial(work, offset))
    if crc != source.crc:
        raise QueueDamagedError(
            f"body {source.name}: is damaged: its checksum does not fit what was written"
        )
    return {"size": source.size}


def read(kernel: Kernel, request: Request) -> Any:
    """run.output"""
    run = one(kernel, request, request.arguments["run"])
    attempt = _attempt(run, request.arguments.get("attempt"))
    assert attempt.end is not None
    if attempt.end.output is None:
        raise NotFoundError(f"run {run.id}: attempt {attempt.number} left no output files")
    body = Body(*attempt.end.output)
    offset = request.arguments.get("offset", 0)
    if not 0 <= offset <= body.size:
        raise UsageError(f"run.output: offset {offset}: expected 0 to {body.size}")
    answer = {
        "run": run.id,
        "attempt": attempt.number,
        "files": attempt.end.output_files,
        "size": body.size,
        "crc": body.crc,
    }
    return Offload(lambda: {**answer, "data": kernel.piece(body, offset, CHUNK)})


def _attempt(run: Run, number: int | None) -> Attempt:
    """The attempt of that number, or the last that has ended."""
    ended = [attempt for attempt in run.attempts or [] if attempt.end is not None]
    if number is None:
        if not ended:
            raise ConflictError(f"run {run.id}: no attempt has ended: it is {status(run)}")
        return ended[-1]
    for attempt in ended:
        if attempt.number == number:
            return attempt
    if any(attempt.number == number for attempt in run.attempts or []):
        raise ConflictError(f"run {run.id}: attempt {number} has not ended")
    raise NotFoundError(f"run {run.id}: has no attempt {number}")

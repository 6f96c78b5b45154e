"""The verb that reads what an attempt left in its output folder."""

from __future__ import annotations

from typing import Any

from jobd.core.commands import Body
from jobd.core.entities import Attempt, Run
from jobd.core.status import status
from jobd.errors import ConflictError, NotFoundError, UsageError
from jobd.server.kernel import Kernel, Offload, Request
from jobd.server.selectors import one
from jobd.wire.envelope import CHUNK


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
    return Offload(lambda: {**answer, "data": kernel.output(body, offset, CHUNK)})


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

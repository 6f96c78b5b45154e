"""log.read: an attempt's log file, from an offset on, waiting for more where asked."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobd.core.entities import Run
from jobd.core.states import AttemptState, RunState
from jobd.core.status import status
from jobd.errors import NotFoundError, UsageError
from jobd.runlog.folder import LogFolder
from jobd.server.kernel import Kernel, Later, Offload, Request
from jobd.server.selectors import one
from jobd.wire.envelope import CHUNK, HOLD_MS


def read(kernel: Kernel, request: Request) -> Any:
    """log.read"""
    arguments = request.arguments
    run = one(kernel, request, arguments["run"])
    attempts = len(run.attempts or ())
    wanted = arguments.get("attempt", attempts)
    if wanted < 0 or (wanted > attempts and run.state is RunState.DONE):
        raise NotFoundError(f"run {run.id}: has no attempt {wanted}")
    hold = min(arguments.get("hold", 0), HOLD_MS)
    answer = {
        "run": run.id,
        "status": str(status(run)),
        "attempt": min(wanted, attempts),
        "attempts": attempts,
        "offset": arguments.get("offset", 0),
        "data": b"",
        "end": run.state is RunState.DONE and attempts == 0,
        "progress": kernel.progress(run.id) or _told(kernel, run),
    }
    if wanted == 0 or wanted > attempts:
        return _nothing_yet(run, request, hold, answer)
    attempt = (run.attempts or [])[wanted - 1]
    ended = attempt.state is AttemptState.ENDED
    words = b""
    if attempt.end is not None and attempt.end.log_truncated:
        # it may be that the disk took none of them: then they are in the queue alone
        words = kernel.last_words(run, wanted)
    when = (attempt.end.finished_at or attempt.end.at) if attempt.end is not None else 0
    if hold:
        # before the file is looked at: what is written after that look is told
        kernel.watch_log(run.id)
    log = _Log(kernel.logs, run.job.name, run.id, wanted)
    last = _LastWords(words, when)
    return Offload(lambda: _read(log, request, ended, hold, answer, last))


def _told(kernel: Kernel, run: Run) -> str:
    """How far a running attempt says it is, as a line."""
    percent, message = kernel.reported(run.id) or (None, "")
    return message if percent is None else f"{percent} % {message}".rstrip()


def _nothing_yet(run: Run, request: Request, hold: int, answer: dict[str, Any]) -> Any:
    told = request.arguments.get("progress", "")
    if hold and not request.final and not answer["end"] and answer["progress"] == told:
        raise Later([run.id], hold)
    return answer


class _Log(NamedTuple):
    """One attempt's log file, by what it is named after."""

    logs: LogFolder
    job: str
    run: int
    attempt: int


class _LastWords(NamedTuple):
    """The end of the output by the attempt's own record, and when that ended (ms UTC)."""

    data: bytes
    at: int


def _read(
    log: _Log,
    request: Request,
    ended: bool,
    hold: int,
    answer: dict[str, Any],
    last: _LastWords,
) -> Any:
    offset = _first_offset(log, request.arguments)
    data, offset = log.logs.read(*log[1:], offset, CHUNK)
    told = request.arguments.get("progress", "")
    if not data and not ended and hold and not request.final and answer["progress"] == told:
        raise Later([log.run], hold)
    answer.update(data=data, offset=offset, end=ended and not data)
    if answer["end"] and last.data:
        # where the file has room for them again they are not in it: they follow its end
        answer["data"] = log.logs.missing_words(*log[1:], last.data, last.at)
    return answer


def _first_offset(log: _Log, arguments: dict[str, Any]) -> int:
    chosen = [name for name in ("offset", "tail", "since") if name in arguments]
    if len(chosen) > 1:
        raise UsageError(f"log.read: {chosen[0]!r} and {chosen[1]!r} exclude each other")
    for name in ("offset", "tail"):
        if arguments.get(name, 0) < 0:
            raise UsageError(f"log.read: {name} {arguments[name]}: expected a number from 0 on")
    if "tail" in arguments:
        return log.logs.start_of_tail(*log[1:], arguments["tail"])
    if "since" in arguments:
        return log.logs.start_of_time(*log[1:], arguments["since"])
    return int(arguments.get("offset", 0))

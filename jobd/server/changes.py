"""The verbs that change runs which are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from jobd.codec import pack
from jobd.core.access import Right, overridden
from jobd.core.commands import (
    Body,
    CancelJob,
    CancelRun,
    CancelRuns,
    Command,
    EditRun,
    HoldRun,
    MoveRunFirst,
    ReleaseRun,
    RetryRuns,
)
from jobd.core.entities import Run
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.errors import ConflictError, ForbiddenError, InvalidError, UsageError
from jobd.server.access import Sight
from jobd.server.choosing import Choice
from jobd.server.kernel import Kernel, Recall, Request
from jobd.server.runs import MOST, MOST_BYTES, RUN_ROOM, labels_of, payloads_of, positive
from jobd.server.selectors import resolve

#: runs that are listed of more than MOST
_SOME = 1_000


def cancel(kernel: Kernel, request: Request) -> Any:
    """run.cancel"""
    arguments = request.arguments
    if ("runs" in arguments) == ("job" in arguments):
        raise UsageError("run.cancel: expected either runs or a job")
    if "job" in arguments:
        return _cancel_job(kernel, request)
    named, single = resolve(kernel, request, arguments["runs"])
    if single:
        _check_here(named[0])
        kernel.decide(CancelRun(named[0].id), request.caller)
        return _changed(named)
    return _cancel_many(kernel, request, named)


def _cancel_many(kernel: Kernel, request: Request, runs: list[Run]) -> Any:
    live = [run for run in runs if run.state is not RunState.DONE]
    if live:
        kernel.decide(CancelRuns([run.id for run in live]), request.caller)
    return _changed(live)


def _cancel_job(kernel: Kernel, request: Request) -> Any:
    choice = Choice(kernel, request)
    live = choice.all_of_job()
    if live is None:
        return _cancel_many(kernel, request, [run for part in choice.parts(False) for run in part])
    # of more than can be listed the newest: with all that may be, the answer would take longest
    shown = MOST if live <= MOST else _SOME
    first = list(islice((run for part in choice.parts(False) for run in part), shown))
    if live:
        kernel.decide(CancelJob(request.arguments["job"]), request.caller)
    return {**_changed(first), "count": live}


def _changed(runs: list[Run]) -> Any:
    return {"runs": [[run.id, str(status(run))] for run in runs[:MOST]], "count": len(runs)}


def retry(kernel: Kernel, request: Request) -> Any:
    """run.retry"""
    named, single = resolve(kernel, request, request.arguments["runs"])
    ended = named if single else [run for run in named if run.state is RunState.DONE]
    if not ended:
        raise ConflictError(f"{len(named)} runs: none of them has ended; nothing was retried")
    if len(ended) > MOST:
        raise UsageError(f"run.retry: {len(ended)} runs: {MOST} at most at once")
    given = {"payload", "upload"} & request.arguments.keys()
    new = payloads_of(kernel, request)[0] if given else None
    for run in ended:
        _check_overrides(kernel, request, run)
    recalled = _archived_payloads(kernel, request, ended) if new is None else {}
    pairs = []
    room = 0
    for run in ended:
        payload = new if new is not None else recalled.get(run.id)
        if payload is None:
            payload = kernel.payload_source(run)
        room += RUN_ROOM + (len(payload) if isinstance(payload, bytes) else 0)
        room += len(pack(run.options)) if run.options else 0
        if room > MOST_BYTES:
            raise UsageError(f"run.retry: over {MOST_BYTES} bytes of payloads: retry fewer at once")
        pairs.append((run.id, payload))
    kernel.require_room(room)
    past = {run.id: run for run in ended if run.archived}
    made = kernel.decide(RetryRuns(pairs, request.key, past), request.caller)
    return {"runs": [list(pair) for pair in made], "count": len(made), "single": single}


def _archived_payloads(
    kernel: Kernel, request: Request, runs: list[Run]
) -> dict[int, bytes | Body]:
    """The payloads of those of the runs that are archived. Raises Recall."""
    past = [run for run in runs if run.archived]
    known: dict[int, bytes | Body] = request.recalled.setdefault("payloads", {})
    missing = [run for run in past if run.id not in known]
    if missing:
        raise Recall(lambda: {run.id: kernel.payload_source(run) for run in missing}, known.update)
    return known


def _check_overrides(kernel: Kernel, request: Request, run: Run) -> None:
    """What the run was queued with and the job does not let its submitters set is not theirs to
    repeat: it may be another's run, or another's edit. Raises ForbiddenError."""
    if Sight(kernel, request.caller).job(run.job, Right.MANAGE):
        return
    given = {word for word in ("env", "args", "timeout") if run.option(word)}
    if run.priority != run.spec.priority:
        given.add("priority")
    word = overridden(frozenset(given), run.job.spec.access)
    if word is not None:
        raise ForbiddenError(
            f"run {run.id}: {word}: it was set otherwise than the job says, which this job does "
            "not let submitters do (access.override)"
        )


def _check_here(run: Run) -> None:
    """Raises ConflictError for an archived run: nothing changes it any more."""
    if run.archived:
        raise ConflictError(f"run {run.id}: is over: {status(run)}; `jobctl retry` makes a new one")


def hold(kernel: Kernel, request: Request) -> Any:
    """run.hold"""
    return _each(kernel, request, lambda run: HoldRun(run.id))


def release(kernel: Kernel, request: Request) -> Any:
    """run.release"""
    # each goes to the front: so they keep their order
    return _each(kernel, request, lambda run: ReleaseRun(run.id), backwards=True)


def next_(kernel: Kernel, request: Request) -> Any:
    """run.next"""
    # each goes before those that were moved so far
    return _each(kernel, request, lambda run: MoveRunFirst(run.id), backwards=True)


def edit(kernel: Kernel, request: Request) -> Any:
    """run.edit"""
    arguments = request.arguments
    given = {"priority", "not_before", "delay", "timeout", "labels"} & arguments.keys()
    if not given:
        raise UsageError("run.edit: nothing to change: expected a priority, date, timeout or label")
    not_before = arguments.get("not_before")
    if not_before is not None and "delay" in arguments:
        raise UsageError("run.edit: 'not_before' and 'delay' exclude each other")
    if "delay" in arguments:
        not_before = kernel.now.wall + positive("delay", arguments["delay"])
    if not_before is not None and not_before < 0:
        raise InvalidError(f"not_before: {not_before}: expected milliseconds UTC")
    labels = labels_of(arguments.get("labels") or {})
    kernel.require_room(RUN_ROOM * 2 + sum(map(len, (*labels, *labels.values()))))
    priority, timeout = arguments.get("priority"), arguments.get("timeout")
    return _each(
        kernel, request, lambda run: EditRun(run.id, priority, not_before, timeout, labels)
    )


def _each(
    kernel: Kernel,
    request: Request,
    command: Callable[[Run], Command],
    *,
    backwards: bool = False,
) -> Any:
    """Do it to one run, or refuse; of several to those where it is possible, which must be some."""
    named, single = resolve(kernel, request, request.arguments["runs"])
    changed: list[Run] = []
    problem: ConflictError | None = None
    order: Iterable[Run] = reversed(named) if backwards else named
    for run in order:
        try:
            _check_here(run)
            kernel.decide(command(run), request.caller)
        except ConflictError as error:
            if single:
                raise
            problem = problem or error
            continue
        changed.append(run)
    if problem is not None and not changed:
        raise ConflictError(f"none of {len(named)} runs was changed; {problem}")
    return _changed(changed[::-1] if backwards else changed)

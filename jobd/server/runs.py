"""The verbs of runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from jobd.core import masking
from jobd.core.access import Right
from jobd.core.commands import Body, QueueRun
from jobd.core.decision import find_job
from jobd.core.entities import Run
from jobd.core.spec import to_mapping
from jobd.core.specvalues import texts, variables
from jobd.core.states import RunState, Status
from jobd.core.status import dead, status
from jobd.errors import ConflictError, InvalidError, NotFoundError, UsageError
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Later, Offload, Parts, Request
from jobd.server.rows import run_row
from jobd.server.selectors import one, resolve
from jobd.wire.envelope import CHUNK, HOLD_MS
from jobd.wire.verbs import BY_NAME

#: rows in one part of a list
_PAGE = 100
#: runs looked at for a list in one pass of the loop
_SCAN = 2_000
#: what `ls` shows without being asked for more (INTERFACE)
_WINDOW = 50
#: runs that one request may queue
MOST = 10_000
#: bytes that one request may make the queue grow by
MOST_BYTES = 8 << 20
#: what a queued run takes of the queue beside its payload, at most but for its options
RUN_ROOM = 512


def queue(kernel: Kernel, request: Request) -> Any:
    """run.queue"""
    arguments = request.arguments
    command = _queue_command(kernel, request)
    if arguments.get("dry_run"):
        return {"settings": _settings(kernel, command)}
    never = kernel.never_fits(command.job)
    if never is not None:
        raise InvalidError(f"job {command.job}: can never start here: {never.text}")
    size = sum(len(p) for p in command.payloads if isinstance(p, bytes))
    room = size + len(command.payloads) * (RUN_ROOM + _options_size(command))
    if room > MOST_BYTES:
        raise UsageError(f"{room} bytes in one request: at most {MOST_BYTES} are taken; send less")
    kernel.require_room(room)
    runs, warnings = kernel.decide(command, request.caller)
    if not all(_readable(kernel, request, run) for run, existing in runs if existing):
        warnings = []  # they tell of another's payload
    return {"runs": runs, "warnings": warnings}


def _readable(kernel: Kernel, request: Request, run: int) -> bool:
    found = kernel.state.runs.get(run)
    return found is not None and Sight(kernel, request.caller).run(found)


def _options_size(command: QueueRun) -> int:
    """Bytes that each of the command's runs takes for what it says beside the payload."""
    texts_ = [*command.args, *command.env, *command.labels]
    texts_ += [*command.env.values(), *command.labels.values()]
    # a parent: its number, its condition, and that they are a pair
    return sum(4 * len(text) + 5 for text in texts_) + 16 * len(command.after)


def _queue_command(kernel: Kernel, request: Request) -> QueueRun:
    arguments = request.arguments
    payloads = payloads_of(kernel, request)
    not_before = arguments.get("not_before")
    if "delay" in arguments:
        not_before = kernel.now.wall + positive("delay", arguments["delay"])
    env = arguments.get("env")
    args = arguments.get("args")
    labels = arguments.get("labels")
    key = arguments.get("key")
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise InvalidError(f"key: {key!r:.60}: expected 1 to 200 printable characters")
    return QueueRun(
        job=arguments["job"],
        payloads=payloads,
        trigger="cli",
        caller=request.caller,
        request=request.key,
        priority=arguments.get("priority"),
        not_before=not_before,
        expires=positive("expires", arguments["expires"]) if "expires" in arguments else None,
        timeout=arguments.get("timeout"),
        env=variables(env, "env") if env else {},
        labels=labels_of(labels) if labels else {},
        args=texts(args, "args") if args else (),
        key=key,
        after=_parents(kernel, request),
        batch=_batch(arguments.get("batch")),
        batch_offset=positive("batch_offset", arguments.get("batch_offset", 0)),
    )


def _parents(kernel: Kernel, request: Request) -> tuple[tuple[int, str], ...]:
    found: dict[tuple[int, str], None] = {}
    for pair in request.arguments.get("after", ()):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
            raise UsageError("run.queue: after: expected pairs of a run and ok, any or fail")
        named, _ = resolve(kernel, request, [pair[0]], Right.READ)
        found.update(dict.fromkeys((run.id, pair[1]) for run in named))
    return tuple(found)


def payloads_of(kernel: Kernel, request: Request) -> list[bytes | Body]:
    arguments = request.arguments
    given = [name for name in ("payload", "payloads", "upload") if name in arguments]
    if len(given) > 1:
        raise UsageError(f"run.queue: {given[0]!r} and {given[1]!r} exclude each other")
    count = arguments.get("count", 1)
    if not 1 <= count <= MOST:
        raise UsageError(f"run.queue: count {count}: expected 1 to {MOST}")
    if "payloads" in arguments:
        many = arguments["payloads"]
        if count != 1:
            raise UsageError("run.queue: 'count' and 'payloads' exclude each other")
        if not 1 <= len(many) <= MOST or not all(isinstance(item, bytes) for item in many):
            raise UsageError(f"run.queue: payloads: expected 1 to {MOST} byte strings")
        return list(many)
    if "upload" in arguments:
        return [kernel.uploaded(request.caller, arguments["upload"])] * count
    return [arguments.get("payload", b"")] * count


def _batch(batch: str | None) -> str | None:
    if batch is not None and not (0 < len(batch) <= 64 and batch.isascii() and batch.isalnum()):
        raise InvalidError(f"batch: {batch!r:.80}: expected 1 to 64 letters and digits")
    return batch


def positive(name: str, value: int) -> int:
    if value < 0:
        raise InvalidError(f"{name}: {value}: expected a number from 0 on")
    return value


def labels_of(labels: dict[str, Any]) -> dict[str, str]:
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str) or len(labels) > 64:
            raise InvalidError("labels: expected at most 64 pairs of text and text")
        if not 0 < len(name) <= 100 or len(value) > 1000 or not (name + value).isprintable():
            raise InvalidError(
                f"labels: {name!r:.60}: expected a printable name up to 100 characters, "
                "and a value up to 1000"
            )
    return labels


def _settings(kernel: Kernel, command: QueueRun) -> dict[str, Any]:
    settings = to_mapping(find_job(kernel.state, command.job).spec)
    if command.priority is not None:
        settings["priority"] = command.priority
    if command.timeout is not None:
        settings["timeout"] = command.timeout
    settings["env"] = {**settings["env"], **command.env}
    settings["args"] = list(command.args)
    settings["labels"] = dict(command.labels)
    settings["runs"] = len(command.payloads)
    settings["not_before"] = command.not_before
    settings["after"] = [list(pair) for pair in command.after]
    return masking.job(settings)


# -- looking ---------------------------------------------------------------------------------


def list_(kernel: Kernel, request: Request) -> Any:
    """run.list"""
    arguments = request.arguments
    if "runs" in arguments:
        named, _ = resolve(kernel, request, arguments["runs"])
        return Parts(_rows(kernel, iter(named), len(named)))
    limit = arguments.get("limit")
    if limit is None and not arguments.get("all"):
        limit = _WINDOW
    return Parts(_window(kernel, filter_of(kernel, request), limit))


def filter_of(kernel: Kernel, request: Request) -> Callable[[Run], bool]:
    arguments = request.arguments
    words_ = arguments.get("status")
    known = {str(word) for word in Status} | {"dead"}
    for word in words_ or ():
        if word not in known:
            raise UsageError(f"status {word!r:.40}: expected one of {', '.join(sorted(known))}")
    job, since, labels = (arguments.get(name) for name in ("job", "since", "labels"))
    if job is not None and job not in kernel.state.jobs:
        find_job(kernel.state, job)

    sight = Sight(kernel, request.caller)
    right = Right.OWN if BY_NAME[request.verb].right == Right.OWN else Right.READ

    def wanted(run: Run) -> bool:
        if not sight.run(run, right):
            return False
        if job is not None and run.job.name != job:
            return False
        if since is not None and _last_change(run) < since:
            return False
        if labels and not labels.items() <= (run.option("labels") or {}).items():
            return False
        return not words_ or status(run) in words_ or ("dead" in words_ and dead(run))

    return wanted


def _last_change(run: Run) -> int:
    if run.state is RunState.DONE and run.note is not None:
        return run.note.at
    return run.queued_at if run.state is not RunState.ACTIVE else 1 << 62


def _window(
    kernel: Kernel, wanted: Callable[[Run], bool], limit: int | None
) -> Generator[Any, None, Any]:
    """All that are not final, then final ones, newest first in each, `limit` in all."""
    rows: list[Any] = []
    sent = 0
    for run in _in_order(kernel, wanted):
        if run is not None:
            if sent == limit:
                yield {"runs": rows}
                return {"count": sent, "more": True}
            rows.append(run_row(kernel, run))
            sent += 1
        if run is None or len(rows) == _PAGE:
            yield {"runs": rows}
            rows = []
    yield {"runs": rows}
    return {"count": sent, "more": False}


def _in_order(kernel: Kernel, wanted: Callable[[Run], bool]) -> Iterator[Run | None]:
    """The runs that are wanted, and None wherever the loop should have its turn."""
    for final in (False, True):
        below: int | None = None
        while True:
            scanned, below = _scan(kernel, below)
            yield from (
                run for run in scanned if (run.state is RunState.DONE) is final and wanted(run)
            )
            if below is None:
                break
            yield None


def _scan(kernel: Kernel, below: int | None) -> tuple[list[Run], int | None]:
    """The next runs below an id, newest first; and where to go on, None at the end."""
    runs: list[Run] = []
    for run in kernel.state.runs.newest_first(below):
        runs.append(run)
        if len(runs) == _SCAN:
            return runs, run.id
    return runs, None


def _rows(kernel: Kernel, runs: Iterator[Run], count: int) -> Generator[Any, None, Any]:
    rows: list[Any] = []
    for run in runs:
        rows.append(run_row(kernel, run))
        if len(rows) == _PAGE:
            yield {"runs": rows}
            rows = []
    if rows:
        yield {"runs": rows}
    return {"count": count, "more": False}


def show(kernel: Kernel, request: Request) -> Any:
    """run.show"""
    named, single = resolve(kernel, request, request.arguments["runs"])
    return Parts(_shown(kernel, named, single))


def _shown(kernel: Kernel, named: list[Run], single: bool) -> Generator[Any, None, Any]:
    yield from _rows(kernel, iter(named), len(named))
    return {"count": len(named), "single": single}


def wait(kernel: Kernel, request: Request) -> Any:
    """run.wait"""
    arguments = request.arguments
    goal = arguments.get("for", "done")
    if goal not in ("done", "running", "succeeded"):
        raise UsageError(f"run.wait: for {goal!r:.40}: expected done, running or succeeded")
    named, single = resolve(kernel, request, arguments["runs"])
    open_ = [run.id for run in named if not _reached(run, goal)]
    if open_ and not request.final:
        # one of them is enough, as all have to come to it: the last, as it will be the last to
        raise Later(open_[-1:], min(arguments.get("hold", HOLD_MS), HOLD_MS))
    return {
        "ready": not open_,
        "runs": [run_row(kernel, run) for run in named[:_PAGE]],
        "single": single,
    }


def _reached(run: Run, goal: str) -> bool:
    if run.state is RunState.DONE:
        return True
    return goal == "running" and status(run) in (Status.RUNNING, Status.STOPPING)


def result(kernel: Kernel, request: Request) -> Any:
    """run.result"""
    run = one(kernel, request, request.arguments["run"])
    if run.state is not RunState.DONE:
        raise ConflictError(f"run {run.id}: has not ended: {status(run)}")

    def work() -> Any:
        data = kernel.result(run)
        if data is None:
            raise NotFoundError(f"run {run.id}: left no result")
        return Parts(_chunks(data), len(data))

    return Offload(work)


def payload(kernel: Kernel, request: Request) -> Any:
    """run.payload"""
    run = one(kernel, request, request.arguments["run"])

    def work() -> Any:
        data = kernel.payload(run)
        return Parts(_chunks(data), len(data))

    return Offload(work)


def _chunks(data: bytes) -> Generator[Any, None, Any]:
    for start in range(0, len(data), CHUNK):
        yield {"data": data[start : start + CHUNK]}
    return {"size": len(data)}

"""The verbs of runs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any

from jobd.core import masking
from jobd.core.access import Right
from jobd.core.commands import Body, QueueRun
from jobd.core.decide import decide
from jobd.core.decision import find_job
from jobd.core.entities import Run
from jobd.core.spec import to_mapping
from jobd.core.specvalues import texts, variables
from jobd.core.states import RunState, Status
from jobd.core.status import status
from jobd.errors import InvalidError, UsageError
from jobd.server import inside
from jobd.server.access import Sight
from jobd.server.choosing import Choice
from jobd.server.kernel import Kernel, Later, Offload, Parts, Pending, Request
from jobd.server.rows import run_row
from jobd.server.selectors import resolve
from jobd.units import duration_text
from jobd.wire.envelope import HOLD_MS

#: rows in one part of a list
_PAGE = 100
#: what `ls` shows without being asked for more (INTERFACE)
_WINDOW = 50
#: runs that one request may queue
MOST = 10_000
#: bytes that one request may make the queue grow by
MOST_BYTES = 8 << 20
#: a payload that is larger is a file of its own beside the queue (ARCHITECTURE, "Bodies")
INLINE = 4096
#: what a queued run takes of the queue beside its payload, at most but for its options
RUN_ROOM = 512


def queue(kernel: Kernel, request: Request) -> Any:
    """run.queue"""
    command = inside.marked(request, _queue_command(kernel, request))
    never = kernel.never_fits(command.job)
    if never is not None:
        raise InvalidError(f"job {command.job}: can never start here: {never.text}")
    if request.arguments.get("dry_run"):
        # what would be refused is refused: the same decision, and nothing is made of it
        _require_room(kernel, command)
        decide(kernel.state, command, kernel.now, kernel.rules, request.caller)
        return {"settings": _settings(kernel, command)}
    large = {id(p): p for p in command.payloads if isinstance(p, bytes) and len(p) > INLINE}
    if large and not (request.key and kernel.state.requests.find(request.key)):
        # files are made and synced beside the loop; the same payload for many runs is one
        return Offload(
            lambda: {number: kernel.keep(data) for number, data in large.items()},
            lambda bodies: _queued(
                kernel,
                request,
                command._replace(payloads=[bodies.get(id(p), p) for p in command.payloads]),
            ),
        )
    return _queued(kernel, request, command)


def _require_room(kernel: Kernel, command: QueueRun) -> None:
    size = sum([len(p) for p in command.payloads if isinstance(p, bytes) and len(p) <= INLINE])
    room = size + len(command.payloads) * (RUN_ROOM + _options_size(command))
    if room > MOST_BYTES:
        raise UsageError(f"{room} bytes in one request: at most {MOST_BYTES} are taken; send less")
    kernel.require_room(room)


def _queued(kernel: Kernel, request: Request, command: QueueRun) -> Any:
    _require_room(kernel, command)
    runs, warnings = kernel.decide(command, request.caller)
    if warnings and not all(_readable(kernel, request, run) for run, existing in runs if existing):
        warnings = []  # they tell of another's payload
    return {"runs": runs, "warnings": warnings}


def _readable(kernel: Kernel, request: Request, run: int) -> bool:
    found = kernel.state.runs.get(run)
    return found is not None and Sight(kernel, request.caller).run(found)


def _options_size(command: QueueRun) -> int:
    """Bytes that each of the command's runs takes for what it says beside the payload."""
    if not (command.args or command.env or command.labels or command.after):
        return 0
    texts_ = [*command.args, *command.env, *command.labels]
    texts_ += [command.key or "", command.mutex or ""]
    texts_ += [*command.env.values(), *command.labels.values()]
    # a parent: its number, its condition, and that they are a pair
    return sum(4 * len(text) + 5 for text in texts_) + 16 * len(command.after)


def _queue_command(kernel: Kernel, request: Request) -> QueueRun:
    arguments = request.arguments
    if len(arguments) == 2 and "payload" in arguments:
        # a job and a payload: what nearly all requests are, and nothing of it to look at
        return QueueRun(
            arguments["job"], [arguments["payload"]], "cli", request.caller, request.key
        )
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
        mutex=arguments.get("mutex"),
        unmet=arguments.get("unmet", "skip"),
        latest=bool(arguments.get("latest")),
        debounce=arguments.get("debounce"),
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
        settings["timeout"] = duration_text(command.timeout)
    if command.expires is not None:
        settings["expires"] = duration_text(command.expires)
    if command.key is not None:
        settings["key"] = command.key
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
    return Parts(_window(kernel, Choice(kernel, request), limit))


def _window(kernel: Kernel, choice: Choice, limit: int | None) -> Generator[Any, None, Any]:
    """All that are not final, then final ones, newest first in each, `limit` in all."""
    rows: list[Any] = []
    sent = 0
    for part in chain(choice.parts(False), choice.parts(True)):
        for run in part:
            if sent == limit:
                yield {"runs": rows}
                return {"count": sent, "more": True}
            rows.append(run_row(kernel, run))
            sent += 1
            if len(rows) == _PAGE:
                yield {"runs": rows}
                rows = []
        # the loop has its turn; in a long search there is rarely something to send
        yield {"runs": rows} if rows else None
        rows = []
    yield {"runs": rows}
    return {"count": sent, "more": False}


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
    if request.pending is None:
        named, single = resolve(kernel, request, arguments["runs"])
        open_ = [run.id for run in reversed(named) if not _reached(run, goal)]
        request.pending = Pending(open_, [run.id for run in named[:_PAGE]], single)
    open_, shown, single = request.pending
    # each is asked for once it is the last: waiting for many costs no more with each that ends
    while open_ and _is_over(kernel.state.runs.get(open_[-1]), goal):
        open_.pop()
    if open_ and not request.final:
        raise Later(open_[-1:], min(arguments.get("hold", HOLD_MS), HOLD_MS))
    sight = Sight(kernel, request.caller)
    found = [run for run in map(kernel.state.runs.get, shown) if run is not None]
    rows = [run_row(kernel, run) for run in found if sight.run(run)]
    return {"ready": not open_, "runs": rows, "single": single}


def _is_over(run: Run | None, goal: str) -> bool:
    return run is None or _reached(run, goal)


def _reached(run: Run, goal: str) -> bool:
    if run.state is RunState.DONE:
        return True
    return goal == "running" and status(run) in (Status.RUNNING, Status.STOPPING)

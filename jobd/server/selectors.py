"""Run selectors to runs: `42`, `40-45`, `40,42`, `last`, `last:JOB` (INTERFACE, "jobctl")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobd.core.entities import Run
from jobd.errors import NotFoundError, UsageError
from jobd.server.access import may_read
from jobd.server.kernel import Kernel, Request

#: runs that one request may name
MOST = 100_000


def resolve(kernel: Kernel, request: Request, selectors: Sequence[Any]) -> tuple[list[Run], bool]:
    """The runs that the selectors name, each once and in that order; and whether one was named
    plainly, so that a single answer is wanted.

    A range takes what is there of it. Raises UsageError and NotFoundError.
    """
    if not selectors or not all(isinstance(selector, str) for selector in selectors):
        raise UsageError("no run named: expected 42, 40-45, 40,42, last or last:JOB")
    found: dict[int, Run] = {}
    words = [word for selector in selectors for word in selector.split(",")]
    for word in words:
        for run in _runs(kernel, request, word):
            found[run.id] = run
    return list(found.values()), len(words) == 1 and "-" not in words[0].partition(":")[0]


def one(kernel: Kernel, request: Request, selector: str) -> Run:
    """The one run that the selector names. Raises UsageError and NotFoundError."""
    runs, single = resolve(kernel, request, [selector])
    if not single:
        raise UsageError(f"{selector!r:.80} may name several runs; expected one")
    return runs[0]


def _runs(kernel: Kernel, request: Request, word: str) -> list[Run]:
    if word == "last" or word.startswith("last:"):
        return [_last(kernel, request, word[5:])]
    first, dash, last = word.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
        raise UsageError(f"{word!r:.80} names no run: expected 42, 40-45, 40,42, last or last:JOB")
    if not dash:
        run = kernel.state.runs.get(int(first))
        if run is None or not may_read(kernel, request.caller, run):
            raise NotFoundError(f"run {first}: no such run; `jobctl ls --all` lists them")
        return [run]
    low, high = int(first), min(int(last), kernel.state.next_run - 1)
    if high - low >= MOST:
        raise UsageError(f"{word}: at most {MOST} runs can be named at once")
    runs = [kernel.state.runs.get(number) for number in range(low, high + 1)]
    known = [run for run in runs if run is not None and may_read(kernel, request.caller, run)]
    if not known:
        raise NotFoundError(f"runs {word}: none of them is there; `jobctl ls --all` lists them")
    return known


def _last(kernel: Kernel, request: Request, job: str) -> Run:
    for run in kernel.state.runs.newest_first():
        if (not job or run.job.name == job) and may_read(kernel, request.caller, run):
            return run
    if job and job not in kernel.state.jobs:
        raise NotFoundError(f"job {job:.80}: no such job; `jobctl jobs` lists them")
    raise NotFoundError(f"last{':' if job else ''}{job}: no run yet")

"""Run selectors to runs: `42`, `40-45`, `40,42`, `last`, `last:JOB` (INTERFACE, "jobctl")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobd.core.access import Right
from jobd.core.entities import Run
from jobd.errors import NotFoundError, UsageError
from jobd.server.access import HiddenError, Sight, require_run, visible_job
from jobd.server.kernel import Kernel, Request
from jobd.server.recalling import last_of, recall, run_of
from jobd.wire.verbs import BY_NAME

#: runs that one request may name
MOST = 100_000


def resolve(
    kernel: Kernel, request: Request, selectors: Sequence[Any], right: Right | None = None
) -> tuple[list[Run], bool]:
    """The runs that the selectors name, each once and in that order; and whether one was named
    plainly, so that a single answer is wanted.

    A range takes what is there of it, as far as the caller may read it. Where the verb needs
    another right than to read (or `right` is one), each run is asked for it, and one refusal is
    all of the answer.
    Raises UsageError, NotFoundError, ForbiddenError; and Recall, where some are archived.
    """
    if not selectors or not all(isinstance(selector, str) for selector in selectors):
        raise UsageError("no run named: expected 42, 40-45, 40,42, last or last:JOB")
    found: dict[int, Run] = {}
    words = [word for selector in selectors for word in selector.split(",")]
    sight = Sight(kernel, request.caller)
    right = right or _right(request.verb)
    recall(kernel, request, [number for word in words for number in _numbers(kernel, word)])
    for word in words:
        for run in _runs(kernel, request, sight, word):
            if not sight.run(run, right):
                require_run(kernel, request.caller, right, run)
            found[run.id] = run
    return list(found.values()), len(words) == 1 and "-" not in words[0].partition(":")[0]


def one(kernel: Kernel, request: Request, selector: str) -> Run:
    """The one run that the selector names. Raises UsageError and NotFoundError."""
    runs, single = resolve(kernel, request, [selector])
    if not single:
        raise UsageError(f"{selector!r:.80} may name several runs; expected one")
    return runs[0]


def _right(verb: str) -> Right:
    """What a verb needs of the runs that it selects; to be listed they have to be readable."""
    right = Right(BY_NAME[verb].right)
    return Right.READ if right is Right.LOOK else right


def _numbers(kernel: Kernel, word: str) -> range:
    """The ids that a word means; `last` means none. Raises UsageError."""
    if word == "last" or word.startswith("last:"):
        return range(0)
    first, dash, last = word.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
        raise UsageError(f"{word!r:.80} names no run: expected 42, 40-45, 40,42, last or last:JOB")
    low = int(first)
    if not dash:
        return range(low, low + 1)
    high = min(int(last), kernel.state.next_run - 1)
    if high - low >= MOST:
        raise UsageError(f"{word}: at most {MOST} runs can be named at once")
    return range(low, high + 1)


def _runs(kernel: Kernel, request: Request, sight: Sight, word: str) -> list[Run]:
    if word == "last" or word.startswith("last:"):
        return [_last(kernel, request, sight, word[5:])]
    numbers = _numbers(kernel, word)
    if "-" not in word:
        run = run_of(kernel, request, numbers.start)
        if run is None or not sight.run(run):
            missing = NotFoundError if run is None else HiddenError
            raise missing(f"run {word}: no such run; `jobctl ls --all` lists them")
        return [run]
    runs = [run_of(kernel, request, number) for number in numbers]
    known = [run for run in runs if run is not None and sight.run(run)]
    if not known:
        raise NotFoundError(f"runs {word}: none of them is there; `jobctl ls --all` lists them")
    return known


def _last(kernel: Kernel, request: Request, sight: Sight, job: str) -> Run:
    newest = None
    for run in kernel.state.runs.newest_first():
        if (not job or run.job.name == job) and sight.run(run):
            newest = run
            break
    jobs = [each for each in kernel.state.jobs_by_id.values() if each.name == job] if job else None
    found = last_of(kernel, request, jobs, newest, sight.run)
    if found is not None:
        return found
    if job:
        visible_job(kernel, request.caller, job)
    raise NotFoundError(f"last{':' if job else ''}{job}: no run yet")

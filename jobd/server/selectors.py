"""Run selectors to runs: `42`, `40-45`, `40,42`, `last`, `last:JOB` (INTERFACE, "jobctl")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobd.core.access import Right
from jobd.core.entities import Job, Run
from jobd.errors import NotFoundError, UsageError
from jobd.server import inside
from jobd.server.access import HiddenError, Sight, require_run, visible_job
from jobd.server.kernel import Kernel, Request
from jobd.wire.verbs import BY_NAME

#: runs that one request may name
MOST = 100_000
#: as how many of them `last` counts: it may have to look at many
_LAST = 1_000


def resolve(
    kernel: Kernel, request: Request, selectors: Sequence[Any], right: Right | None = None
) -> tuple[list[Run], bool]:
    """The runs that the selectors name, each once and in that order; and whether one was named
    plainly, so that a single answer is wanted.

    A range takes what is there of it, as far as the caller may read it. Where the verb needs
    another right than to read (or `right` is one), each run is asked for it, and one refusal is
    all of the answer.
    Raises UsageError, NotFoundError, ForbiddenError.
    """
    if not selectors or not all(isinstance(selector, str) for selector in selectors):
        raise UsageError("no run named: expected 42, 40-45, 40,42, last or last:JOB")
    found: dict[int, Run] = {}
    words = [word for selector in selectors for word in selector.split(",")]
    sight = Sight(kernel, request.caller)
    right = right or _right(request.verb)
    looked_at = 0
    for word in dict.fromkeys(words):
        # before it is done: thousands of words that name many would hold everybody up
        looked_at += _cost(kernel, word)
        if looked_at > MOST:
            raise UsageError(f"{len(words)} selectors: at most {MOST} runs can be named at once")
        named = _runs(kernel, request, sight, word)
        for run in named if not sight.all else ():
            if not sight.run(run, right):
                require_run(kernel, request.caller, right, run)
        found.update((run.id, run) for run in named)
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


def _cost(kernel: Kernel, word: str) -> int:
    """How many runs are looked at for a word, about; 1 where it alone is too many, or is wrong."""
    if word.startswith("last"):
        return _LAST
    first, dash, last = word.partition("-")
    if not dash or len(word) > 40 or not (first.isdecimal() and last.isdecimal()):
        return 1
    span = min(int(last), kernel.state.next_run - 1) - int(first) + 1
    return span if 1 <= span <= MOST else 1


def _runs(kernel: Kernel, request: Request, sight: Sight, word: str) -> list[Run]:
    if word == "last" or word.startswith("last:"):
        return [_last(kernel, request, sight, word[5:])]
    first, dash, last = word.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
        raise UsageError(f"{word!r:.80} names no run: expected 42, 40-45, 40,42, last or last:JOB")
    if not dash:
        run = kernel.state.runs.get(int(first))
        if run is None or not sight.run(run):
            missing = NotFoundError if run is None else HiddenError
            raise missing(f"run {first}: no such run; `jobctl ls --all` lists them")
        return [run]
    low, high = int(first), min(int(last), kernel.state.next_run - 1)
    if high - low >= MOST:
        raise UsageError(f"{word}: at most {MOST} runs can be named at once")
    known = kernel.state.runs.between(low, high)
    if not sight.all:
        known = [run for run in known if sight.run(run)]
    if not known:
        raise NotFoundError(f"runs {word}: none of them is there; `jobctl ls --all` lists them")
    return known


def _last(kernel: Kernel, request: Request, sight: Sight, job: str) -> Run:
    state = kernel.state
    seen = inside.of_run(kernel, request)
    for number in reversed(seen or ()):
        run = state.runs.get(number)
        if run is not None and (not job or run.job.name == job):
            return run
    jobs = [each for each in state.jobs_by_id.values() if not job or each.name == job]
    # of jobs whose runs may all be seen the newest; of others one's own, where that is newer
    open_ = [each for each in jobs if sight.job(each, Right.READ)]
    newest = max((run for each in open_ for run in _newest(kernel, each)), default=0)
    if len(open_) < len(jobs):
        closed = set(jobs).difference(open_)
        for run in state.runs.newest_first():
            if run.id <= newest:
                break
            if run.job in closed and sight.run(run):
                return run
    found = state.runs.get(newest)
    if found is not None:
        return found
    if job:
        visible_job(kernel, request.caller, job)
    raise NotFoundError(f"last{':' if job else ''}{job}: no run yet")


def _newest(kernel: Kernel, job: Job) -> list[int]:
    """The id of the job's newest run, if it has any."""
    below = None
    while ids := job.runs.below(below, 100):
        for number in reversed(ids):
            if kernel.state.runs.get(number) is not None:
                return [number]
        below = ids[0]
    return []

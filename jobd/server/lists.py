"""run.list: live runs, then ended ones, those in memory and those in the archive as one list."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from jobd.core.access import Right
from jobd.core.archiving import Wanted
from jobd.core.decision import find_job
from jobd.core.entities import Run
from jobd.core.states import DEAD_OUTCOMES, Outcome, RunState, Status
from jobd.core.status import dead, status
from jobd.errors import RefusedError, UsageError
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Offload, Parts, Request
from jobd.server.rows import run_row
from jobd.server.selectors import resolve
from jobd.wire.verbs import BY_NAME

#: rows in one part of a list
PAGE = 100
#: runs looked at for a list in one pass of the loop
_SCAN = 2_000
#: what `ls` shows without being asked for more (INTERFACE)
_WINDOW = 50


def list_(kernel: Kernel, request: Request) -> Any:
    """run.list"""
    arguments = request.arguments
    if "runs" in arguments:
        named, _ = resolve(kernel, request, arguments["runs"])
        return Parts(rows_of(kernel, iter(named), len(named)))
    limit = arguments.get("limit")
    if limit is None and not arguments.get("all"):
        limit = _WINDOW
    past = _Past(kernel, _wanted(kernel, request))
    return Parts(_window(kernel, past, filter_of(kernel, request), limit))


def filter_of(kernel: Kernel, request: Request) -> Callable[[Run], bool]:
    """What a request asks for, and its caller may see."""
    arguments = request.arguments
    words_ = arguments.get("status")
    known = {str(word) for word in Status} | {"dead"}
    for word in words_ or ():
        if word not in known:
            raise UsageError(f"status {word!r:.40}: expected one of {', '.join(sorted(known))}")
    job, since, labels = (arguments.get(name) for name in ("job", "since", "labels"))
    until = arguments.get("until")
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
        if until is not None and _last_change(run) > until:
            return False
        if labels and not labels.items() <= (run.option("labels") or {}).items():
            return False
        return not words_ or status(run) in words_ or ("dead" in words_ and dead(run))

    return wanted


def _last_change(run: Run) -> int:
    if run.state is RunState.DONE and run.note is not None:
        return run.note.at
    return run.queued_at if run.state is not RunState.ACTIVE else 1 << 62


def _wanted(kernel: Kernel, request: Request) -> Wanted | None:
    """The same for the archive, as far as an index can tell; None: none of it fits."""
    arguments = request.arguments
    name, words_ = arguments.get("job"), arguments.get("status")
    jobs = [job.id for job in kernel.state.jobs_by_id.values() if job.name == name]
    outcomes = None
    if words_ is not None:
        outcomes = {str(word) for word in Outcome if word in words_}
        if "dead" in words_:
            outcomes |= {str(word) for word in DEAD_OUTCOMES}
        if not outcomes:
            return None
    return Wanted(
        jobs=None if name is None else tuple(jobs),
        outcomes=None if outcomes is None else tuple(sorted(outcomes)),
        since=arguments.get("since"),
        until=arguments.get("until"),
        labels=tuple(sorted((arguments.get("labels") or {}).items())),
    )


class _Page(NamedTuple):
    """What a thread has read of the archive, or why it could not."""

    runs: list[Run]
    trouble: str | None


class _Past:
    """The archived runs that fit, page by page, highest id first; `trouble`: why there are none."""

    def __init__(self, kernel: Kernel, wanted: Wanted | None) -> None:
        self._kernel, self._wanted = kernel, wanted
        self._page: list[Run] = []
        #: no archived run that was not seen yet has an id of that, or above
        self.below = 0
        self.trouble: str | None = None
        if wanted is not None and kernel.history.any:
            self.below = kernel.history.highest + 1 if kernel.history.ready else 1 << 62

    def above(self, run: Run | None) -> Generator[Any, Any, list[Run]]:
        """Those with an id above that of `run` (None: all that are left), a page at most at once.

        Ends without any only where there are none left. A part of a list's own iterator.
        """
        least = run.id if run is not None else 0
        if not self._page and self.below > least + 1:
            found = yield Offload(self._read)
            self._page, self.trouble = found.runs, found.trouble
            self.below = found.runs[-1].id if found.runs else 0
        count = sum(each.id > least for each in self._page)
        taken, self._page = self._page[:count], self._page[count:]
        return taken

    def _read(self) -> _Page:
        assert self._wanted is not None
        try:
            return _Page(self._kernel.history.page(self._wanted, self.below, PAGE), None)
        except RefusedError as error:
            return _Page([], str(error))


def _window(
    kernel: Kernel, past: _Past, wanted: Callable[[Run], bool], limit: int | None
) -> Generator[Any, Any, Any]:
    """All that are not final, then final ones, newest first in each, `limit` in all."""
    rows: list[Any] = []
    sent = 0
    order = _in_order(kernel, past, wanted)
    answer = None
    while True:
        try:
            run = order.send(answer)
        except StopIteration:
            break
        answer = None
        if isinstance(run, Offload):
            if rows:
                yield {"runs": rows}
                rows = []
            answer = yield run
            continue
        if run is not None:
            if sent == limit:
                yield {"runs": rows}
                return {"count": sent, "more": True}
            rows.append(run_row(kernel, run))
            sent += 1
        if run is None or len(rows) == PAGE:
            yield {"runs": rows}
            rows = []
    yield {"runs": rows}
    told = {"count": sent, "more": False}
    return told if past.trouble is None else {**told, "more": True, "trouble": past.trouble}


def _in_order(
    kernel: Kernel, past: _Past, wanted: Callable[[Run], bool]
) -> Generator[Run | Offload | None, Any, None]:
    """The runs that are wanted, an Offload where one has to be done first, and None wherever the
    loop should have its turn."""
    seen: set[int] = set()
    for final in (False, True):
        below: int | None = None
        while True:
            scanned, below = _scan(kernel, below)
            for run in scanned:
                if (run.state is not RunState.DONE) is final or not wanted(run):
                    continue
                if final:
                    yield from _archived(past, run, wanted, seen)
                    seen.add(run.id)
                yield run
            if below is None:
                break
            yield None
    yield from _archived(past, None, wanted, seen)


def _archived(
    past: _Past, run: Run | None, wanted: Callable[[Run], bool], seen: set[int]
) -> Generator[Run | Offload | None, Any, None]:
    """The archived runs that come before `run` in the list; all where that is None."""
    while True:
        found = yield from past.above(run)
        if not found:
            return
        for each in found:
            # in memory still, or when this list came by
            if each.id not in seen and (run is None or each.id != run.id) and wanted(each):
                yield each
        yield None


def _scan(kernel: Kernel, below: int | None) -> tuple[list[Run], int | None]:
    """The next runs below an id, newest first; and where to go on, None at the end."""
    runs: list[Run] = []
    for run in kernel.state.runs.newest_first(below):
        runs.append(run)
        if len(runs) == _SCAN:
            return runs, run.id
    return runs, None


def rows_of(kernel: Kernel, runs: Iterator[Run], count: int) -> Generator[Any, None, Any]:
    """Rows of these runs, a page in each part."""
    rows: list[Any] = []
    for run in runs:
        rows.append(run_row(kernel, run))
        if len(rows) == PAGE:
            yield {"runs": rows}
            rows = []
    if rows:
        yield {"runs": rows}
    return {"count": count, "more": False}

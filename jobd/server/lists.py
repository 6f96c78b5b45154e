"""run.list: live runs, then ended ones, those in memory and those in the archive as one list."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from jobd.core.archiving import Found, Wanted
from jobd.core.entities import Run
from jobd.errors import RefusedError
from jobd.server.choosing import Choice
from jobd.server.kernel import Kernel, Offload, Parts, Request
from jobd.server.rows import run_row
from jobd.server.selectors import resolve

#: rows in one part of a list
PAGE = 100
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
    choice = Choice(kernel, request)
    return Parts(_window(kernel, choice, _Past(kernel, choice.archived()), limit))


def _same(page: Any) -> Any:
    return page


class _Past:
    """The archived runs that fit, page by page, highest id first; `trouble`: why some miss."""

    def __init__(self, kernel: Kernel, wanted: Wanted | None) -> None:
        self._kernel, self._wanted = kernel, wanted
        self._page: list[Run] = []
        #: no archived run that was not seen yet has an id of that, or above
        self.below = 0
        self.trouble: str | None = None
        self._damaged: list[int] = []
        if wanted is not None and kernel.history.any:
            self.below = kernel.history.highest + 1 if kernel.history.ready else 1 << 62

    def above(self, run: Run | None) -> Generator[Any, Any, list[Run]]:
        """Those with an id above that of `run` (None: all that are left), a page at most at once.

        Ends without any only where there are none left. A part of a list's own iterator.
        """
        least = run.id if run is not None else 0
        while not self._page and self.below > least + 1:
            found = yield Offload(self._read, _same)
            if isinstance(found, str):
                self.below, self.trouble = 0, found
            else:
                self._page, self.below = found.runs, found.below
                self._tell_of(found.damaged)
        count = sum(each.id > least for each in self._page)
        taken, self._page = self._page[:count], self._page[count:]
        return taken

    def _tell_of(self, damaged: Sequence[int]) -> None:
        if damaged:
            self._damaged += damaged
            some = ", ".join(map(str, self._damaged[:5]))
            more = f" and {len(self._damaged) - 5} more" if len(self._damaged) > 5 else ""
            self.trouble = f"damaged in the archive: run {some}{more}; `jobd fsck` tells more"

    def _read(self) -> Found | str:
        assert self._wanted is not None
        try:
            return self._kernel.history.page(self._wanted, self.below, PAGE)
        except RefusedError as error:
            return str(error)


def _window(
    kernel: Kernel, choice: Choice, past: _Past, limit: int | None
) -> Generator[Any, Any, Any]:
    """All that are not final, then final ones, newest first in each, `limit` in all."""
    rows: list[Any] = []
    sent = 0
    order = _in_order(choice, past)
    answer = None
    while True:
        try:
            run = order.send(answer)
        except StopIteration:
            break
        answer = None
        if isinstance(run, Run):
            if sent == limit:
                yield {"runs": rows}
                return {"count": sent, "more": True}
            rows.append(run_row(kernel, run))
            sent += 1
            if len(rows) < PAGE:
                continue
        # the loop has its turn; in a long search there is rarely something to send
        yield {"runs": rows} if rows else None
        rows = []
        if isinstance(run, Offload):
            answer = yield run
    yield {"runs": rows}
    told = {"count": sent, "more": False}
    return told if past.trouble is None else {**told, "more": True, "trouble": past.trouble}


def _in_order(choice: Choice, past: _Past) -> Generator[Run | Offload | None, Any, None]:
    """The runs that are wanted, an Offload where one has to be done first, and None wherever the
    loop should have its turn."""
    for part in choice.parts(False):
        yield from part
        yield None
    seen: set[int] = set()
    for part in choice.parts(True):
        for run in part:
            seen.add(run.id)
            yield from _archived(past, run, choice.wanted, seen)
            yield run
        yield None
    yield from _archived(past, None, choice.wanted, seen)


def _archived(
    past: _Past, run: Run | None, wanted: Callable[[Run], bool], seen: set[int]
) -> Generator[Run | Offload | None, Any, None]:
    """The archived runs that come before `run` in the list; all where that is None."""
    while True:
        found = yield from past.above(run)
        if not found:
            return
        for each in found:
            # else it is in memory still, or was when this list came by
            if each.id not in seen and wanted(each):
                yield each
        yield None


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

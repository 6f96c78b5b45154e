"""Which runs a list shows, or a cancel means; and how they are found without looking at all others.

A search goes by what is known beforehand: how many runs are in each status, which pieces of the
table have runs in a state at all, which runs are active, which ids a job has. What is left is gone
through a part at a time, so that a search among a million keeps nobody else waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from jobd.core.access import Right
from jobd.core.decision import find_job
from jobd.core.entities import Job, Run
from jobd.core.states import DEAD_OUTCOMES, FINAL, RunState, Status
from jobd.core.status import dead, status
from jobd.errors import UsageError
from jobd.server import inside
from jobd.server.access import Sight
from jobd.server.kernel import Kernel, Request
from jobd.server.rows import counts
from jobd.wire.verbs import BY_NAME

#: runs looked at by their ids in one part of a search
_LOOKED_AT = 2_000
#: a job with fewer of all runs than one in so many is searched by its own ids
_FEW = 4

_STATES = {
    Status.DELAYED: RunState.WAITING,
    Status.BLOCKED: RunState.WAITING,
    Status.QUEUED: RunState.WAITING,
    Status.RETRYING: RunState.WAITING,
    Status.HELD: RunState.HELD,
    Status.STARTING: RunState.ACTIVE,
    Status.RUNNING: RunState.ACTIVE,
    Status.STOPPING: RunState.ACTIVE,
    **dict.fromkeys(FINAL, RunState.DONE),
}
#: asked for each of a million: an enum's attribute is slow to look up
_ACTIVE, _WAITING = RunState.ACTIVE, RunState.WAITING
_LIVE = frozenset({RunState.WAITING, RunState.HELD, RunState.ACTIVE})
_DEAD, _QUEUED = "dead", str(Status.QUEUED)


class Choice:
    """The runs that a request asks for by `status`, `job`, `since`, `labels`, and may see.

    Raises UsageError for a status that is none, NotFoundError for a job that is not there.
    """

    def __init__(self, kernel: Kernel, request: Request) -> None:
        arguments = request.arguments
        self._kernel = kernel
        self._sight = Sight(kernel, request.caller)
        own = BY_NAME[request.verb].right == Right.OWN
        #: what the caller has to be allowed
        self.right = Right.OWN if own else Right.READ
        self.words = _words(arguments.get("status"))
        name = arguments.get("job")
        self._job = None if name is None else find_job(kernel.state, name)
        self._since = arguments.get("since")
        self._labels = arguments.get("labels")
        self._seen = inside.of_run(kernel, request)

    def wanted(self, run: Run) -> bool:
        """Whether the run is one of them."""
        words = self.words
        return (
            self._sight.run(run, self.right)
            and (self._job is None or run.job is self._job)
            and (self._since is None or _last_change(run) >= self._since)
            and (not self._labels or _has(run, self._labels))
            and (not words or status(run) in words or (_DEAD in words and dead(run)))
        )

    def all_of_job(self) -> int | None:
        """How many they are, where these are all runs of a job that are not over; else None."""
        job = self._job
        if job is None or self._since is not None or self._labels:
            return None
        if not self._sight.job(job, self.right) or (self.words and self._there() - self.words):
            return None
        return job.waiting + job.held + job.active

    def parts(self, final: bool) -> Iterator[Iterable[Run]]:
        """Those of them that are over, or those that are not, newest first; a part, which may be
        empty, wherever the loop should have its turn."""
        found = self._states(RunState.DONE if final else None)
        if not found:
            return
        job, state = self._job, self._kernel.state
        if self._seen is not None:
            yield self._of_ids(self._seen[::-1], found)
        elif set(found) == {RunState.ACTIVE}:
            yield self._of_ids(sorted(state.active, reverse=True), found)
        elif job is not None and len(job.runs) * _FEW < len(state.runs):
            yield from self._of_job(job, found)
        elif final:
            yield from self._of_table(found, self._likely_done)
        else:
            yield from self._of_table(found, self._likely)

    def _states(self, only: RunState | None) -> Collection[RunState]:
        """The states in which there can be such runs, by how many there are of each status."""
        wanted = _LIVE if only is None else frozenset({only})
        if not self.words:
            return wanted
        there = self._there(final=True)
        words = {Status(word) for word in self.words & there if word != _DEAD}
        found = {_STATES[word] for word in words}
        if _DEAD in self.words and DEAD_OUTCOMES & there:
            found.add(RunState.DONE)
        return found & wanted

    def _there(self, final: bool = False) -> set[str]:
        """The status words of which there are any runs, of the job where one is named; those of
        ended ones only with `final`."""
        job, active = self._job, self._kernel.state.active.values()
        if job is None:
            there = set(counts(self._kernel.state, active))
        else:
            there = set(counts(job, (run for run in active if run.job is job)))
        return there if final else there - FINAL

    def _of_ids(self, ids: Collection[int], states: Collection[RunState]) -> Iterator[Run]:
        states = tuple(states)  # a set would ask each for its hash
        runs = map(self._kernel.state.runs.get, ids)
        return (run for run in runs if run is not None and run.state in states and self.wanted(run))

    def _of_job(self, job: Job, states: Collection[RunState]) -> Iterator[Iterable[Run]]:
        below = None
        while ids := job.runs.below(below, _LOOKED_AT):
            below = ids[0]
            yield self._of_ids(ids[::-1], states)

    def _of_table(
        self, states: Collection[RunState], likely_of: Callable[[list[Run]], list[Run]]
    ) -> Iterator[Iterable[Run]]:
        states = tuple(states)
        table = self._kernel.state.runs
        below: int | None = None
        while True:
            runs, below = table.scan(states, below, self._since, bool(self._labels))
            if below is None:
                return
            likely = likely_of(runs)
            # asked when it is its turn: it may have changed since the part began
            likely.reverse()
            yield (run for run in likely if run.state in states and self.wanted(run))

    def _of_job_and_labels(self, runs: list[Run]) -> list[Run]:
        if self._job is not None:
            job = self._job
            runs = [run for run in runs if run.job is job]
        if self._labels:
            runs = [run for run in runs if run.options is not None and "labels" in run.options]
        return runs

    def _likely(self, runs: list[Run]) -> list[Run]:
        """Without those that one quick look tells are not wanted: nearly all, in a search for few
        among many."""
        runs = self._of_job_and_labels(runs)
        if self._since is not None:
            since = self._since
            runs = [run for run in runs if run.queued_at >= since or run.state is _ACTIVE]
        if self.words and _QUEUED not in self.words:
            runs = [
                run
                for run in runs
                if run.due is not None or run.parents or run.state is not _WAITING
            ]
        return runs

    def _likely_done(self, runs: list[Run]) -> list[Run]:
        """As :meth:`_likely`, of runs that are over."""
        runs = self._of_job_and_labels(runs)
        if self._since is not None:
            since = self._since
            runs = [run for run in runs if run.note is not None and run.note.at >= since]
        if self.words:
            words = self.words | (DEAD_OUTCOMES if _DEAD in self.words else set())
            runs = [run for run in runs if getattr(run.note, "outcome", "") in words]
        return runs


def _words(given: Any) -> frozenset[str]:
    known = {str(word) for word in Status} | {_DEAD}
    for word in given or ():
        if word not in known:
            raise UsageError(f"status {word!r:.40}: expected one of {', '.join(sorted(known))}")
    return frozenset(given or ())


def _has(run: Run, labels: dict[str, str]) -> bool:
    return labels.items() <= (run.option("labels") or {}).items()


def _last_change(run: Run) -> int:
    if run.state is RunState.DONE and run.note is not None:
        return run.note.at
    return run.queued_at if run.state is not RunState.ACTIVE else 1 << 62

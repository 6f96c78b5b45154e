"""What requests need of the archive: each is read once, by a thread, and then the request is asked
again. Raise before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jobd.core.entities import Job, Run
from jobd.errors import QueueDamagedError
from jobd.server.kernel import Kernel, Recall, Request


def run_of(kernel: Kernel, request: Request, number: int) -> Run | None:
    """The run, from memory or as :func:`recall` has read it; None where none can be read."""
    run = kernel.state.runs.get(number)
    if run is not None:
        return run
    found = request.recalled.get(number)
    return found if isinstance(found, Run) else None


def check_sound(kernel: Kernel, request: Request, number: int) -> None:
    """Raises QueueDamagedError for a run that cannot be read, as :func:`recall` has found."""
    found = request.recalled.get(number)
    if isinstance(found, QueueDamagedError) and kernel.state.runs.get(number) is None:
        raise found


def recall(kernel: Kernel, request: Request, numbers: Iterable[int]) -> None:
    """See to it that :func:`run_of` knows these runs. Raises Recall."""
    if not kernel.history.any:
        return
    runs, known = kernel.state.runs, request.recalled
    next_run = kernel.state.next_run
    missing = [
        number
        for number in numbers
        if 0 < number < next_run and number not in known and runs.get(number) is None
    ]
    if missing:
        raise Recall(
            lambda: kernel.history.runs(missing),
            lambda found: known.update({number: found.get(number) for number in missing}),
        )


def recall_between(kernel: Kernel, request: Request, low: int, high: int) -> None:
    """See to it that :func:`runs_between` knows the runs with ids from `low` to `high`."""
    if high - low + 1 > len(kernel.state.runs.between(low, high)):
        recall(kernel, request, range(low, high + 1))


def runs_between(kernel: Kernel, request: Request, low: int, high: int) -> list[Run]:
    """The runs with ids from `low` to `high`, from memory and as they were recalled."""
    found = kernel.state.runs.between(low, high)
    if not request.recalled:
        return found
    there = {run.id: run for run in found}
    for number in range(low, high + 1):
        run = run_of(kernel, request, number)
        if run is not None:
            there.setdefault(number, run)
    return [there[number] for number in sorted(there)]


def last_of(
    kernel: Kernel,
    request: Request,
    jobs: Sequence[Job] | None,
    newest: Run | None,
    see: Callable[[Run], bool],
) -> Run | None:
    """The newest run that `see` accepts, of the jobs (None: of all); `newest` is it in memory.

    Raises Recall.
    """
    history = kernel.history
    if not history.any or (not history.ready and newest is not None):
        return newest
    ids = None if jobs is None else [job.id for job in jobs]
    if history.ready:
        highest = history.highest
        if ids is not None:
            highest = max((history.newest.get(number, 0) for number in ids), default=0)
        if highest < (newest.id if newest is not None else 1):
            return newest
    key = ("last", None if ids is None else tuple(ids))
    if key not in request.recalled:
        raise Recall(
            lambda: history.last(ids, see),
            lambda found: request.recalled.update({key: found}),
        )
    found: Run | None = request.recalled[key]
    if found is None or (newest is not None and newest.id > found.id):
        return newest
    return found


def keyed(kernel: Kernel, request: Request, job: Job, key: str) -> Run | None:
    """The archived run of the job that has that idempotency key. Raises Recall."""
    history = kernel.history
    if not history.any or (history.ready and job.id not in history.keyed):
        return None
    name = ("key", job.id, key)
    if name not in request.recalled:
        raise Recall(
            lambda: history.by_key(job.id, key),
            lambda found: request.recalled.update({name: found}),
        )
    found: Run | None = request.recalled[name]
    return found

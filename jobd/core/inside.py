"""What a run may do from inside of its attempts: by its job's `api`, and nothing by anybody's uid.

Who asks is the run, whatever uid its container has: else root in a container would be an
administrator of the host. It queues runs of the jobs that its own job names, so many, and not
endlessly one out of the other; it sees what it has queued, and itself.
"""

from __future__ import annotations

from jobd.core import principals
from jobd.core.commands import Caller, QueueRun
from jobd.core.entities import Run
from jobd.core.model import Api
from jobd.core.moves import Moves
from jobd.core.states import AttemptState, RunState
from jobd.core.topics import Chain, chain_of, check_depth
from jobd.errors import ConflictError, ForbiddenError


def caller_of(run: Run, attempt: int) -> Caller:
    """The caller that an attempt of the run is, by whatever way it asks."""
    _, uid, user, _, principal = run.origin
    return Caller(uid, user, 0, principals.of_run(run.id, principal), within=(run.id, attempt))


def lives(run: Run | None, attempt: int) -> bool:
    """Whether that attempt of the run has not ended."""
    found = run.attempt if run is not None and run.state is RunState.ACTIVE else None
    return found is not None and found.number == attempt and found.state is not AttemptState.ENDED


def rules_of(run: Run) -> Api:
    """What counts for the run now: the newest of its job, as what is taken away is gone."""
    return run.ruling.api


def may_queue(run: Run, job: str) -> bool:
    """Whether the run may queue runs of that job."""
    api = rules_of(run)
    return api.on and (job in api.queue or "*" in api.queue)


def may_emit(run: Run, topic: str) -> bool:
    """Whether the run may notify of that topic."""
    api = rules_of(run)
    return api.on and (topic in api.emit or "*" in api.emit)


def require_queue(run: Run, job: str) -> None:
    """Raises ForbiddenError where the run may not queue runs of that job."""
    if not may_queue(run, job):
        raise ForbiddenError(
            f"run {run.id}: may not queue runs of {job:.80}: its job {run.job.name} does not name "
            "that (api.queue)"
        )


def require_emit(run: Run, topic: str) -> None:
    """Raises ForbiddenError where the run may not notify of that topic."""
    if not may_emit(run, topic):
        raise ForbiddenError(
            f"run {run.id}: may not notify of {topic:.80}: its job {run.job.name} does not name "
            "that (api.emit)"
        )


def depth_of(run: Run) -> int:
    """How many runs stand above it: 0 for one that was not queued from inside of another."""
    made_by = run.option("made_by")
    return made_by[1] if made_by else 0


def chain(state: Moves, within: tuple[int, int]) -> Chain:
    """What the runs follow from that a run makes from inside: one step from it."""
    run = state.runs.get(within[0])
    kept = chain_of(run.options if run is not None else None, within[0])
    return Chain(kept.depth, kept.root, within[0])


def step(state: Moves, within: tuple[int, int], most: int) -> Chain:
    """What a run follows from that a run queues from inside. Raises ConflictError: too far."""
    began = chain(state, within)
    made = began._replace(depth=began.depth + 1)
    check_depth(made, most)
    return made


def made_by(state: Moves, command: QueueRun) -> list[int]:
    """How a run that another queues stands in its options: by which run, and how deep.

    Raises ForbiddenError, and ConflictError where the run is over or has queued enough.
    """
    number, attempt = command.within or (0, 0)
    run = state.runs.get(number)
    if run is None or not lives(run, attempt):
        raise ConflictError(f"run {number}: its attempt {attempt} is over: it queues nothing more")
    if command.trigger != "topic":
        # who gets a run of a topic that it may notify of is not its job's to say
        require_queue(run, command.job)
    api, count = rules_of(run), len(state.made.of(number))
    if count + command.ahead + len(command.payloads) > api.children:
        raise ConflictError(
            f"run {number}: has queued {count} runs, {api.children} at most (api.children of "
            f"job {run.job.name})"
        )
    depth = depth_of(run) + 1
    if depth > api.depth:
        raise ConflictError(
            f"run {number}: {depth} runs stand one above the other, {api.depth} at most "
            f"(api.depth of job {run.job.name})"
        )
    return [number, depth]

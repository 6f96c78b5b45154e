"""What becomes of many jobs that are applied at once: all of them, or none, and what differs. Pure.

Rows of the answer: `{job, action, revision, changes}`, `action` one of `created`, `changed`,
`unchanged`, `moved` (only its origin is another), `pruned`, `kept` (to be removed, has live runs);
`changes` are `{key, before, after}`, None for "not set".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobd.core import events as e
from jobd.core.commands import ApplyJobs, RegisterJob, UnregisterJob
from jobd.core.effects import Effect
from jobd.core.entities import Job
from jobd.core.settings import differences
from jobd.core.spec import parse
from jobd.core.state import State
from jobd.errors import ConflictError, InvalidError, JobdError

#: of a value in the list of changes: a job's config may be long, and a reply is one frame
_LONGEST = 200

Made = tuple[list[e.Event], list[Effect], Any]


def apply(
    state: State,
    command: ApplyJobs,
    register: Callable[[RegisterJob], Any],
    unregister: Callable[[UnregisterJob], Any],
    problems: Callable[[Mapping[str, object]], list[str]],
) -> Made:
    """Events, effects and answer. `register` and `unregister` decide on one job, `problems` tells
    all that is wrong with one.

    Raises InvalidError or ConflictError with all mistakes in `details["mistakes"]`: `[job, text]`.
    """
    events: list[e.Event] = []
    rows: list[dict[str, Any]] = []
    mistakes: list[tuple[str, JobdError]] = []
    names: set[str] = set()
    fresh = 0
    for spec, origin in command.jobs:
        name = str(spec.get("name"))
        try:
            if name in names:
                raise InvalidError(f"job {name}: is there twice")
            decision = register(RegisterJob(spec, origin))
        except InvalidError as error:
            texts = problems(spec) or [str(error)]
            mistakes += [(name, InvalidError(text)) for text in texts]
            continue
        except JobdError as error:
            mistakes.append((name, error))
            continue
        finally:
            names.add(name)
        made = decision.events
        if made and made[0].job >= state.next_job:
            # each was decided on by itself: of several new ones only the first has its number
            made = [made[0]._replace(job=state.next_job + fresh)]
            fresh += 1
        rows.append(_row(state.jobs.get(name), name, decision.answer, made))
        events += made
    for job in to_prune(state, command):
        try:
            events += unregister(UnregisterJob(job.name, command.prune or "")).events
            rows.append({"job": job.name, "action": "pruned", "revision": job.revision})
        except ConflictError as error:
            if not command.keep_live:
                mistakes.append((job.name, error))
            rows.append({"job": job.name, "action": "kept", "text": str(error)})
    if mistakes:
        raise _refusal(mistakes)
    return [] if command.dry_run else events, [], rows


def to_prune(state: State, command: ApplyJobs) -> list[Job]:
    """The jobs that are there, of the origin that is pruned, and not among the command's."""
    if command.prune is None:
        return []
    names = {str(spec.get("name")) for spec, _ in command.jobs}
    return [
        job
        for name, job in sorted(state.jobs.items())
        if name not in names and job.origin.startswith(command.prune)
    ]


def _refusal(mistakes: list[tuple[str, JobdError]]) -> JobdError:
    """One error for all of them; a bad value weighs more than a state that does not allow it."""
    errors = [error for _, error in mistakes]
    worst = next((error for error in errors if isinstance(error, InvalidError)), errors[0])
    count = len(mistakes)
    more = f" ({count} mistakes in all; nothing was changed)" if count > 1 else ""
    return type(worst)(f"{worst}{more}", mistakes=[[job, str(error)] for job, error in mistakes])


def _row(
    before: Job | None, name: str, answer: tuple[int, bool], made: list[Any]
) -> dict[str, Any]:
    revision, changed = answer
    row: dict[str, Any] = {"job": name, "revision": revision, "changes": []}
    if before is None:
        row["action"] = "created"
    elif not changed:
        row["action"] = "moved" if made else "unchanged"
    else:
        row["action"] = "changed"
        changes = differences(before.spec, parse(made[0].spec))
        row["changes"] = [{key: _short(value) for key, value in one.items()} for one in changes]
    return row


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value)} characters)"
    if isinstance(value, list) and len(str(value)) > _LONGEST:
        return f"{str(value)[:_LONGEST]}… ({len(value)} items)"
    return value

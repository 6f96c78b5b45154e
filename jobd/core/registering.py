"""What follows from a job's registration, its settings, its pause and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobd.core import access, applying, breaker, listening
from jobd.core import events as e
from jobd.core.alertcheck import check_alerts
from jobd.core.allowed import all_problems, check_places, check_rules, check_unmasked
from jobd.core.commands import (
    FOLDER,
    ApplyJobs,
    Caller,
    PauseJob,
    RegisterJob,
    SetJob,
    UnregisterJob,
)
from jobd.core.decision import Decision, caller_fields, find_job
from jobd.core.entities import Job
from jobd.core.model import JobSpec, Now
from jobd.core.policy import Rules
from jobd.core.schedule import with_zone
from jobd.core.settings import with_settings
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.errors import ConflictError, ForbiddenError, InvalidError


def _register(
    state: State,
    command: RegisterJob,
    now: Now,
    rules: Rules,
    caller: Caller,
    others: listening.Beside | None = None,
) -> Decision:
    spec = parse(with_zone(command.spec, rules.timezone), rules.defaults)
    job = state.jobs.get(spec.name)
    why = access.registration(caller, rules.access, job.spec if job else None, spec)
    if why is not None:
        raise ForbiddenError(why)
    if job is not None:
        _check_origin(job, command.origin)
    check_unmasked(spec)
    check_rules(spec, rules)
    check_places(spec, rules)
    _check_group(state, spec)
    listening.check_sources(state, caller, rules.access, job.spec if job else None, spec)
    listening.check_loop(state, spec, others or listening.Beside())
    check_alerts(state, spec, rules, caller)
    same = job is not None and job.spec == spec
    if job is not None and same and command.origin in ("", job.origin):
        return Decision([], [], (job.revision, False))
    if job is None:
        # a name that was unregistered goes on with its old number, so that revisions never repeat
        job = next(
            (j for j in state.jobs_by_id.values() if j.name == spec.name and j.removed), None
        )
    number, revision = (job.id, job.revision + (not same)) if job else (state.next_job, 1)
    who = caller_fields(caller)
    event = e.JobRegistered(
        number, spec.name, revision, to_mapping(spec), now.wall, who, command.origin
    )
    return Decision([event], [], (revision, not same))


def _check_group(state: State, spec: JobSpec) -> None:
    known = state.groups.limits()
    if spec.group is not None and spec.group not in known:
        names = f"known are {', '.join(sorted(known))}" if known else "there is none"
        raise InvalidError(
            f"limits.group: no group {spec.group!r:.70} in jobd.toml ([groups]): {names}"
        )


def _check_origin(job: Job, origin: str) -> None:
    """What comes from a file of the daemon's folder is changed there (INTERFACE, "jobctl")."""
    if job.origin.startswith(FOLDER) and not origin.startswith(FOLDER):
        raise ConflictError(
            f"job {job.name}: comes from {job.origin}: change it there, then reload jobd "
            "(systemctl reload jobd, or SIGHUP)"
        )


def _apply(state: State, command: ApplyJobs, now: Now, rules: Rules, caller: Caller) -> Decision:
    gone = [job.name for job in applying.to_prune(state, command)]
    others = listening.beside((spec for spec, _ in command.jobs), gone)
    return Decision(
        *applying.apply(
            state,
            command,
            lambda one: _register(state, one, now, rules, caller, others),
            lambda one: _unregister(state, one, now, rules, caller),
            lambda spec: _problems(spec, rules),
        )
    )


def _problems(spec: Mapping[str, object], rules: Rules) -> list[str]:
    """All that this host does not let a job be; nothing where it is no job at all."""
    try:
        return all_problems(parse(spec, rules.defaults), rules)
    except InvalidError:
        return []


def _set(state: State, command: SetJob, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = find_job(state, command.job)
    _check_origin(job, "")
    spec = with_settings(to_mapping(job.spec), command.settings, rules.defaults)
    return _register(state, RegisterJob(spec, job.origin), now, rules, caller)


def _unregister(
    state: State, command: UnregisterJob, now: Now, rules: Rules, caller: Caller
) -> Decision:
    job = find_job(state, command.job)
    _check_origin(job, command.origin)
    live = job.waiting + job.held + job.active
    if live:
        raise ConflictError(
            f"job {job.name}: has {live} live {'run' if live == 1 else 'runs'}; "
            f"wait for them or `jobctl cancel --job {job.name}` first"
        )
    return Decision([e.JobRemoved(job.id, now.wall, caller_fields(caller))], [], job.name)


def _pause(state: State, command: PauseJob, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = find_job(state, command.job)
    who = caller_fields(caller)
    events: list[e.Event] = []
    if job.paused != command.paused:
        event = e.JobPaused if command.paused else e.JobResumed
        events.append(event(job.id, now.wall, who))
    if not command.paused:
        events += breaker.closing(state, job, now.wall, who)
    return Decision(events, [], bool(events))


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    RegisterJob: _register,
    SetJob: _set,
    UnregisterJob: _unregister,
    ApplyJobs: _apply,
    PauseJob: _pause,
}

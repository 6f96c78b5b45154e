"""What follows from a job's registration, its settings, its pause and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import events as e
from jobd.core.commands import Caller, PauseJob, RegisterJob, SetJob, UnregisterJob
from jobd.core.decision import Decision, caller_fields, find_job
from jobd.core.model import JobSpec, Now
from jobd.core.policy import Rules
from jobd.core.settings import with_settings
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.core.states import Kind
from jobd.errors import ConflictError, InvalidError
from jobd.units import duration_text, size_text


def _register(
    state: State, command: RegisterJob, now: Now, rules: Rules, caller: Caller
) -> Decision:
    spec = parse(command.spec, rules.defaults)
    check_rules(spec, rules)
    job = state.jobs.get(spec.name)
    if job is not None and job.spec == spec:
        return Decision([], [], (job.revision, False))
    if job is None:
        # a name that was unregistered goes on with its old number, so that revisions never repeat
        job = next(
            (j for j in state.jobs_by_id.values() if j.name == spec.name and j.removed), None
        )
    number, revision = (job.id, job.revision + 1) if job else (state.next_job, 1)
    event = e.JobRegistered(
        number, spec.name, revision, to_mapping(spec), now.wall, caller_fields(caller)
    )
    return Decision([event], [], (revision, True))


def _set(state: State, command: SetJob, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = find_job(state, command.job)
    spec = with_settings(to_mapping(job.spec), command.settings, rules.defaults)
    return _register(state, RegisterJob(spec), now, rules, caller)


def check_rules(spec: JobSpec, rules: Rules) -> None:
    """Refuse what this host's configuration does not let a job be; nothing is repaired."""
    if spec.kind is Kind.PROCESS:
        _check_process(spec, rules)
    elif spec.network not in rules.networks:
        raise InvalidError(
            f"job {spec.name}: network {spec.network!r} is not allowed here "
            f"(allow.networks: {', '.join(sorted(rules.networks))})"
        )
    if rules.max_cpus is not None and spec.cpus > rules.max_cpus:
        raise InvalidError(
            f"job {spec.name}: resources.cpus {spec.cpus:g}: this host lets a run have "
            f"{rules.max_cpus:g} at most"
        )
    if rules.max_memory is not None and spec.memory > rules.max_memory:
        raise InvalidError(
            f"job {spec.name}: resources.memory {size_text(spec.memory)}: this host lets a run "
            f"have {size_text(rules.max_memory)} at most"
        )
    if rules.max_timeout is not None and spec.timeout > rules.max_timeout:
        raise InvalidError(
            f"job {spec.name}: timeout {duration_text(spec.timeout)}: "
            f"{duration_text(rules.max_timeout)} at most here (maxima.timeout)"
        )
    if rules.max_attempts is not None and spec.retry.attempts > rules.max_attempts:
        raise InvalidError(
            f"job {spec.name}: retry.attempts {spec.retry.attempts}: "
            f"{rules.max_attempts} at most here (maxima.attempts)"
        )


def _check_process(spec: JobSpec, rules: Rules) -> None:
    if rules.no_processes:
        raise InvalidError(
            f"job {spec.name}: has no image, so it would be a process of the host: "
            f"{rules.no_processes}"
        )
    if spec.user is not None and spec.user != rules.process_user:
        who = rules.process_user or "the user of jobd itself"
        raise InvalidError(
            f"user: job {spec.name}: {spec.user!r:.80}: processes run as {who} here: leave it out"
        )


def _unregister(
    state: State, command: UnregisterJob, now: Now, rules: Rules, caller: Caller
) -> Decision:
    job = find_job(state, command.job)
    live = job.waiting + job.held + job.active
    if live:
        raise ConflictError(
            f"job {job.name}: has {live} live {'run' if live == 1 else 'runs'}; "
            f"wait for them or `jobctl cancel --job {job.name}` first"
        )
    return Decision([e.JobRemoved(job.id, now.wall, caller_fields(caller))], [], job.name)


def _pause(state: State, command: PauseJob, now: Now, rules: Rules, caller: Caller) -> Decision:
    job = find_job(state, command.job)
    if job.paused == command.paused:
        return Decision([], [], False)
    event = e.JobPaused if command.paused else e.JobResumed
    return Decision([event(job.id, now.wall, caller_fields(caller))], [], True)


DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    RegisterJob: _register,
    SetJob: _set,
    UnregisterJob: _unregister,
    PauseJob: _pause,
}

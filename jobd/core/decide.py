"""A command, the state and one moment in; events, effects and an answer out. Pure.

Every trigger, client and worker comes through here. A refusal is an exception of jobd.errors, and
then nothing has changed. The caller applies the events before it decides on the next command.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobd.core import access, applying, reports
from jobd.core import events as e
from jobd.core.allowed import all_problems, check_places, check_rules, check_unmasked
from jobd.core.commands import (
    FOLDER,
    ApplyJobs,
    Body,
    Caller,
    CancelRun,
    Command,
    HoldRun,
    PauseJob,
    QueueRun,
    RegisterJob,
    ReleaseRun,
    TimeOver,
    UnregisterJob,
)
from jobd.core.effects import Effect, SignalAttempt
from jobd.core.entities import Job, Run
from jobd.core.model import JobSpec, Now
from jobd.core.policy import Rules
from jobd.core.spec import parse, to_mapping
from jobd.core.state import State
from jobd.core.states import AttemptState, Outcome, RunState
from jobd.core.status import status
from jobd.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, RefusedError
from jobd.units import MAX_MS, duration_text, size_text


class Decision(NamedTuple):
    """What follows from a command: all of it, or (by an exception) nothing."""

    events: list[e.Event]
    effects: list[Effect]
    answer: Any = None


_NOTHING = Decision([], [])


def decide(state: State, command: Command, now: Now, rules: Rules, caller: Caller) -> Decision:
    """What follows from `command`. Raises what jobd.errors has for a refusal."""
    take = reports.TAKERS.get(type(command))
    if take is not None:
        return Decision(*take(state, command, now))
    return _DECIDERS[type(command)](state, command, now, rules, caller)


def caller_fields(caller: Caller) -> list[Any]:
    """A caller as it stands in events: uid, user, pid, principal."""
    return [caller.uid, caller.user, caller.pid, caller.principal]


def find_job(state: State, name: str) -> Job:
    """The job of that name. Raises NotFoundError."""
    job = state.jobs.get(name)
    if job is None:
        raise NotFoundError(f"job {name:.80}: no such job; `jobctl jobs` lists them")
    return job


def find_run(state: State, run_id: int) -> Run:
    """The run with that id. Raises NotFoundError."""
    run = state.runs.get(run_id)
    if run is None:
        raise NotFoundError(f"run {run_id}: no such run; `jobctl ls --all` lists them")
    return run


# -- jobs ----------------------------------------------------------------------------------


def _register(
    state: State, command: RegisterJob, now: Now, rules: Rules, caller: Caller
) -> Decision:
    spec = parse(command.spec, rules.defaults)
    job = state.jobs.get(spec.name)
    why = access.registration(caller, rules.access, job.spec if job else None, spec)
    if why is not None:
        raise ForbiddenError(why)
    if job is not None:
        _check_origin(job, command.origin)
    check_unmasked(spec)
    check_rules(spec, rules)
    check_places(spec, rules)
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


def _check_origin(job: Job, origin: str) -> None:
    """What comes from a file of the daemon's folder is changed there (INTERFACE, "jobctl")."""
    if job.origin.startswith(FOLDER) and not origin.startswith(FOLDER):
        raise ConflictError(
            f"job {job.name}: comes from {job.origin}: change it there, then reload jobd "
            "(systemctl reload jobd, or SIGHUP)"
        )


def _apply(state: State, command: ApplyJobs, now: Now, rules: Rules, caller: Caller) -> Decision:
    return Decision(
        *applying.apply(
            state,
            command,
            lambda one: _register(state, one, now, rules, caller),
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
    if job.paused == command.paused:
        return Decision([], [], False)
    event = e.JobPaused if command.paused else e.JobResumed
    return Decision([event(job.id, now.wall, caller_fields(caller))], [], True)


# -- runs ----------------------------------------------------------------------------------


def _queue(state: State, command: QueueRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    if command.request is not None:
        made = state.requests.find(command.request)
        if made:
            return Decision([], [], ([(run, False) for run in made], []))
    job = find_job(state, command.job)
    spec = job.spec
    if command.key is not None and len(command.payloads) != 1:
        raise InvalidError(f"job {job.name}: a key names one run, not {len(command.payloads)}")
    if command.key is not None and command.key in job.keys:
        return _existing(state, job, command)
    _check_submission(job, command, rules)
    _check_times(command, now, rules)
    options = _options(state, spec, command, now)
    events: list[e.Event] = []
    priority = spec.priority if command.priority is None else command.priority
    who = caller_fields(command.caller)
    for index, payload in enumerate(command.payloads):
        events.append(
            e.RunQueued(
                state.next_run + index,
                job.id,
                job.revision,
                now.wall,
                command.trigger,
                who,
                payload
                if isinstance(payload, bytes)
                else [payload.name, payload.size, payload.crc],
                priority,
                options,
                command.request,
                index,
            )
        )
    return Decision(events, [], ([(event[0], False) for event in events], []))


def _existing(state: State, job: Job, command: QueueRun) -> Decision:
    assert command.key is not None
    run = find_run(state, job.keys[command.key])
    warnings = []
    if run.option("key_crc") != _payload_crc(command.payloads[0]):
        warnings.append(
            f"run {run.id} has key {command.key!r:.80} and another payload; it was left as it is"
        )
    return Decision([], [], ([(run.id, True)], warnings))


def _payload_crc(payload: bytes | Body) -> int:
    return zlib.crc32(payload) if isinstance(payload, bytes) else payload.crc


def _check_submission(job: Job, command: QueueRun, rules: Rules) -> None:
    check_rules(job.spec, rules)
    for payload in command.payloads:
        size = len(payload) if isinstance(payload, bytes) else payload.size
        if size > rules.max_payload:
            raise InvalidError(
                f"job {job.name}: a payload of {size} bytes: "
                f"{size_text(rules.max_payload)} at most here (maxima.payload)"
            )
    if not command.payloads:
        raise InvalidError(f"job {job.name}: nothing to queue: expected one payload at least")
    limit = job.spec.queue
    if limit is not None and job.waiting + len(command.payloads) > limit:
        raise RefusedError(
            f"job {job.name}: its queue is full: {job.waiting} of {limit} runs wait (limits.queue)"
        )
    if command.priority is not None and not -1000 <= command.priority <= 1000:
        raise InvalidError(f"priority: {command.priority}: expected a whole number, -1000 to 1000")


def _check_times(command: QueueRun, now: Now, rules: Rules) -> None:
    """Refuse times beyond reason: what no record can hold would be met when it is written."""
    longest = MAX_MS if rules.max_timeout is None else rules.max_timeout
    if command.timeout is not None and not 1 <= command.timeout <= longest:
        raise InvalidError(
            f"timeout: {command.timeout} ms: expected more than nothing and "
            f"{duration_text(longest)} at most"
        )
    if command.expires is not None and not 0 <= command.expires <= MAX_MS:
        raise InvalidError(f"expires: {command.expires} ms: expected 0 to 100 years")
    if command.not_before is not None and command.not_before > now.wall + MAX_MS:
        raise InvalidError("not_before: expected a time within the next 100 years")


def _options(state: State, spec: JobSpec, command: QueueRun, now: Now) -> dict[str, Any] | None:
    options: dict[str, Any] = {}
    if command.not_before is not None and command.not_before > now.wall:
        options["not_before"] = command.not_before
    if command.env:
        options["env"] = dict(command.env)
    if command.labels:
        options["labels"] = dict(command.labels)
    if command.args:
        options["args"] = list(command.args)
    if command.timeout is not None:
        options["timeout"] = command.timeout
    expires = spec.expires if command.expires is None else command.expires
    if expires is not None:
        options["expires_at"] = max(now.wall, command.not_before or 0) + expires
    if command.key is not None:
        options["key"] = command.key
        options["key_crc"] = _payload_crc(command.payloads[0])
    batch = command.batch
    if batch is None and len(command.payloads) > 1 and command.request is not None:
        batch = command.request.hex()
    if batch is not None:
        # its id, and the run that its indexes are counted from
        options["batch"] = [batch, state.next_run - command.batch_offset]
    return options or None


def _cancel(state: State, command: CancelRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is RunState.DONE:
        raise ConflictError(f"run {run.id}: is over already: {status(run)}")
    who = caller_fields(caller)
    if run.state is not RunState.ACTIVE:
        text = f"was cancelled by {caller.user}"
        event = e.RunFinished(run.id, now.wall, Outcome.CANCELLED, "cancelled", text, who)
        return Decision([event], [])
    return _stop(run, now, "cancelled", who)


def _stop(run: Run, now: Now, why: str, who: list[Any] | None) -> Decision:
    attempt = run.attempt
    assert attempt is not None
    if attempt.stopping is not None and attempt.stopping.why in (why, "cancelled"):
        return _NOTHING
    event = e.AttemptStopping(run.id, attempt.number, now.wall, why, who)
    if attempt.stopping is not None:
        return Decision([event], [])
    return Decision([event], [SignalAttempt(run.id, attempt.number, run.spec.stop_signal)])


def _hold(state: State, command: HoldRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is RunState.HELD:
        return _NOTHING
    if run.state is not RunState.WAITING:
        raise ConflictError(f"run {run.id}: is {status(run)}: only a waiting run can be held")
    text = f"is held by {caller.user}: jobctl release {run.id}"
    return Decision([e.RunHeld(run.id, now.wall, "held", text, caller_fields(caller))], [])


def _release(state: State, command: ReleaseRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if run.state is not RunState.HELD:
        raise ConflictError(f"run {run.id}: is {status(run)}, not held")
    return Decision([e.RunReleased(run.id, now.wall, caller_fields(caller))], [])


# -- time ----------------------------------------------------------------------------------


def _time_over(state: State, command: TimeOver, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if command.what == "expires":
        if run.state not in (RunState.WAITING, RunState.HELD) or run.attempts:
            return _NOTHING
        text = "had not started by the time it was given"
        return Decision(
            [e.RunFinished(run.id, now.wall, Outcome.EXPIRED, "expired", text)],
            [],
        )
    attempt = run.attempt
    if attempt is None or attempt.number != command.attempt:
        return _NOTHING
    if command.what == "timeout" and attempt.state is AttemptState.RUNNING:
        return _stop(run, now, "timed-out", None)
    if command.what == "grace" and attempt.state is AttemptState.STOPPING:
        return Decision([], [SignalAttempt(run.id, attempt.number, "SIGKILL")])
    return _NOTHING


_DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    RegisterJob: _register,
    UnregisterJob: _unregister,
    ApplyJobs: _apply,
    PauseJob: _pause,
    QueueRun: _queue,
    CancelRun: _cancel,
    HoldRun: _hold,
    ReleaseRun: _release,
    TimeOver: _time_over,
}

"""What follows from the queueing of runs, new ones and ended ones again."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from jobd.core import events as e
from jobd.core import inside, principals
from jobd.core.allowed import check_rules
from jobd.core.commands import Body, Caller, QueueRun, RetryRuns
from jobd.core.decision import (
    Decision,
    caller_fields,
    check_due,
    check_priority,
    check_timeout,
    find_job,
    find_run,
    held_as,
)
from jobd.core.effects import Effect
from jobd.core.entities import Job, Run
from jobd.core.model import CONDITIONS, UNMET, JobSpec, Now
from jobd.core.mutexes import LONGEST, fill
from jobd.core.overlap import PUT_OFF, Superseded, settle, superseded
from jobd.core.parents import MOST as MOST_PARENTS
from jobd.core.parents import MOST_PAIRS
from jobd.core.policy import Rules
from jobd.core.salvage import SUSPECT
from jobd.core.skips import skipped_at_once
from jobd.core.state import State
from jobd.core.states import RunState
from jobd.core.status import status
from jobd.core.topics import retried
from jobd.errors import ConflictError, InvalidError, RefusedError
from jobd.units import MAX_MS, size_text


def queue(state: State, command: QueueRun, now: Now, rules: Rules, caller: Caller) -> Decision:
    """QueueRun; also for what makes runs beside other events."""
    if command.request is not None:
        made = state.requests.find(command.request)
        if made:
            return Decision([], [], ([(run, False) for run in made], []))
    job = find_job(state, command.job)
    if command.key is not None and len(command.payloads) != 1:
        raise InvalidError(f"job {job.name}: a key names one run, not {len(command.payloads)}")
    latest = command.latest or command.debounce is not None
    if latest:
        _check_latest(command)
    elif command.key is not None and (command.key in job.keys or command.known is not None):
        return _existing(state, job, command)
    made_by = None if command.within is None else inside.made_by(state, command)
    if command.within is not None and command.chain is None:
        command = command._replace(chain=inside.step(state, command.within, rules.max_chain))
    _check_submission(state, job, command, rules)
    _check_times(command, now, rules)
    if command.after:
        _check_after(state, command)
    older = Superseded([])
    if latest and command.key is not None:
        parents = {number for number, _ in command.after}
        older = superseded(state, job, command.key, state.next_run, parents, now)
        if command.debounce is not None:
            command = command._replace(not_before=older.due(command.debounce, now))
    more = older.options(command.debounce, now)
    if made_by is not None:
        more = {**more, "made_by": made_by}
    queued = _new_runs(state, job, command, more, now)
    answer: tuple[list[Any], list[str]] = ([(event[0], False) for event in queued], [])
    overlap = command.overlap or job.spec.overlap
    if overlap in ("allow", "queue") and not older.ends and not command.after:
        return Decision([*queued], [], answer)
    settled = settle(state, job, queued, overlap, now)
    over = {end.run for end in older.ends}
    others = [event for event in settled.events if event[0] not in over]
    events: list[e.Event] = [*queued, *older.ends, *others]
    for number, _ in answer[0] if command.after else ():
        skip = skipped_at_once(state, number, command.after, command.unmet, command.past, now.wall)
        if skip is not None:
            events.append(skip)
    return Decision(events, settled.effects, answer)


def _new_runs(
    state: State, job: Job, command: QueueRun, more: dict[str, Any], now: Now
) -> list[e.RunQueued]:
    spec = job.spec
    options = _options(state, spec, command, now)
    if more:
        options = {**(options or {}), **more}
    keyed = command.mutex is not None or spec.mutex is not None
    priority = spec.priority if command.priority is None else command.priority
    # each attribute looked up once, and all by position: this is the hot path
    trigger, request, who = command.trigger, command.request, caller_fields(command.caller)
    first, job_id, revision, at = state.next_run + command.ahead, job.id, job.revision, now.wall
    before = state.next_run
    events: list[e.RunQueued] = []
    for number, payload in enumerate(command.payloads, first):
        kept = payload if type(payload) is bytes else payload_fields(payload)
        events.append(
            e.RunQueued(
                number,
                job_id,
                revision,
                at,
                trigger,
                who,
                kept,
                priority,
                with_mutex(options, mutex_of(spec, command, payload)) if keyed else options,
                request,
                number - before,
            )
        )
    if command.sources:
        pairs = zip(events, command.sources, strict=True)
        events = [_from(event, source) for event, source in pairs]
    return events


def _check_latest(command: QueueRun) -> None:
    if command.key is None:
        raise InvalidError("latest, debounce: they go with a key: which runs are meant")
    if command.debounce is not None:
        if not 1 <= command.debounce <= MAX_MS // PUT_OFF:
            raise InvalidError(f"debounce: {command.debounce} ms: expected more than nothing")
        if command.not_before is not None or command.after:
            raise InvalidError("debounce: it says when the run is due: not with a date or parents")


def mutex_of(spec: JobSpec, command: QueueRun, payload: bytes | Body) -> str | None:
    """The key of which one run at a time is active, or None. Raises InvalidError."""
    if command.mutex is not None:
        if spec.mutex is not None:
            raise InvalidError(f"mutex: job {spec.name} makes its own (limits.mutex)")
        if not 0 < len(command.mutex) <= LONGEST or not command.mutex.isprintable():
            raise InvalidError(
                f"mutex: {command.mutex!r:.60}: expected 1 to {LONGEST} printable characters"
            )
        return command.mutex
    if spec.mutex is None:
        return None
    known = {
        "job": spec.name,
        "user": principals.behind(command.caller.principal) or command.caller.user,
        "key": command.key,
        "label": command.labels,
        "env": {**spec.env, **command.env},
    }
    return fill(spec.mutex, known, payload)


def with_mutex(options: dict[str, Any] | None, key: str | None) -> dict[str, Any] | None:
    """Options with the key of one run; those of a request's other runs are left as they are."""
    return options if key is None else {**(options or {}), "mutex": key}


def _from(event: e.RunQueued, source: tuple[str, int | None]) -> e.RunQueued:
    """The run's event with what triggered it, and the moment that was meant."""
    return event._replace(options={**(event.options or {}), "source": [*source]})


def payload_fields(payload: bytes | Body) -> Any:
    """A payload as it stands in events."""
    return payload if isinstance(payload, bytes) else [payload.name, payload.size, payload.crc]


def _size(payload: bytes | Body) -> int:
    return len(payload) if isinstance(payload, bytes) else payload.size


def _existing(state: State, job: Job, command: QueueRun) -> Decision:
    assert command.key is not None
    if command.key in job.keys:
        run = find_run(state, job.keys[command.key])
        number, crc = run.id, run.option("key_crc")
    else:
        assert command.known is not None
        number, crc = command.known
    warnings = []
    if crc != _payload_crc(command.payloads[0]):
        warnings.append(
            f"run {number} has key {command.key!r:.80} and another payload; it was left as it is"
        )
    return Decision([], [], ([(number, True)], warnings))


def _payload_crc(payload: bytes | Body) -> int:
    return zlib.crc32(payload) if isinstance(payload, bytes) else payload.crc


def check_allowed(job: Job, rules: Rules) -> None:
    """Refuse what this host does not let the job be, looked at once. Raises InvalidError."""
    found = (job.spec, rules)
    if job.passed != found:
        # both are values: what they once agreed on they agree on until one is another
        check_rules(job.spec, rules)
        job.passed = found


def _check_submission(
    state: State,
    job: Job,
    command: QueueRun,
    rules: Rules,
    more: int | None = None,
    all_: int | None = None,
) -> None:
    """Refuse what may not be queued; `more` is how many come to the job, and `all_` how many in
    all, where not all of them are in `command`."""
    check_allowed(job, rules)
    for payload in command.payloads:
        size = len(payload) if type(payload) is bytes else _size(payload)
        if size > rules.max_payload:
            raise InvalidError(
                f"job {job.name}: a payload of {size} bytes: "
                f"{size_text(rules.max_payload)} at most here (maxima.payload)"
            )
    if not command.payloads:
        raise InvalidError(f"job {job.name}: nothing to queue: expected one payload at least")
    limit = job.spec.queue
    if limit is not None and job.waiting + (more or len(command.payloads)) > limit:
        raise RefusedError(
            f"job {job.name}: its queue is full: {job.waiting} of {limit} runs wait (limits.queue)"
        )
    most, who = rules.max_user_queue, command.caller
    counted = principals.behind(who.principal) if who.principal else ""
    waiting = state.waiting_of.get(counted or who.uid, 0)
    if most is not None and waiting + command.ahead + (all_ or len(command.payloads)) > most:
        raise RefusedError(
            f"user {counted or who.user}: {waiting} of {most} runs wait already (maxima.user_queue)"
        )
    if command.priority is not None:
        check_priority(command.priority)


def _check_times(command: QueueRun, now: Now, rules: Rules) -> None:
    """Refuse times beyond reason: what no record can hold would be met when it is written."""
    if command.timeout is not None:
        check_timeout(command.timeout, rules)
    if command.expires is not None and not 0 <= command.expires <= MAX_MS:
        raise InvalidError(f"expires: {command.expires} ms: expected 0 to 100 years")
    if command.not_before is not None:
        check_due(command.not_before, now)


def _check_after(state: State, command: QueueRun) -> None:
    if len(command.after) > MOST_PARENTS:
        raise InvalidError(f"after: {len(command.after)} runs: {MOST_PARENTS} at most")
    if state.children.pairs + len(command.after) * len(command.payloads) > MOST_PAIRS:
        raise RefusedError(
            f"after: {state.children.pairs} times a run waits for another already, "
            f"{MOST_PAIRS} at most; queue fewer, or later"
        )
    if command.unmet not in UNMET:
        raise InvalidError(f"unmet: {command.unmet!r:.40}: expected one of {', '.join(UNMET)}")
    for number, condition in command.after:
        if number not in command.past:
            find_run(state, number)
        if condition not in CONDITIONS:
            raise InvalidError(f"after: {condition!r:.40}: expected one of {', '.join(CONDITIONS)}")


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
    if command.overlap is not None and command.overlap != spec.overlap:
        options["overlap"] = command.overlap
    if command.after:
        options["after"] = [list(pair) for pair in command.after]
        if command.unmet != "skip":
            options["unmet"] = command.unmet
    if command.retry_of is not None:
        options["retry_of"] = command.retry_of
    if command.chain is not None:
        options["chain"] = list(command.chain)
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


def _retry(state: State, command: RetryRuns, now: Now, rules: Rules, caller: Caller) -> Decision:
    if command.request is not None:
        asked = state.requests.find(command.request)
        if asked:
            return Decision([], [], _asked_again(state, command, asked))
    events: list[e.RunQueued] = []
    more: Counter[str] = Counter()
    for index, (number, payload) in enumerate(command.runs):
        run = command.past.get(number) or find_run(state, number)
        again = _again(run, index, payload, command, caller)
        job = find_job(state, again.job)
        more[job.name] += 1
        _check_submission(state, job, again, rules, more[job.name], index + 1)
        options = _options(state, job.spec, again, now)
        options = with_mutex(options, mutex_of(job.spec, again, payload))
        events.append(
            e.RunQueued(
                state.next_run + index,
                job.id,
                job.revision,
                now.wall,
                again.trigger,
                caller_fields(caller),
                payload_fields(payload),
                job.spec.priority if again.priority is None else again.priority,
                options,
                command.request,
                index,
            )
        )
    pairs = zip(command.runs, events, strict=True)
    answer = [(old, event.run) for (old, _), event in pairs]
    made: list[e.Event] = list(events)
    effects: list[Effect] = []
    for name in more:
        job = state.jobs[name]
        new = [event for event in events if event.job == job.id]
        settled = settle(state, job, new, job.spec.overlap, now)
        made += settled.events
        effects += settled.effects
    return Decision(made, effects, answer)


def _asked_again(state: State, command: RetryRuns, made: range) -> list[tuple[int, int]]:
    """What the same request was answered before; of runs that have left by what it asks for."""
    answer = []
    for index, number in enumerate(made):
        run = state.runs.get(number)
        old = command.runs[index][0] if index < len(command.runs) else 0
        answer.append((run.option("retry_of") if run is not None else old, number))
    return answer


def _again(
    run: Run, index: int, payload: bytes | Body, command: RetryRuns, caller: Caller
) -> QueueRun:
    """The run as it was asked for, by the newest revision of its job, without its date and key.

    `index`: how many are queued before it by the same command.
    """
    # a suspect one may have done its work: that it is to be done again is a person's word
    if run.state is not RunState.DONE and held_as(run) != SUSPECT:
        raise ConflictError(f"run {run.id}: is {status(run)}: only an ended run can be retried")
    expires = run.expires_at
    if expires is not None:
        expires -= max(run.queued_at, run.option("not_before") or 0)
    batch = run.option("batch")
    return QueueRun(
        run.job.name,
        [payload],
        "retry",
        caller,
        command.request,
        # what nobody had set otherwise is as the job says now
        None if run.priority == run.spec.priority else run.priority,
        expires=None if expires == run.spec.expires else expires,
        timeout=run.option("timeout"),
        env=run.option("env") or {},
        labels=run.option("labels") or {},
        args=tuple(run.option("args") or ()),
        batch=batch[0] if batch else None,
        # counted from where it is as if all of its batch stood there again
        batch_offset=run.id - batch[1] - index if batch else 0,
        retry_of=run.id,
        mutex=run.option("mutex") if run.job.spec.mutex is None else None,
        **retried(run.options, run.id),
    )


DECIDERS: dict[type[Any], Callable[..., Decision]] = {QueueRun: queue, RetryRuns: _retry}

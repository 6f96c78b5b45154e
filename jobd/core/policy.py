"""What the rules make of an attempt's end: another attempt, the end of the run, or a hold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobd.core.access import Policy
from jobd.core.alertrules import AlertRules
from jobd.core.commands import ReportEnded
from jobd.core.entities import Attempt, Run
from jobd.core.events import AttemptEnded, RunFinished, RunHeld, RunRequeued
from jobd.core.model import Retry
from jobd.core.states import Outcome
from jobd.core.status import ended_text
from jobd.units import duration_text

#: what may follow the end of an attempt
Next = RunRequeued | RunFinished | RunHeld

#: the wait after the host's own faults, in milliseconds: first, and at most
HOST_DELAY, HOST_MAX_DELAY = 1_000, 300_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What the daemon's configuration lets jobs be. Sizes in bytes, durations in milliseconds."""

    #: of a job file's form: filled in where a job says nothing
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_cpus: float | None = None
    max_memory: int | None = None
    max_gpus: int | None = None
    max_pids: int | None = None
    max_shm: int | None = None
    max_ulimits: Mapping[str, int] = field(default_factory=dict)
    max_timeout: int | None = None
    max_attempts: int | None = None
    max_payload: int = 16 << 20
    #: runs of one user that wait at once
    max_user_queue: int | None = None
    #: runs that may follow one from another
    max_chain: int = 16
    networks: frozenset[str] = frozenset({"none", "bridge"})
    #: patterns of images, of users (`uid[:gid]`), of devices
    images: tuple[str, ...] = ("*",)
    users: tuple[str, ...] = ("*",)
    devices: tuple[str, ...] = ()
    #: folders, links resolved, that may be mounted, and whether to be written to
    mounts: tuple[tuple[str, bool], ...] = ()
    #: the daemon's own places, which are never mounted
    protected: tuple[str, ...] = ()
    #: resolves the links in a path; the daemon's goes by the disk
    resolve: Callable[[str], str] = str
    access: Policy = field(default_factory=Policy)
    #: the host's zone: of schedules that name none
    timezone: str = "UTC"
    #: why no job may be a process of the host, with the remedy; empty where it may
    no_processes: str = ""
    #: who processes run as; None: the daemon's own user
    process_user: str | None = None
    #: where alerts may go, and what the host's are about
    alerts: AlertRules = field(default_factory=AlertRules)


def outcome_of(attempt: Attempt, report: ReportEnded) -> Outcome:
    """How the attempt ended.

    Told to stop, it ended as that says, whatever its exit status; but not where it had ended before
    it was told. The exit status decides on memory too: with 0 only a child was killed (rulings).
    """
    stopping = attempt.stopping
    if stopping is not None and (report.at >= stopping.at or _clock_was_set(attempt, report)):
        return Outcome(stopping.why)
    if report.host_fault:
        return Outcome.CANCELLED if stopping and stopping.why == "cancelled" else _INTERRUPTED
    if report.exit_code == 0:
        return Outcome.SUCCEEDED
    return Outcome.OOM_KILLED if report.oom else Outcome.FAILED


_INTERRUPTED = Outcome.INTERRUPTED


def _clock_was_set(attempt: Attempt, report: ReportEnded) -> bool:
    """Whether the end seems to lie before the start: set back by an hour after a stop, the clock
    made of each cancelled attempt one that had failed by itself."""
    return attempt.started is not None and report.at < attempt.started.started_at


def after_end(run: Run, end: AttemptEnded) -> Next:
    """What becomes of the run, given the end of its newest attempt (not applied yet).

    Whoever was told that a run is cancelled never sees it start again, also where its attempt had
    failed by itself a moment before.
    """
    attempt = run.attempt
    assert attempt is not None
    following = _after_end(run, attempt, end)
    stopping = attempt.stopping
    if stopping is None or stopping.why != "cancelled":
        return following
    if isinstance(following, RunFinished):
        return following._replace(caller=stopping.caller)
    text = f"attempt {attempt.number} ended by itself; the run was cancelled"
    return RunFinished(run.id, end.at, Outcome.CANCELLED, "cancelled", text, stopping.caller)


def _after_end(run: Run, attempt: Attempt, end: AttemptEnded) -> Next:
    outcome = Outcome(end.outcome)
    ended = Attempt(attempt.number, attempt.claimed_at)
    ended.end = end
    ended.stopping = attempt.stopping
    text = f"attempt {attempt.number} {ended_text(ended)}"
    finish = RunFinished(run.id, end.at, outcome, _code(outcome), text)
    retry = run.spec.retry
    if outcome in (Outcome.SUCCEEDED, Outcome.CANCELLED):
        return finish
    if outcome is Outcome.INTERRUPTED:
        return _after_interruption(run, end, text)
    charged = run.charged + 1
    if outcome is Outcome.LOST and retry.interrupted != "retry" and outcome not in retry.on:
        if retry.interrupted == "hold":
            return RunHeld(run.id, end.at, "lost", f"{text}; release or cancel it")
        return finish
    if end.error is not None and outcome is Outcome.FAILED:
        return finish  # it could not be started, by its own fault: the next try would end alike
    if not _retried(retry, outcome, end.exit_code):
        return finish
    if charged >= retry.attempts:
        if retry.attempts > 1:
            return finish._replace(text=f"{text}; all {retry.attempts} attempts are used up")
        return finish
    delay = backoff(retry, charged, run.id)
    over = run.total_ends_at
    if over is not None and end.at + delay >= over:
        total = duration_text(run.spec.total_timeout or 0)
        return finish._replace(text=f"{text}; its total time ({total}) leaves none for another")
    return RunRequeued(run.id, end.at, delay, _memory(run, outcome))


def _memory(run: Run, outcome: Outcome) -> int | None:
    """Bytes for the next attempt, where the one that ended had too few and may have more."""
    retry = run.spec.retry
    if outcome is not Outcome.OOM_KILLED or retry.memory_step is None or retry.memory_max is None:
        return None
    more = min(run.memory + retry.memory_step, retry.memory_max)
    return more if more > run.memory else None


def _after_interruption(run: Run, end: AttemptEnded, text: str) -> Next:
    """The host's fault: never charged to the job. What has not started may always start again."""
    attempt = run.attempt
    started = attempt is not None and attempt.started is not None
    word = run.spec.retry.interrupted if started else "retry"
    if word == "hold":
        text = f"{text}; it may have done part of its work: release or cancel it"
        return RunHeld(run.id, end.at, "interrupted", text)
    if word == "dead":
        return RunFinished(run.id, end.at, Outcome.LOST, "interrupted", text)
    faults = 0
    for earlier in reversed((run.attempts or [])[:-1]):
        if earlier.end is None or earlier.end.outcome != Outcome.INTERRUPTED:
            break
        faults += 1
    return RunRequeued(run.id, end.at, min(HOST_DELAY << min(faults, 20), HOST_MAX_DELAY))


def _retried(retry: Retry, outcome: Outcome, exit_code: int | None) -> bool:
    if outcome is Outcome.LOST:
        return retry.interrupted == "retry" or outcome in retry.on
    if outcome in retry.on:
        return True
    if outcome is Outcome.FAILED and exit_code is not None:
        return any(low <= exit_code <= high for low, high in retry.statuses)
    return False


def backoff(retry: Retry, charged: int, run: int) -> int:
    """Milliseconds before the attempt after the `charged`-th one.

    The jitter spreads runs that failed together; it is taken from the run's id and not from
    chance, so that the core stays a function of its input. No wait is longer than `max_delay`: at
    the cap there is room left for the jitter, else half of the runs would come back at once.
    """
    most = retry.max_delay / (1 + retry.jitter)
    try:
        wait = min(retry.delay * retry.factor ** (charged - 1), most)
    except OverflowError:
        wait = most if retry.delay else 0.0
    spread = zlib.crc32(b"%d.%d" % (run, charged)) / 0xFFFFFFFF * 2 - 1
    return min(round(wait * (1 + retry.jitter * spread)), retry.max_delay)


def _code(outcome: Outcome) -> str:
    return "exit" if outcome is Outcome.FAILED else str(outcome)

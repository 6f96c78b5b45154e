"""Runs and jobs as INTERFACE's JSON shows them; times stay integer milliseconds on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from jobd.core import masking
from jobd.core.entities import Attempt, Job, Run
from jobd.core.events import AttemptEnded
from jobd.core.model import Reason
from jobd.core.rollups import waiting_since
from jobd.core.spec import to_mapping
from jobd.core.state import State
from jobd.core.states import Kind, RunState, Status
from jobd.core.status import dead, reason, status
from jobd.server.following import reactions_row, trigger_row
from jobd.server.kernel import Kernel

#: runs that one has queued from inside, shown with it: its last
_CHILDREN = 100


def run_row(kernel: Kernel, run: Run) -> dict[str, Any]:
    """Everything about a run, its attempts included."""
    why = reason(run, kernel.now, kernel.hold_reason(run.spec.kind), kernel.state)
    attempts = run.attempts or []
    ended = next((a.end for a in reversed(attempts) if a.end is not None), None)
    over = run.state is RunState.DONE
    started = next((a.started for a in attempts if a.started is not None), None)
    said = kernel.progress(run.id) if run.state is RunState.ACTIVE else None
    if said and why is None:
        why = Reason("starting", said)
    if why is None and run.state is RunState.ACTIVE:
        why = _unseen(kernel.hold_reason(run.spec.kind))
    result = ended.result if ended is not None else None
    return {
        "id": run.id,
        "job": run.job.name,
        "revision": run.revision,
        "status": str(status(run)),
        "dead": dead(run),
        "reason": {"code": why.code, "text": why.text} if why else None,
        "priority": run.priority,
        "trigger": trigger_row(run),
        "labels": run.option("labels") or {},
        "key": run.option("key"),
        "retry_of": run.option("retry_of"),
        "mutex": run.option("mutex"),
        "payload_size": run.size,
        "submitted_by": by_of(run.origin[1:]),
        "queued_at": run.queued_at,
        "not_before": run.due or run.option("not_before"),
        "started_at": started.started_at if started else None,
        "finished_at": run.note.at if over and run.note else None,
        "exit_code": ended.exit_code if ended else None,
        "oom_hint": bool(ended and ended.oom_hint),
        "attempts": [_attempt_row(run, attempt) for attempt in attempts],
        "progress": _progress(kernel, run, said),
        "result_size": result[1] if isinstance(result, list) else result,
        "isolation": isolation(run.spec.kind),
        # more than INTERFACE names: what a client needs to tell "attempt 2 of 5"
        "attempts_allowed": run.spec.retry.attempts,
        "timeout_ms": run.timeout,
        "after": parents(run),
        "archived": run.archived,
        "made_by": (run.option("made_by") or [None])[0],
        "children": list(kernel.state.made.of(run.id)[-_CHILDREN:]),
    }


def _progress(kernel: Kernel, run: Run, said: str | None) -> dict[str, Any] | None:
    """How far it is: a starting attempt by its engine's word, a running one by its own."""
    if said:
        return {"percent": None, "message": said}
    told: Sequence[Any] | None = kernel.reported(run.id)
    last = run.attempt
    if told is None and last is not None and last.end is not None:
        told = last.end.progress
    return None if told is None else {"percent": told[0], "message": told[1] or None}


def _unseen(hold: Reason | None) -> Reason | None:
    """What a running attempt's word is worth while its engine is out of reach."""
    if hold is None or hold.code != "engine":
        return None
    return Reason("engine", f"as far as is known: {hold.text}")


def parents(run: Run) -> list[dict[str, Any]]:
    """The runs that it waits or waited for, what of each, and whether it still does."""
    pending = run.parents or set()
    return [
        {"run": number, "condition": condition, "pending": number in pending}
        for number, condition in run.option("after") or ()
    ]


def by_of(caller: Sequence[Any]) -> dict[str, Any]:
    """A caller as it stands in events (uid, user, pid, principal), as rows have it."""
    uid, user, pid, principal = caller
    return {"uid": uid, "user": user, "pid": pid, "principal": principal or None}


def _attempt_row(run: Run, attempt: Attempt) -> dict[str, Any]:
    started, end = attempt.started, attempt.end
    began = started.started_at if started else None
    finished = (end.finished_at or end.at) if end else None
    return {
        "number": attempt.number,
        "outcome": end.outcome if end else None,
        "exit_code": end.exit_code if end else None,
        "error": end.error if end else None,
        "started_at": began,
        "finished_at": finished,
        "queue_wait_ms": max(0, attempt.claimed_at - waiting_since(run, attempt)),
        "pull_ms": started.pull_ms if started else None,
        "start_ms": max(0, started.started_at - attempt.claimed_at - started.pull_ms)
        if started
        else None,
        "run_ms": max(0, finished - began) if finished is not None and began is not None else None,
        "cpu_seconds": end.cpu_seconds if end else None,
        "memory_peak": end.memory_peak if end else None,
        "memory_peak_source": end.memory_peak_source if end else None,
        "log_bytes": end.log_bytes if end else None,
        "log_truncated": bool(end and end.log_truncated),
        **_receipt(end),
        "container": started.engine_id if started else None,
        "gpus": attempt.gpus or [],
        "image_id": (started.image_id or None) if started else None,
    }


#: what an attempt used, beyond the keys that INTERFACE names, and what was kept of its files
_RECEIPT = (
    "cpu_source",
    "block_read",
    "block_written",
    "block_source",
    "throttled_ms",
    "throttled_periods",
    "periods",
    "throttle_source",
    "output_files",
    "note",
)


def _receipt(end: AttemptEnded | None) -> dict[str, Any]:
    row = {key: getattr(end, key) if end else None for key in _RECEIPT}
    row["output_size"] = end.output[1] if end and end.output else None
    return row


def job_row(kernel: Kernel, job: Job) -> dict[str, Any]:
    """A job as in its file, with what its runs are up to; what is telling is masked."""
    row = masking.job(to_mapping(job.spec))
    active = [run for run in kernel.state.active.values() if run.job is job]
    row.update(
        isolation=isolation(job.spec.kind),
        revision=job.revision,
        image_id=next((run_image(run) for run in active if run_image(run)), None),
        counts=counts(job, active),
        paused=job.paused,
        breaker=_breaker(kernel, job),
        reactions=reactions_row(kernel, job),
        origin=job.origin or None,
    )
    return row


def _breaker(kernel: Kernel, job: Job) -> dict[str, Any] | None:
    """The job's breaker while it is open, or None."""
    found = kernel.state.breakers.get(job.id)
    if found is None or found.until is None:
        return None
    return {
        "failures": found.failures,
        "opened_at": found.opened_at,
        "until": found.until,
        "text": found.text,
    }


def isolation(kind: Kind) -> str:
    """What parts attempts of that kind from the host: `container`, or `none`."""
    return "none" if kind is Kind.PROCESS else "container"


def run_image(run: Run) -> str | None:
    """The id of the image that the run's newest attempt uses, once it has started."""
    attempt = run.attempt
    return (attempt.started.image_id or None) if attempt and attempt.started else None


def counts(of: Job | State, active: Iterable[Run]) -> dict[str, int]:
    """How many runs are in each status, zeros left out. `active`: those with a live attempt."""
    found: Counter[str] = Counter({str(word): number for word, number in of.parked.items()})
    found[Status.QUEUED] = of.waiting - sum(of.parked.values())
    found[Status.HELD] = of.held
    found.update(status(run) for run in active)
    found.update({str(outcome): number for outcome, number in of.done.items()})
    return {str(word): number for word, number in found.items() if number}

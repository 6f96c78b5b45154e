"""What a person sees of a run: one word, and one sentence on why. Derived, never stored."""

from __future__ import annotations

from jobd.core.entities import Attempt, Run
from jobd.core.limits import waits_for_key
from jobd.core.model import CONDITIONS, Now, Reason
from jobd.core.state import State
from jobd.core.states import DEAD_OUTCOMES, AttemptState, Outcome, RunState, Status
from jobd.units import duration_text

_ACTIVE = {
    AttemptState.CLAIMED: Status.STARTING,
    AttemptState.RUNNING: Status.RUNNING,
    AttemptState.STOPPING: Status.STOPPING,
    AttemptState.ENDED: Status.STOPPING,
}


def status(run: Run) -> Status:
    """The run's status word (INTERFACE, "Status words")."""
    if run.state is RunState.DONE:
        assert run.note is not None
        return Status(getattr(run.note, "outcome", ""))
    if run.state is RunState.HELD:
        return Status.HELD
    if run.state is RunState.ACTIVE:
        attempt = run.attempt
        assert attempt is not None
        assert attempt.state is not None
        return _ACTIVE[attempt.state]
    if run.due is not None:
        return Status.RETRYING if run.attempts else Status.DELAYED
    return Status.BLOCKED if run.parents else Status.QUEUED


def dead(run: Run) -> bool:
    """Whether the run used up its attempts and is kept to be looked at."""
    outcome = getattr(run.note, "outcome", None)
    return run.state is RunState.DONE and outcome in DEAD_OUTCOMES


def reason(run: Run, now: Now, host: Reason | None, state: State | None = None) -> Reason | None:
    """Why the run is where it is; `host` is what keeps every run from starting, or None.

    With `state`, who holds the key of a run that is set aside.
    """
    if run.note is not None:
        return Reason(run.note.code, run.note.text)
    if run.state is RunState.ACTIVE:
        return _active_reason(run)
    if run.due is not None:
        wait = duration_text(max(0, run.due - now.wall + 999) // 1000 * 1000)
        last = run.attempt
        if last is None:
            return Reason("delayed", f"due in {wait}")
        what = f"attempt {last.number + 1} in {wait}"
        return Reason("backoff", f"{what}: attempt {last.number} {ended_text(last)}")
    if run.parents:
        return Reason("parents", parents_text(run))
    if run.job.paused:
        return Reason("paused", f"job {run.job.name} is paused: jobctl resume {run.job.name}")
    aside = waits_for_key(state, run) if state is not None else None
    return host or aside or run.job.reason or Reason("order", "its turn has not come yet")


def parents_text(run: Run) -> str:
    """What a run still asks of its parents: `waits for run 5 to succeed`, and how many more."""
    pending = run.parents or set()
    waits = [pair for pair in run.option("after") or () if pair[0] in pending]
    if not waits:
        return "waits for no run any more"
    number, condition = waits[0]
    more = f", and for {len(waits) - 1} more" if len(waits) > 1 else ""
    return f"waits for run {number} to {CONDITIONS[condition]}{more}"


def draining(state: State) -> Reason | None:
    """That no run starts on the host because somebody drains it, or None."""
    host = state.host
    if host.drained_at is None:
        return None
    return Reason("draining", f"{host.drained_by} drains this host: jobctl undrain")


def _active_reason(run: Run) -> Reason | None:
    attempt = run.attempt
    if attempt is None or attempt.stopping is None:
        return None
    why = attempt.stopping
    return Reason(why.why, f"was told to stop: {why.text or why.why}")


def ended_text(attempt: Attempt) -> str:
    """How an ended attempt ended, as the end of a sentence that begins with "attempt 1"."""
    end = attempt.end
    if end is None:
        return "has not ended"
    if end.outcome == Outcome.FAILED:
        if end.error:
            return f"could not be started: {end.error}"
        return f"failed with {exit_text(end.exit_code)}"
    if end.outcome == Outcome.OOM_KILLED:
        return "was killed for want of memory"
    if end.outcome == Outcome.INTERRUPTED:
        return f"was interrupted: {end.error or 'its host failed'}"
    if end.outcome == Outcome.LOST:
        return f"was lost: {end.error or 'its container is gone'}"
    if end.outcome == Outcome.TIMED_OUT and attempt.stopping and attempt.stopping.text:
        return attempt.stopping.text
    return {
        Outcome.SUCCEEDED: "succeeded",
        Outcome.TIMED_OUT: "ran out of time",
        Outcome.CANCELLED: "was cancelled",
    }.get(Outcome(end.outcome), f"ended: {end.outcome}")


def exit_text(code: int | None) -> str:
    """An exit status in words: above 128 it is a signal's."""
    if code is None:
        return "no exit status"
    if 128 < code < 128 + 65:
        return f"exit status {code} (signal {code - 128})"
    return f"exit status {code}"

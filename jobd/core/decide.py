"""A command, the state and one moment in; events, effects and an answer out. Pure.

Every trigger, client and worker comes through here. A refusal is an exception of jobd.errors, and
then nothing has changed. The caller applies the events before it decides on the next command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobd.core import (
    alerting,
    archiving,
    arriving,
    changes,
    queueing,
    reacting,
    registering,
    reports,
    scheduling,
)
from jobd.core import events as e
from jobd.core.alerts import following
from jobd.core.changes import stop
from jobd.core.commands import Caller, Command, TimeOver
from jobd.core.decision import NOTHING, Decision, caller_fields, find_job, find_run
from jobd.core.effects import SignalAttempt
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.skips import skipped_by
from jobd.core.state import State
from jobd.core.states import AttemptState, Outcome, RunState
from jobd.units import duration_text

__all__ = ["Decision", "caller_fields", "decide", "find_job", "find_run"]


def decide(state: State, command: Command, now: Now, rules: Rules, caller: Caller) -> Decision:
    """What follows from `command`. Raises what jobd.errors has for a refusal."""
    decider = _DECIDERS.get(type(command))
    if decider is not None:
        decision = decider(state, command, now, rules, caller)
    else:
        decision = Decision(*reports.TAKERS[type(command)](state, command, now))
    if state.reactions.by_run and decision.events:
        events, effects = reacting.follow(state, decision.events, now, rules)
        if events:
            decision = decision._replace(
                events=[*decision.events, *events], effects=[*decision.effects, *effects]
            )
    if state.children and decision.events:
        skipped = skipped_by(state, decision.events, now.wall)
        if skipped:
            decision = decision._replace(events=[*decision.events, *skipped])
    if decision.events:
        told = following(state, decision.events, now, rules)
        if told:
            return decision._replace(events=[*decision.events, *told])
    return decision


def _time_over(state: State, command: TimeOver, now: Now, rules: Rules, caller: Caller) -> Decision:
    run = find_run(state, command.run)
    if command.what == "expires":
        if run.state not in (RunState.WAITING, RunState.HELD) or run.attempts:
            return NOTHING
        text = "had not started by the time it was given"
        return Decision(
            [e.RunFinished(run.id, now.wall, Outcome.EXPIRED, "expired", text)],
            [],
        )
    attempt = run.attempt
    if attempt is None or attempt.number != command.attempt:
        return NOTHING
    if command.what == "total" and run.state is RunState.WAITING:
        total = duration_text(run.spec.total_timeout or 0)
        text = f"its total time ({total}) was over before attempt {attempt.number + 1}"
        return Decision([e.RunFinished(run.id, now.wall, Outcome.TIMED_OUT, "timed-out", text)], [])
    if command.what == "timeout" and attempt.state is AttemptState.RUNNING:
        return stop(run, now, "timed-out", None)
    if command.what == "grace" and attempt.state is AttemptState.STOPPING:
        return Decision([], [SignalAttempt(run.id, attempt.number, "SIGKILL")])
    return NOTHING


_DECIDERS: dict[type[Any], Callable[..., Decision]] = {
    **registering.DECIDERS,
    **queueing.DECIDERS,
    **changes.DECIDERS,
    **archiving.DECIDERS,
    **scheduling.DECIDERS,
    **reacting.DECIDERS,
    **arriving.DECIDERS,
    **alerting.DECIDERS,
    TimeOver: _time_over,
}

"""Whether a job's alerts may go where they say, looked at when the job is registered. Pure.

It is looked at again for each sending (`AlertRules.resolve`); a run is never refused for an alert.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobd.core import access
from jobd.core.access import Right
from jobd.core.commands import Caller
from jobd.core.model import JobSpec
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.errors import InvalidError


def check_alerts(state: State, spec: JobSpec, rules: Rules, caller: Caller) -> None:
    """Refuse a destination that is not allowed or not there. Raises InvalidError."""
    for problem in problems(spec, rules):
        raise InvalidError(f"job {spec.name}: {problem}")
    for n, alert in enumerate(spec.alerts):
        if alert.to.kind != "job":
            continue
        other = state.jobs.get(alert.to.value)
        if access.is_admin(caller, rules.access):
            continue  # it may be registered after this one
        # to manage a job is no right to have another one run
        if other is None or not access.may(caller, Right.SUBMIT, rules.access, other.spec.access):
            raise InvalidError(
                f"job {spec.name}: alert[{n}].job: no job {alert.to.value} that you may queue"
            )


def problems(spec: JobSpec, rules: Rules) -> Iterator[str]:
    """What is wrong with the job's alerts on this host."""
    for n, alert in enumerate(spec.alerts):
        if alert.to.kind == "job" and alert.to.value == spec.name:
            yield f"alert[{n}].job: {spec.name} cannot be alerted to itself"
        try:
            rules.alerts.resolve(alert.to)
        except InvalidError as error:
            yield f"alert[{n}].{error}"

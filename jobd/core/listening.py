"""Whether a job may listen to what its definition says: no loops, and nobody else's results. Pure.

Loops are looked for among the newest definitions, whatever outcome each step waits for: the longest
way round would otherwise be found by running it. What only shows when it runs (a notification made
within a run) is cut by the depth of the chain (core/reacting.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobd.core import access
from jobd.core.access import Right
from jobd.core.commands import Caller
from jobd.core.model import JobSpec
from jobd.core.on import On, read_all
from jobd.core.onrun import OnRun
from jobd.core.state import State
from jobd.errors import ForbiddenError, InvalidError


class Beside:
    """What the jobs of one command will listen to, in place of what they do now."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        #: job -> those of them that listen to its runs
        self.by_run: dict[str, list[str]] = {}


def beside(specs: Iterable[Mapping[str, Any]], gone: Iterable[str] = ()) -> Beside:
    """What these jobs will listen to; those of `gone` are removed.

    An entry that cannot be read is refused when its own job is looked at.
    """
    made = Beside()
    made.names.update(gone)
    for spec in specs:
        name = str(spec.get("name"))
        made.names.add(name)
        try:
            sources = names(read_all(spec.get("on") or (), "on"))
        except InvalidError:
            continue
        for source in sources:
            made.by_run.setdefault(source, []).append(name)
    return made


def check_loop(state: State, spec: JobSpec, others: Beside) -> None:
    """Raises InvalidError, naming the loop, where the job's ends would come back to itself."""
    sources = names(spec.on)
    if not sources:
        return
    before: dict[str, str] = {}
    found = {spec.name}
    open_ = [spec.name]
    while open_:
        name = open_.pop()
        if name in sources:
            way = [spec.name]
            while name != spec.name:
                way.insert(1, name)
                name = before[name]
            loop = " -> ".join([*way, spec.name])
            raise InvalidError(
                f"on: job {spec.name}: a loop: {loop}: it would never come to an end"
            )
        for following in _listening(state, name, spec.name, others):
            if following not in found:
                found.add(following)
                before[following] = name
                open_.append(following)


def names(on: Iterable[On]) -> frozenset[str]:
    """The jobs whose runs are meant."""
    return frozenset(name for each in on if isinstance(each, OnRun) for name in each.runs)


def _listening(state: State, name: str, own: str, others: Beside) -> Iterable[str]:
    for job in state.reactions.of_run(name):
        if job.name != own and job.name not in others.names:
            yield job.name
    for other in others.by_run.get(name, ()):
        if other != own:
            yield other


def check_sources(
    state: State, caller: Caller, policy: access.Policy, old: JobSpec | None, new: JobSpec
) -> None:
    """Raises ForbiddenError where a job would be given results that the caller may not read.

    A job that is not there is refused alike: it may be one that they may not see.
    """
    if access.is_admin(caller, policy):
        return
    for name in sorted(names(new.on) - names(old.on if old is not None else ())):
        job = state.jobs.get(name)
        if job is None or not access.may(caller, Right.READ, policy, job.spec.access):
            raise ForbiddenError(
                f"job {new.name}: on.run: {name}: only who may read its runs can have them made "
                "into others (access.read)"
            )


def unheard(state: State, spec: JobSpec) -> list[str]:
    """A warning for each job that is listened to and not there: mostly a slip."""
    return [
        f"on.run: there is no job {name} yet"
        for name in sorted(names(spec.on))
        if name not in state.jobs
    ]

"""Who may do what: a caller, a right and a job in; None or the reason why not out. Pure.

An administrator may do everything. `[access]` of jobd.toml says who submits and reads; where a
job's own `[access]` says `submit` or `read`, that counts in its place, so that one job can be
closed as well as opened. To manage a job is to read its runs as well: whoever may change its
command could do so anyway. One's own runs are readable and can be cancelled, whatever else is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobd.core import principals
from jobd.core.commands import Caller
from jobd.core.entities import Run
from jobd.core.model import Access, JobSpec


class Right(StrEnum):
    """What a verb needs (wire/*verbs.py declare it for each)."""

    #: see what one may see: nobody is turned away, answers show less
    LOOK = "look"
    SUBMIT = "submit"
    #: of runs: logs, payloads, results
    READ = "read"
    #: have queued the run, or manage its job
    OWN = "own"
    MANAGE = "manage"
    ADMIN = "admin"
    #: deliver alerts: who `jobd notify` runs as (server/access.py)
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class Policy:
    """`[access]` of jobd.toml (INTERFACE), and the daemon's own user, who is an administrator."""

    admin: tuple[str, ...] = ("root", "@jobd-admin")
    submit: tuple[str, ...] = ("@jobd",)
    read: tuple[str, ...] = ()
    owner: int = 0


#: keys of a job that are an administrator's alone, whoever else may manage it: each of them is a
#: way to more than the job had
ADMINS_KEYS = (
    "image",
    "mounts",
    "devices",
    "network",
    "user",
    "access",
    "secrets",
    "api",
    "watches",
)


def is_named(caller: Caller, who: tuple[str, ...]) -> bool:
    """Whether the entries name the caller: user, `@group`, numbers of either, `*`.

    A gateway's caller is named by its principal alone: the gateway's own uid has no rights.
    """
    if caller.principal:
        return caller.principal in who
    for entry in who:
        if entry == "*":
            return True
        if entry[:1] == "@":
            if entry[1:] in caller.groups:
                return True
        elif entry.isdecimal():
            # a user may be called 1000 and be another: a number is a uid and nothing else
            if int(entry) == caller.uid:
                return True
        elif entry == caller.user:
            return True
    return False


def is_admin(caller: Caller, policy: Policy) -> bool:
    """Whether the caller is root, the daemon's own user, or named by `access.admin`."""
    if not caller.principal and caller.uid in (0, policy.owner):
        return True
    return is_named(caller, policy.admin)


def owns(caller: Caller, run: Run) -> bool:
    """Whether the caller queued the run, or a run that it comes from; of a run: also itself."""
    if caller.within is not None and caller.within[0] == run.id:
        return True
    _, uid, _, _, principal = run.origin
    if uid != caller.uid:
        return False
    if principal == caller.principal:
        return True
    return principals.is_run(principal) and principals.behind(principal) == caller.principal


def may(caller: Caller, right: Right, policy: Policy, access: Access, own: bool = False) -> bool:
    """Whether the caller has the right to a job; `own`: to a run that the caller queued."""
    if is_admin(caller, policy):
        return True
    if right in (Right.ADMIN, Right.NOTIFY):
        return False
    if own and right in (Right.READ, Right.OWN):
        return True
    if right in (Right.LOOK, Right.SUBMIT):
        submit = policy.submit if access.submit is None else access.submit
        if is_named(caller, submit):
            return True
    if right in (Right.LOOK, Right.READ):
        read = policy.read if access.read is None else access.read
        if is_named(caller, read):
            return True
    return right is not Right.SUBMIT and is_named(caller, access.manage)


def why_not(caller: Caller, right: Right, job: str) -> str:
    """One sentence for who has been refused; who has the right is not told."""
    who = caller.principal or f"user {caller.user}"
    if right is Right.NOTIFY:
        return f"{who} does not deliver alerts here (alerts.user in jobd.toml)"
    if right is Right.ADMIN:
        return f"{who} is not an administrator of this jobd (access.admin in jobd.toml)"
    if right is Right.SUBMIT:
        return f"job {job}: {who} may not queue runs of it (access.submit)"
    if right is Right.OWN:
        return f"job {job}: {who} neither queued this run nor manages the job (access.manage)"
    return f"job {job}: {who} may not {right} it (access.{right})"


def registration(caller: Caller, policy: Policy, old: JobSpec | None, new: JobSpec) -> str | None:
    """Why the caller may not make `old` (None: not there) into `new`, or None.

    What may be changed does not depend on who may see the job: a stranger is told the same of one
    that is there and of one that is not.
    """
    if is_admin(caller, policy):
        return None
    if old is None or not may(caller, Right.MANAGE, policy, old.access):
        return f"job {new.name}: registering it is for administrators (access.admin in jobd.toml)"
    if not old.image or not new.image:
        return f"job {new.name}: command: a process of the host is for administrators to change"
    changed = [
        # as the file has it
        "on" if key == "watches" else key
        for key in ADMINS_KEYS
        if getattr(old, key) != getattr(new, key)
    ]
    if changed:
        return f"job {new.name}: {', '.join(changed)}: only an administrator may change that"
    return None


def overridden(given: frozenset[str], access: Access) -> str | None:
    """The first of what a submission sets otherwise that the job does not let it, or None."""
    return min(given - set(access.override), default=None)

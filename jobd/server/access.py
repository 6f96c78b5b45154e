"""Who asks, and whether they may: the one place that all requests pass (core/access.py decides).

The caller is who the kernel says: SO_PEERCRED, taken when a connection is accepted. What a caller
may not see looks as if it were not there (66); what may be seen and not done is refused (77).
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import time
from collections.abc import Callable

from jobd.core import access
from jobd.core.access import Right
from jobd.core.commands import Caller
from jobd.core.entities import Job, Run
from jobd.core.model import Access
from jobd.errors import ForbiddenError, JobdError, NotFoundError
from jobd.server import inside
from jobd.server.kernel import Kernel, Request
from jobd.wire.verb import Verb

_log = logging.getLogger(__name__)

#: seconds for which a user's groups are remembered: a look costs 50 us and may ask a network
_REMEMBERED = 30.0
#: refusals logged in a minute; the rest is counted
_MOST_LOGGED, _MINUTE = 20, 60.0


class HiddenError(NotFoundError):
    """There is such a thing, and the caller may not see it."""


class Users:
    """Callers by uid and pid, with names and groups from the user database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[tuple[int, int], Caller] = {}
        self._people: dict[int, tuple[str, frozenset[str]]] = {}
        self._until = 0.0
        #: runs that ask from inside, by numbers below 0 that stand for their attempts' sockets
        self.insiders: dict[int, Caller] = {}
        #: what was given may be kept while this is the same
        self.generation = 0

    def refresh(self) -> None:
        """Forget what is too old: groups change while the daemon runs. `generation` tells of it."""
        now = self._clock()
        if now >= self._until or len(self._callers) >= 10_000:
            self._callers.clear()
            self._people.clear()
            self._until = now + _REMEMBERED
            self.generation += 1

    def caller(self, uid: int, pid: int) -> Caller:
        """Who is at the other end of a connection."""
        if uid < 0:
            return self.insiders[uid]
        self.refresh()
        known = self._callers.get((uid, pid))
        if known is None:
            if uid not in self._people:
                self._people[uid] = (user_name(uid), groups_of(uid))
            user, groups = self._people[uid]
            known = self._callers[uid, pid] = Caller(uid, user, pid, groups=groups)
        return known


def user_name(uid: int) -> str:
    """The name of a uid, or the number as text where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def groups_of(uid: int) -> frozenset[str]:
    """All groups of a uid by name and by number; the socket tells one of them, whichever."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    found = set()
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        found.add(str(gid))
        try:
            name = grp.getgrgid(gid).gr_name
        except KeyError:
            continue  # a group that was deleted while users still bear it
        if not name.isdecimal():
            # a group may be called 100 and be another: a number is a gid and nothing else
            found.add(name)
    return frozenset(found)


def unknown_people(access_: Access) -> list[str]:
    """A warning for each name in a job's `[access]` that this host does not know: a slip, mostly.

    They are taken all the same: users come and go, and `*`, numbers and principals are no names.
    """
    words = [*(access_.submit or ()), *(access_.read or ()), *access_.manage]
    return [
        f"access: there is no {'group' if word[0] == '@' else 'user'} {word.lstrip('@')} here"
        for word in dict.fromkeys(words)
        if word != "*"
        and ":" not in word
        and not word.lstrip("@").isdecimal()
        and not _is_known(word)
    ]


def _is_known(word: str) -> bool:
    try:
        if word[0] == "@":
            grp.getgrnam(word[1:])
        else:
            pwd.getpwnam(word)
    except KeyError:
        return False
    return True


def authorize(kernel: Kernel, request: Request, verb: Verb) -> None:
    """Let the request pass, or refuse it by the right that its verb declares.

    Rights to the job that `job` names are settled here, and what a submission may override. Rights
    to runs are settled where selectors become runs (server/selectors.py); who may register what,
    in the core. What is none of these is for administrators. Raises NotFoundError, ForbiddenError.
    """
    caller, arguments = request.caller, request.arguments
    if caller.within is not None:
        inside.require(kernel, request, verb)
        if verb.name == "run.queue":
            _refuse_overrides(request, verb, visible_job(kernel, caller, arguments["job"]))
        return
    if kernel.is_admin(caller):
        return
    right = Right(verb.right)
    if right is Right.NOTIFY:
        if caller.principal or caller.uid != kernel.rules.alerts.uid:
            raise ForbiddenError(f"{verb.name}: {access.why_not(caller, right, '')}")
        return
    name = arguments.get("job")
    if name is not None and right is not Right.ADMIN:
        job = visible_job(kernel, caller, name)
        # of a job's runs, those that are one's own: the handler looks at each
        if right in (Right.READ, Right.OWN):
            return
        require(kernel, caller, right, job)
        _refuse_overrides(request, verb, job)
        return
    # rights to an alert are settled where it is found (server/alerts.py)
    selects = not arguments.keys().isdisjoint(("run", "runs", "alert"))
    if right is Right.LOOK or (selects and right is not Right.ADMIN):
        return
    if right is Right.SUBMIT and _submits_anywhere(kernel, caller):
        return
    if verb.name in ("job.register", "job.apply"):
        return
    raise ForbiddenError(f"{verb.name}: {access.why_not(caller, Right.ADMIN, '')}")


def _refuse_overrides(request: Request, verb: Verb, job: Job) -> None:
    given = {key for key in verb.overrides if request.arguments.get(key) not in (None, {}, [])}
    word = access.overridden(frozenset(given), job.spec.access)
    if word is not None:
        raise ForbiddenError(
            f"job {job.name}: {word}: this job does not let submitters set it (access.override)"
        )


def _submits_anywhere(kernel: Kernel, caller: Caller) -> bool:
    policy = kernel.rules.access
    jobs = kernel.state.jobs.values()
    return any(access.may(caller, Right.SUBMIT, policy, job.spec.access) for job in jobs)


def visible_job(kernel: Kernel, caller: Caller, name: str) -> Job:
    """The job of that name, where the caller may see it. Raises NotFoundError."""
    job = kernel.state.jobs.get(name)
    gone = f"job {name:.80}: no such job; `jobctl jobs` lists them"
    if job is None:
        raise NotFoundError(gone)
    if caller.within is not None:
        return job  # what it may name was settled before
    if not access.may(caller, Right.LOOK, kernel.rules.access, job.spec.access):
        raise HiddenError(gone)
    return job


def require(kernel: Kernel, caller: Caller, right: Right, job: Job) -> None:
    """Raises ForbiddenError where the caller has not that right to the job."""
    if not access.may(caller, right, kernel.rules.access, job.spec.access):
        raise ForbiddenError(access.why_not(caller, right, job.name))


def require_run(kernel: Kernel, caller: Caller, right: Right, run: Run) -> None:
    """Raises ForbiddenError where the caller has not that right to the run, which may be seen."""
    own = access.owns(caller, run)
    if not access.may(caller, right, kernel.rules.access, run.job.spec.access, own):
        why = access.why_not(caller, right, run.job.name)
        raise ForbiddenError(f"run {run.id}: {why}")


def require_admin(kernel: Kernel, request: Request) -> None:
    """Raises ForbiddenError where the caller is no administrator: for what depends on the use."""
    if not kernel.is_admin(request.caller):
        raise ForbiddenError(f"{request.verb}: {access.why_not(request.caller, Right.ADMIN, '')}")


class Sight:
    """What one caller may do with jobs and runs, remembered for one answer over many of them."""

    def __init__(self, kernel: Kernel, caller: Caller) -> None:
        self._caller = caller
        self._policy = kernel.rules.access
        #: an administrator's: nothing has to be asked
        self.all = kernel.is_admin(caller)
        self._known: dict[tuple[int, Right], bool] = {}

    def job(self, job: Job, right: Right = Right.LOOK) -> bool:
        """Whether the caller has the right to the job."""
        if self.all:
            return True
        key = (job.id, right)
        if key not in self._known:
            self._known[key] = access.may(self._caller, right, self._policy, job.spec.access)
        return self._known[key]

    def run(self, run: Run, right: Right = Right.READ) -> bool:
        """Whether the caller has the right to the run."""
        if self.all or self.job(run.job, right):
            return True
        return right in (Right.READ, Right.OWN) and access.owns(self._caller, run)


class Refusals:
    """Tells the log who was refused what, 20 a minute: who asks in a loop does not fill a disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._logged = self._more = 0

    def note(self, request: Request, error: JobdError) -> None:
        """Take note of one refusal; of one by access alone, others are the caller's affair."""
        if not isinstance(error, ForbiddenError | HiddenError):
            return
        now = self._clock()
        if now >= self._until:
            if self._more:
                _log.warning("access: %d more requests were refused", self._more)
            self._until, self._logged, self._more = now + _MINUTE, 0, 0
        if self._logged >= _MOST_LOGGED:
            self._more += 1
            return
        self._logged += 1
        caller = request.caller
        who = f"{caller.user} (uid {caller.uid}, pid {caller.pid}) {caller.principal}".rstrip()
        hidden = " (hidden from them)" if isinstance(error, HiddenError) else ""
        _log.warning("access: refused %s: %s: %s%s", who, request.verb, error, hidden)

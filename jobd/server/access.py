"""Who may do what. In this version: administrators everything, others look at their own runs.

The caller is who the kernel says: libzmq fills `Peer-Address` from SO_PEERCRED when a connection is
accepted, as `<name>:<uid>:<gid>:<pid>` (DURABILITY, "ZeroMQ ipc").
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence

from jobd.core.commands import Caller
from jobd.core.entities import Run
from jobd.errors import ForbiddenError, NotFoundError
from jobd.server.kernel import Kernel, Request


def read_peer(address: str) -> tuple[int, int, int]:
    """`(uid, gid, pid)` of a Peer-Address, read from the right. Raises ForbiddenError."""
    parts = address.rsplit(":", 3)
    if len(parts) != 4 or not all(part.isdecimal() for part in parts[1:]):
        raise ForbiddenError("the caller is not known: the socket did not tell who connected")
    return int(parts[1]), int(parts[2]), int(parts[3])


class Users:
    """Names and groups of uids, remembered: each costs a look into the user database."""

    def __init__(self, admins: Sequence[str]) -> None:
        self._admins = admins
        self._callers: dict[str, Caller] = {}
        self._admin: dict[int, bool] = {}

    def caller(self, address: str) -> Caller:
        """Who is at the other end of a connection. Raises ForbiddenError."""
        known = self._callers.get(address)
        if known is None:
            uid, _, pid = read_peer(address)
            known = Caller(uid, user_name(uid), pid)
            if len(self._callers) >= 10_000:
                self._callers.clear()
            self._callers[address] = known
        return known

    def is_admin(self, caller: Caller) -> bool:
        """Whether the caller is root, the daemon's own user, or named by `access.admin`."""
        known = self._admin.get(caller.uid)
        if known is None:
            known = self._admin[caller.uid] = self._look_up(caller)
        return known

    def take(self, admins: Sequence[str]) -> None:
        """Other administrators from now on."""
        self._admins = admins
        self.forget()

    def forget(self) -> None:
        """Look everybody up anew: groups change while the daemon runs."""
        self._callers.clear()
        self._admin.clear()

    def _look_up(self, caller: Caller) -> bool:
        if caller.uid in (0, os.geteuid()):
            return True
        groups = None
        for name in self._admins:
            if name == caller.user:
                return True
            if name.startswith("@"):
                if groups is None:
                    groups = group_names(caller.uid)
                if name[1:] in groups:
                    return True
        return False


def user_name(uid: int) -> str:
    """The name of a uid, or the number as text where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_names(uid: int) -> frozenset[str]:
    """All groups of a uid, not only the primary one that the socket tells."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    names = set()
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue  # a group that was deleted while users still bear it
    return frozenset(names)


def require_admin(kernel: Kernel, request: Request) -> None:
    """Raises ForbiddenError where the caller may not do this."""
    if not kernel.is_admin(request.caller):
        raise ForbiddenError(
            f"{request.verb}: user {request.caller.user} is not an administrator of this jobd "
            "(access.admin in jobd.toml)"
        )


def may_read(kernel: Kernel, caller: Caller, run: Run) -> bool:
    """Whether the run is the caller's own, or the caller an administrator."""
    return run.origin[1] == caller.uid or kernel.is_admin(caller)


def require_read(kernel: Kernel, request: Request, run: Run) -> None:
    """Others' runs look as if they were not there. Raises NotFoundError."""
    if not may_read(kernel, request.caller, run):
        raise NotFoundError(f"run {run.id}: no such run; `jobctl ls --all` lists them")

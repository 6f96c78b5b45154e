"""Who processes of the host run as, and whether that user gets to where their folders are."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

#: where a system's daemon runs that is not root (systemd/)
_SYSTEM_USER = "jobd"


@dataclass(frozen=True, slots=True)
class Account:
    """A user; `changes` is true where a process has to be given its ids."""

    name: str
    uid: int
    gid: int
    home: str
    changes: bool


class NoAccountError(Exception):
    """There is no user to run processes as; the sentence says what to do."""


def account(user: str) -> Account:
    """Who processes run as: `user` where jobd is root, else its own user. Raises NoAccountError.

    Never root, nor the user of a system's daemon, whose group is root's equal where it has a
    container engine's socket (DURABILITY, rulings).
    """
    uid = os.geteuid()
    if uid != 0:
        try:
            own = pwd.getpwuid(uid)
        except KeyError:
            return Account(str(uid), uid, os.getegid(), "/", False)
        if own.pw_name == _SYSTEM_USER:
            raise NoAccountError(
                f"processes never run as {_SYSTEM_USER} itself, and only root's daemon can give "
                "them another user: run jobd as root, or as a person"
            )
        return Account(own.pw_name, uid, os.getegid(), own.pw_dir, False)
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise NoAccountError(
            f"there is no user {user} for processes to run as: make it (`useradd --system "
            f"--user-group --no-create-home {user}`) or name another in jobd.toml ([process] "
            "user), then start jobd anew"
        ) from None
    if found.pw_uid == 0 or found.pw_name == _SYSTEM_USER:
        raise NoAccountError(f"[process] user: processes never run as {user}: name another user")
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir, True)


def open_way(work: Path, who: Account) -> None:
    """Let the user pass through jobd's own two folders above an attempt's; what is in them stays
    closed by its own mode. Raises OSError."""
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    if who.changes:
        for folder in (work.parent, work):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)


def closed_folder(work: Path, who: Account) -> Path | None:
    """The first folder on the way to `work` that the user cannot pass, by its mode, or None."""
    if not who.changes:
        return None
    for folder in (*reversed(work.absolute().parents), work.absolute()):
        found = folder.stat()
        if found.st_uid == who.uid:
            bit = stat.S_IXUSR
        elif found.st_gid == who.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not found.st_mode & bit:
            return folder
    return None

"""Where one daemon's things are: under one folder, the system's places, or a person's own."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from jobd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Places:
    """The files and folders of one daemon (INTERFACE, "Places")."""

    config: Path
    #: the folder of job files that are the daemon's own
    jobs: Path
    state: Path
    socket: Path
    logs: Path
    secrets: Path
    #: a folder for each job, that files are dropped into
    spool: Path


def under(home: Path) -> Places:
    """Everything under one folder: `--home DIR`."""
    home = home.absolute()
    return Places(
        config=home / "jobd.toml",
        jobs=home / "jobs.d",
        state=home / "state",
        socket=home / "run" / "jobd.sock",
        logs=home / "log",
        secrets=home / "secrets",
        spool=home / "spool",
    )


def is_system() -> bool:
    """Whether this is root or the user jobd: a daemon without a home is then the system's."""
    uid = os.geteuid()
    return uid == 0 or _user(uid) == "jobd"


def usual() -> Places:
    """The system's places for root and the user jobd; a person's own by XDG for others."""
    uid = os.geteuid()
    if is_system():
        return Places(
            config=Path("/etc/jobd/jobd.toml"),
            jobs=Path("/etc/jobd/jobs.d"),
            state=Path("/var/lib/jobd"),
            socket=Path("/run/jobd/jobd.sock"),
            logs=Path("/var/log/jobd"),
            secrets=Path("/etc/jobd/secrets"),
            spool=Path("/var/spool/jobd"),
        )
    config = _xdg("XDG_CONFIG_HOME", ".config") / "jobd"
    state = _xdg("XDG_STATE_HOME", ".local/state") / "jobd"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return Places(
        config=config / "jobd.toml",
        jobs=config / "jobs.d",
        state=state,
        socket=Path(runtime) / "jobd" / "jobd.sock",
        logs=state / "log",
        secrets=config / "secrets",
        spool=state / "spool",
    )


def refuse_open_parents(path: Path) -> None:
    """Refuses a folder in whose place others can put another one. Raises ConfigError.

    Whoever can write to a folder above it can rename it away, unless that one is sticky
    (DURABILITY, "Files"; CERT FIO00). A group that nobody else is in is no others: many hosts make
    folders writable by their owner's own group.
    """
    for parent in dict.fromkeys((*path.absolute().parents, *path.resolve().parents)):
        try:
            found = parent.stat()
        except FileNotFoundError:
            continue  # it will be made, for its owner alone to write to
        if found.st_mode & stat.S_ISVTX:
            continue
        group = found.st_mode & stat.S_IWGRP and _others_in(found.st_gid)
        if group or found.st_mode & stat.S_IWOTH:
            raise ConfigError(
                f"{path}: {parent} above it can be written by others "
                f"(mode {stat.S_IMODE(found.st_mode):04o}), who could put another in its place; "
                f"run `chmod go-w {parent}`"
            )


def _others_in(gid: int) -> bool:
    """Whether any user but root and this one is in the group."""
    ours = {"root", _user(os.geteuid())}
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        members = set()
    members.update(user.pw_name for user in pwd.getpwall() if user.pw_gid == gid)
    return bool(members - ours)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback

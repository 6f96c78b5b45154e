"""Where one daemon's things are: under one folder, the system's places, or a person's own."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


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
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback

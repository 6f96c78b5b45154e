"""How single values of jobd.toml are read, beside those that job files have as well."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

from jobd.capacity.gates import Thresholds
from jobd.core import specaccess
from jobd.core import specvalues as v
from jobd.core.archiving import Window
from jobd.core.limits import PLAIN, Pace
from jobd.errors import InvalidError
from jobd.history.retention import Keep


def names(value: Any, path: str) -> tuple[str, ...]:
    """A list of names."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InvalidError(f"{path}: {v.shown(value)}: expected a list of names")
    return tuple(value)


def roots(value: Any, path: str) -> tuple[tuple[str, bool], ...]:
    """Folders that may be mounted, links resolved; `:ro` behind one keeps it from being written."""
    if not isinstance(value, list):
        raise InvalidError(f"{path}: {v.shown(value)}: expected a list of folders")
    roots = []
    for item in value:
        plain = item.removesuffix(":ro") if isinstance(item, str) else item
        roots.append((os.path.realpath(specaccess.absolute(plain, path)), plain == item))
    return tuple(roots)


def mode(value: Any, path: str) -> int:
    """A socket's mode, as text in octal or as TOML's 0o660."""
    mode = value
    if isinstance(value, str):
        mode = int(value, 8) if value.isdecimal() and not set(value) & {"8", "9"} else -1
    # who cannot write cannot connect; a socket is not executed
    if type(mode) is not int or mode & ~0o666 or mode & 0o600 != 0o600:
        raise InvalidError(f"{path}: {v.shown(value)}: expected a mode such as '0660' or '0666'")
    return mode


def ages(value: Any, path: str) -> int:
    """A duration, or `never` (0)."""
    return 0 if value == "never" else v.duration(1)(value, path)


def notifier(user: str) -> int | None:
    """The uid of who delivers alerts, or None where there is no such user. Raises InvalidError.

    Never root's, nor that of the daemon's own system user: it speaks with the network.
    """
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
    if uid == 0 or (user == "jobd" and uid != os.geteuid()):
        raise InvalidError(f"alerts.user: alerts are never delivered by {user}: name another user")
    return uid


def off(read: v.Reader) -> v.Reader:
    """What `read` reads, or `off`: None."""
    return lambda value, path: None if value == "off" else read(value, path)


def pace(values: Mapping[str, Any]) -> Pace:
    """How runs are taken on, from the values of the file by their paths."""
    return Pace(
        reserve_after=values.get("order.reserve_after", PLAIN.reserve_after),
        age_after=values.get("order.age_after", PLAIN.age_after) or None,
        at_once=values.get("capacity.concurrency"),
        containers=values.get("engine.concurrency"),
        processes=values.get("process.concurrency"),
    )


def window(values: Mapping[str, Any]) -> Window:
    """What of the ended runs stays in memory, from the values of the file by their paths."""
    plain = Window()
    return Window(
        values.get("history.window", plain.runs), values.get("history.window_age", plain.age)
    )


def keep_history(values: Mapping[str, Any]) -> Keep:
    """How long ended runs are kept, from the values of the file by their paths."""
    plain = Keep()
    return Keep(
        values.get("history.keep", plain.age),
        values.get("history.runs", plain.runs),
        values.get("history.keep_dead"),
    )


def thresholds(values: Mapping[str, Any]) -> Thresholds:
    """`[admission]`, from the values of the file by their paths."""
    given = {
        path.removeprefix("admission."): value
        for path, value in values.items()
        if path.startswith("admission.") and path != "admission.images_path"
    }
    return Thresholds(**given)

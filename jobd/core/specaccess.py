"""Readers of what gives power in a job file: who may do what, and what of the host a job gets.

They look at the form alone; whether this host allows it is core/allowed.py's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobd.core.model import Mount
from jobd.core.specvalues import kind, shown
from jobd.errors import InvalidError

#: what a submitter may be allowed to set otherwise than the job says
OVERRIDES = ("env", "args", "timeout", "priority", "expires")

#: a user or `@group` by name or number, a gateway's principal (`token:ci`), or `*`
_WHO = re.compile(r"\*|@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?|(?:token|hook):[A-Za-z0-9_.-]{1,64}")
#: no attempt gets anything of the host there: jobd's own folder, and the kernel's
_NOT_TARGETS = ("job", "proc", "sys", "dev")
_MOST_MOUNTS = 64
#: limits of the kernel that a job may set, by setrlimit(2)'s names, and at most: core files are
#: never made, and time and memory have settings of their own
ULIMITS = ("fsize", "memlock", "msgqueue", "nofile", "nproc", "rtprio", "sigpending", "stack")
_MOST_ULIMIT = (1 << 63) - 1


def people(value: Any, path: str) -> tuple[str, ...]:
    """Users, `@groups` (by name or number) or `*`, in a list."""
    if not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: expected a list of users and @groups, got {kind(value)}")
    read = []
    for item in value:
        word = str(item) if type(item) is int and item >= 0 else item
        if not isinstance(word, str) or not _WHO.fullmatch(word):
            raise InvalidError(
                f"{path}: {shown(item)}: expected a user, an @group, a number of either, or '*'"
            )
        read.append(word)
    return tuple(read)


def overrides(value: Any, path: str) -> tuple[str, ...]:
    """What a submitter may set otherwise, in a list."""
    if not isinstance(value, list | tuple) or not all(item in OVERRIDES for item in value):
        raise InvalidError(f"{path}: {shown(value)}: expected a list of {', '.join(OVERRIDES)}")
    return tuple(value)


def components(path: str) -> tuple[str, ...]:
    """The names that an absolute path is made of; `//` and `/./` say nothing."""
    return tuple(name for name in path.split("/") if name not in ("", "."))


def absolute(value: Any, path: str) -> str:
    """An absolute path without `..`, brought to its plain form."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InvalidError(f"{path}: {shown(value)}: expected an absolute path")
    names = components(value)
    if ".." in names or len(value) > 4096:
        raise InvalidError(f"{path}: {shown(value)}: expected an absolute path without '..'")
    return "/" + "/".join(names)


def mounts(value: Any, path: str) -> tuple[Mount, ...]:
    """Tables of `source`, `target` and `read_only` (true where not said)."""
    if not isinstance(value, list | tuple) or len(value) > _MOST_MOUNTS:
        raise InvalidError(f"{path}: {shown(value)}: expected a list of {_MOST_MOUNTS} at most")
    read = tuple(_mount(item, f"{path}[{index}]") for index, item in enumerate(value))
    targets = [mount.target for mount in read]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidError(f"{path}: target {shown(target)} is there twice")
    return read


def _mount(value: Any, path: str) -> Mount:
    if not isinstance(value, Mapping):
        raise InvalidError(
            f"{path}: expected a table of source, target and read_only, got {kind(value)}"
        )
    for key in value:
        if key not in Mount._fields:
            raise InvalidError(
                f"{path}.{key!s:.40}: unknown key; known are source, target and read_only"
            )
    for key in ("source", "target"):
        if key not in value:
            raise InvalidError(f"{path}.{key}: is missing")
    target = absolute(value["target"], f"{path}.target")
    names = components(target)
    if not names or names[0] in _NOT_TARGETS:
        raise InvalidError(
            f"{path}.target: {shown(target)}: nothing is mounted at / or under "
            f"{', '.join('/' + name for name in _NOT_TARGETS)}"
        )
    read_only = value.get("read_only", True)
    if not isinstance(read_only, bool):
        raise InvalidError(f"{path}.read_only: {shown(read_only)}: expected true or false")
    return Mount(absolute(value["source"], f"{path}.source"), target, read_only)


def mounts_listed(value: tuple[Mount, ...]) -> list[dict[str, Any]]:
    """Mounts as they stand in a job file."""
    return [mount._asdict() for mount in value]


def devices(value: Any, path: str) -> tuple[str, ...]:
    """Devices of the host, by their paths under /dev."""
    if not isinstance(value, list | tuple) or len(value) > _MOST_MOUNTS:
        raise InvalidError(f"{path}: {shown(value)}: expected a list of {_MOST_MOUNTS} at most")
    read = tuple(absolute(item, path) for item in value)
    for device in read:
        if components(device)[:1] != ("dev",) or len(components(device)) < 2:
            raise InvalidError(f"{path}: {shown(device)}: expected a path under /dev")
    return read


def ulimits(value: Any, path: str) -> dict[str, int]:
    """A table of ULIMITS' names to whole numbers: soft and hard limit alike."""
    if not isinstance(value, Mapping):
        expected = "expected a table such as { nofile = 4096 }"
        raise InvalidError(f"{path}: {expected}, got {kind(value)}")

    for name, most in value.items():
        if name not in ULIMITS:
            raise InvalidError(f"{path}: {shown(name)}: expected one of {', '.join(ULIMITS)}")
        if type(most) is not int or not 0 < most <= _MOST_ULIMIT:
            raise InvalidError(f"{path}.{name}: {shown(most)}: expected a whole number above 0")
    return dict(value)


def ulimits_mapped(value: Mapping[str, int]) -> dict[str, int]:
    """Limits of the kernel as they stand in a job file."""
    return dict(value)

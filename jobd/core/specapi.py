"""The key `api` of a job file: what its attempts may ask of jobd from inside (core/inside.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobd.core.model import Api
from jobd.core.ontopic import check_topic
from jobd.core.specvalues import kind, shown
from jobd.errors import InvalidError

#: runs that one run may queue, and runs one above the other, whatever a job file says
MOST_CHILDREN, MOST_DEPTH = 10_000, 100
MOST_NAMES = 256
_KEYS = ("queue", "emit", "children", "depth")
_PLAIN = Api(on=True)


def read(value: Any, path: str, check_name: Callable[[object, str], str]) -> Api:
    """`true`, `false`, or a table, which means true. Raises InvalidError naming the key's path."""
    if isinstance(value, bool):
        return Api(on=value)
    if not isinstance(value, Mapping):
        raise InvalidError(f"{path}: expected true, false or a table, got {kind(value)}")
    for key in value:
        if key not in _KEYS:
            raise InvalidError(f"{path}.{key!s:.40}: unknown key; known are {', '.join(_KEYS)}")
    return Api(
        on=True,
        queue=_names(value.get("queue", []), f"{path}.queue", check_name),
        emit=_names(value.get("emit", []), f"{path}.emit", check_topic),
        children=_whole(value, "children", path, MOST_CHILDREN),
        depth=_whole(value, "depth", path, MOST_DEPTH),
    )


def write(api: Api) -> bool | dict[str, Any]:
    """As it stands in a job file: true and false where that says it all."""
    if not api.on or api == _PLAIN:
        return api.on
    return {
        "queue": list(api.queue),
        "emit": list(api.emit),
        "children": api.children,
        "depth": api.depth,
    }


def _names(value: Any, path: str, check: Callable[[object, str], str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: expected a list of names, or of '*', got {kind(value)}")
    if len(value) > MOST_NAMES:
        raise InvalidError(f"{path}: {len(value)} names: {MOST_NAMES} at most; or '*'")
    return tuple(name if name == "*" else check(name, path) for name in value)


def _whole(table: Mapping[str, Any], key: str, path: str, most: int) -> int:
    value = table.get(key, getattr(_PLAIN, key))
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidError(f"{path}.{key}: {shown(value)}: expected a whole number, 1 to {most}")
    return value

"""What a `<name>.meta.toml` says of the run of the file beside it: untrusted text to values. Pure.

The keys are those of `jobctl queue`'s options, each read as in a job file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any

from jobd.core import specvalues as v
from jobd.errors import InvalidError

#: bytes of such a file
MOST = 64 << 10


def _labels(value: Any, path: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > 64:
        raise InvalidError(f"{path}: expected a table of at most 64 texts")
    for name, text in value.items():
        if not isinstance(text, str) or not 0 < len(name) <= 100 or len(text) > 1000:
            raise InvalidError(f"{path}.{name!s:.60}: expected text of at most 1000 characters")
        if not (name + text).isprintable():
            raise InvalidError(f"{path}.{name!r:.60}: expected printable characters")
    return dict(value)


def _request(value: Any, path: str) -> bytes:
    try:
        key = bytes.fromhex(value)
    except (TypeError, ValueError):
        key = b""
    if len(key) != 16:
        raise InvalidError(f"{path}: {v.shown(value)}: expected 32 hex digits")
    return key


_KEYS: dict[str, v.Reader] = {
    "priority": v.whole(-1000, 1000),
    "labels": _labels,
    "delay": v.duration(0),
    "not_before": v.whole(0, 1 << 53),
    "expires": v.duration(0),
    "timeout": v.duration(1),
    "env": v.variables,
    "args": v.texts,
    "key": v.text(200),
    "mutex": v.text(200),
    "batch": v.text(64),
    "batch_offset": v.whole(0, 1 << 31),
    "request": _request,
}
#: those that the job has to let a submitter set (core/access.py)
OVERRIDES = frozenset({"priority", "expires", "timeout", "env", "args"})


def read(text: bytes) -> dict[str, Any]:
    """The values by key. Raises InvalidError naming the key, or the line that is no TOML."""
    if len(text) > MOST:
        raise InvalidError(f"{len(text)} bytes: at most {MOST} are read")
    try:
        given = tomllib.loads(text.decode())
    except UnicodeDecodeError:
        raise InvalidError("is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidError(f"is not valid TOML: {error}") from None
    for key in given:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KEYS)}"
            raise InvalidError(f"{key!r:.60}: unknown key; {hint}")
    if "delay" in given and "not_before" in given:
        raise InvalidError("delay: says when it is due, as not_before does: one of them")
    return {key: _KEYS[key](value, key) for key, value in given.items()}

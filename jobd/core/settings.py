"""Single settings of a job: changed by their paths, and what two definitions differ in.

A path is a key's as in messages: `timeout`, `resources.memory`, `env.LANG`, `retry.on`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from jobd.core import masking
from jobd.core.model import JobSpec
from jobd.core.spec import ACCESS_KEYS, KEYS, RETRY_KEYS, parse, to_mapping
from jobd.errors import InvalidError

#: keys whose value is a table, or may be one: single ones of its keys can be set
_OPEN = ("env", "secrets", "api")
_PATHS = frozenset(
    {key.path for keys in (KEYS, RETRY_KEYS, ACCESS_KEYS) for key in keys.values()} | {"retry.on"}
)


def with_settings(
    spec: Mapping[str, Any], settings: Mapping[str, object], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The definition with `settings` (path to value) put in; None takes the default again.

    A text is taken as it is where the key takes such a text, and is read as JSON (`2`,
    `["a", "b"]`, `{"A": "1"}`) or as words apart by commas where it does not (a command: as a
    shell parts words). Raises InvalidError naming the key.
    """
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in spec.items()}
    if not settings:
        raise InvalidError(f"job {spec['name']}: nothing to set: expected KEY=VALUE")
    for path, value in settings.items():
        _check_path(path)
        if value is None:
            _put(made, path, _get(defaults, path))
            continue
        problem: InvalidError | None = None
        for candidate in _candidates(path, value):
            tried = {key: dict(v) if isinstance(v, dict) else v for key, v in made.items()}
            _put(tried, path, candidate)
            try:
                parse(tried, defaults)
            except InvalidError as error:
                # what it says of the text as it is fits what was typed, but for JSON
                if problem is None or (_is_json(value) and not isinstance(candidate, str)):
                    problem = error
                continue
            made, problem = tried, None
            break
        if problem is not None:
            raise problem
    return made


def _check_path(path: str) -> None:
    table, _, rest = path.partition(".")
    if path == "name":
        raise InvalidError("name: a job keeps its name; register another one")
    if path not in _PATHS and not (table in _OPEN and rest):
        # the same words as for a job file
        parse({"name": "x", "image": "x", **({table: {rest: 0}} if rest else {path: 0})})
        raise InvalidError(f"{path}: unknown key")


def _candidates(path: str, value: object) -> list[object]:
    if not isinstance(value, str):
        return [value]
    found: list[object] = [value]
    try:
        found.append(json.loads(value))
    except ValueError:
        pass  # it is no JSON; then it is a word, or several
    if _is_json(value) and len(found) > 1:
        return found
    if path == "command":
        try:
            found.append(shlex.split(value))
        except ValueError as error:
            raise InvalidError(f"command: {value!r:.80}: {error}") from None
    else:
        found.append([word.strip() for word in value.split(",") if word.strip()])
    return found


def _is_json(value: object) -> bool:
    return isinstance(value, str) and value[:1] in ("[", "{")


def _put(made: dict[str, Any], path: str, value: object) -> None:
    table, _, last = path.partition(".")
    if not last:
        made[path] = value
        return
    found = made.get(table)
    inner = dict(found) if isinstance(found, Mapping) else {}
    if value is None:
        inner.pop(last, None)
    else:
        inner[last] = value
    made[table] = inner


def _get(spec: Mapping[str, Any], path: str) -> Any:
    table, _, last = path.partition(".")
    if not last:
        return spec.get(path)
    inner = spec.get(table)
    return inner.get(last) if isinstance(inner, Mapping) else None


def differences(before: JobSpec, after: JobSpec) -> list[dict[str, Any]]:
    """`{key, before, after}` of each path in which two definitions differ, as they may be shown."""
    old, new = (to_mapping(spec) for spec in (before, after))
    shown_old, shown_new = (_flat(masking.job(mapping)) for mapping in (old, new))
    old, new = _flat(old), _flat(new)
    return [
        {"key": path, "before": shown_old.get(path), "after": shown_new.get(path)}
        for path in dict.fromkeys([*new, *old])
        if old.get(path) != new.get(path)
    ]


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    return flat

"""What an `[[on]]` asks of labels and of a payload's keys before it makes a run. Pure.

`labels = { region = "eu" }` is about labels; `payload = { "customer.country" = ["DE", "AT"] }`
about keys of a payload that is JSON, inner ones behind dots. A list means: one of these. All of
them have to be met; what is not there, or is no JSON, meets nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobd.core.specvalues import kind, shown
from jobd.errors import InvalidError

#: keys of one table, and values of one key
MOST = 32
#: bytes of a payload that are looked into; of more no key is found
LOOKED_INTO = 64 << 10

_NOTHING = object()
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Of each label, and of each key of the payload, the values that are meant."""

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    payload: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def passes(self, labels: Mapping[str, str], payload: bytes) -> bool:
        """Whether labels and payload are what is asked for."""
        for name, values in self.labels.items():
            if labels.get(name) not in values:
                return False
        if not self.payload:
            return True
        document = _document(payload)
        return all(_is_one(_at(document, key), values) for key, values in self.payload.items())


ALL = Filter()


def parse(labels: Any, payload: Any, path: str) -> Filter:
    """The filter that the two tables of an `[[on]]` say, None where one is not there.

    Raises InvalidError naming the key below `path`.
    """
    return Filter(
        _table(labels, f"{path}.labels", (str,)),
        _table(payload, f"{path}.payload", (str, int, float, bool)),
    )


def to_mapping(made: Filter) -> dict[str, Any]:
    """As in a job file; a table that says nothing is left out."""
    tables = {"labels": made.labels, "payload": made.payload}
    return {
        name: {key: values[0] if len(values) == 1 else list(values) for key, values in one.items()}
        for name, one in tables.items()
        if one
    }


def _table(value: Any, path: str, types: tuple[type, ...]) -> dict[str, tuple[Any, ...]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidError(f"{path}: expected a table, got {kind(value)}")
    if len(value) > MOST:
        raise InvalidError(f"{path}: {len(value)} keys: {MOST} at most")
    read: dict[str, tuple[Any, ...]] = {}
    for key, given in value.items():
        if not isinstance(key, str) or not 0 < len(key) <= 100 or not key.isprintable():
            raise InvalidError(f"{path}: {shown(key)}: expected a name up to 100 characters")
        several = isinstance(given, list | tuple)
        values = tuple(given) if several else (given,)
        if not 0 < len(values) <= MOST or any(type(one) not in types for one in values):
            words = "text" if types == (str,) else "text, a number, true or false"
            raise InvalidError(
                f"{path}.{key}: {shown(given)}: expected {words}, or a list of up to {MOST}"
            )
        if any(isinstance(one, str) and len(one) > 1000 for one in values):
            raise InvalidError(f"{path}.{key}: expected values up to 1000 characters")
        read[key] = values
    return read


def _document(payload: bytes) -> Any:
    if len(payload) > LOOKED_INTO:
        return None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _at(document: Any, key: str) -> Any:
    """What stands there: under the whole key, or step by step behind its dots."""
    if isinstance(document, dict) and key in document:
        return document[key]
    for word in key.split("."):
        if not isinstance(document, dict) or word not in document:
            return _NOTHING
        document = document[word]
    return document


def _is_one(found: Any, values: tuple[Value, ...]) -> bool:
    # 1 is not true here, as it is to Python
    return any(
        found == value and isinstance(found, bool) is isinstance(value, bool) for value in values
    )

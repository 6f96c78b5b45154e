"""A definition as it is on record: what was accepted once is readable for ever.

The rules for new definitions may become stricter, and a key that a newer jobd wrote may be unknown
here; a queue that could not be read for that would be lost (DURABILITY R12 is about records, this
about what is in them). So nothing is refused but what is no definition at all: a value that would
be refused today is taken as far as its form goes, and what has no form that is known is left out,
each with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobd.core import alertspec, on, schedule, specapi
from jobd.core import spec as s
from jobd.core import specaccess as a
from jobd.core import specvalues as v
from jobd.core.model import Access, Api, JobSpec, Mount, Retry
from jobd.core.rates import rate_text, read_rate
from jobd.core.states import Outcome
from jobd.errors import InvalidError
from jobd.units import duration_ms, duration_text, size_bytes, size_text


def stored(given: Any, name: str) -> tuple[JobSpec, list[str]]:
    """The definition of job `name` on record, and a note on each key that is not as it was said.

    What :func:`jobd.core.spec.parse` accepts is the same here, without notes. Raises InvalidError
    for what is no table.
    """
    if not isinstance(given, Mapping):
        raise InvalidError(f"job {name}: its definition is no table")
    try:
        return s.parse(given), []
    except InvalidError:
        pass
    notes: list[str] = []
    flat = _flattened(given, notes)
    retry = Retry(**_taken(s.RETRY_KEYS, flat, notes), **_retried(flat, notes))
    access = Access(**_taken(s.ACCESS_KEYS, flat, notes))
    spec = JobSpec(name=name, retry=retry, access=access, **_taken(s.KEYS, flat, notes))
    notes += [
        f"{path}: not known to this jobd, and left out" for path in flat if path not in s.PATHS
    ]
    return spec, notes


def _flattened(given: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    """All keys by their paths; a table's key is none by itself."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        if key not in s.TABLES:
            flat[str(key)] = value
        elif isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            notes.append(f"{key}: is no table, and left out")
    return flat


def _taken(keys: Mapping[str, s.Key], flat: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    found = {}
    for attribute, key in keys.items():
        value = flat.get(key.path)
        if value is None:
            continue
        try:
            found[attribute] = key.read(value, key.path)
            continue
        except InvalidError as error:
            why = str(error)
        try:
            found[attribute] = _as_it_was(key, value)
            notes.append(f"{why}; taken as it was registered")
        except (InvalidError, TypeError, ValueError, LookupError, AttributeError):
            notes.append(f"{why}; left out")
    return found


def _as_it_was(key: s.Key, value: Any) -> Any:
    """A value by its form alone. Raises InvalidError, TypeError or ValueError where that is not
    known either."""
    if isinstance(key.read, v.Choice):
        raise InvalidError(f"{key.path}: a word with a meaning that is not known here")
    return _FORMS[key.write](value)


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise InvalidError("no scalar")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidError("no list")
    return tuple(map(str, value))


def _mounts(value: Any) -> tuple[Mount, ...]:
    return tuple(
        Mount(str(one["source"]), str(one["target"]), bool(one.get("read_only", True)))
        for one in value
    )


def _readable(read_all: Callable[[Any, str], tuple[Any, ...]], path: str) -> Callable[[Any], Any]:
    """A reader of those entries of a list that can be read: what one means is not to be guessed."""

    def read(value: Any) -> tuple[Any, ...]:
        found: list[Any] = []
        for one in value:
            try:
                found += read_all([one], path)
            except InvalidError:
                continue
        return tuple(found)

    return read


def _api(value: Any) -> Api:
    """What its runs may ask for from inside, by its form; what is not there allows nothing."""
    if isinstance(value, bool):
        return Api(on=value)
    return Api(
        on=True,
        queue=_texts(value.get("queue", ())),
        emit=_texts(value.get("emit", ())),
        children=int(value.get("children", 0)),
        depth=int(value.get("depth", 0)),
    )


#: how a key is written -> how it is read where its own reader refuses what stands there
_FORMS: dict[v.Writer, Callable[[Any], Any]] = {
    v.as_is: _scalar,
    v.listed: _texts,
    v.mapped: lambda value: {str(name): str(item) for name, item in dict(value).items()},
    duration_text: lambda value: duration_ms(value, "a duration"),
    size_text: lambda value: size_bytes(value, "a size"),
    a.mounts_listed: _mounts,
    a.ulimits_mapped: lambda value: {str(name): int(most) for name, most in value.items()},
    rate_text: lambda value: read_rate(value, "a rate"),
    schedule.write_all: _readable(schedule.read_all, "schedule"),
    on.write_all: _readable(on.read_all, "on"),
    specapi.write: _api,
    alertspec.write_all: _readable(alertspec.read_all, "alert"),
}


def _retried(flat: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """What is retried: the outcomes and exit statuses that are known."""
    value = flat.get("retry.on")
    if not isinstance(value, list | tuple):
        return {}
    on: set[Outcome] = set()
    statuses: list[tuple[int, int]] = []
    for item in value:
        try:
            outcomes, ranges = s.parse_on([item])
        except InvalidError as error:
            notes.append(f"{error}; left out")
            continue
        on |= outcomes
        statuses += ranges
    return {"on": frozenset(on), "statuses": tuple(statuses)}

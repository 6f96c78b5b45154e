"""`[[on]]` of a job file: what makes runs of the job beside people and the clock. Pure.

Each entry is of one kind, told by its key; each kind has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jobd.core import onrun, ontopic, watching
from jobd.core import specvalues as v
from jobd.core.onrun import OnRun
from jobd.core.ontopic import OnTopic
from jobd.core.watching import WatchSpec
from jobd.errors import InvalidError

On = OnRun | OnTopic | WatchSpec

#: entries of one job
MOST = 100


class Kind(NamedTuple):
    """The keys of an entry of one kind, how it is read, and how it is written back."""

    keys: tuple[str, ...]
    parse: Callable[[Mapping[str, Any], str], Any]
    to_mapping: Callable[[Any], dict[str, Any]]


#: the key that tells the kind
KINDS: dict[str, Kind] = {
    "run": Kind(onrun.KEYS, onrun.parse, onrun.to_mapping),
    "path": Kind((*watching.KEYS, "event"), watching.parse, watching.to_mapping),
    "topic": Kind(ontopic.KEYS, ontopic.parse, ontopic.to_mapping),
}
_KIND_OF: dict[type[Any], str] = {OnRun: "run", OnTopic: "topic", WatchSpec: "path"}
#: kinds of INTERFACE that this version has not
_LATER = frozenset({"hook"})


def read_all(value: Any, path: str) -> tuple[On, ...]:
    """The entries of a job file. Raises InvalidError naming the key."""
    if not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: expected a list of tables, got {v.kind(value)}")
    if len(value) > MOST:
        raise InvalidError(f"{path}: {len(value)} entries: at most {MOST} of one job")
    found = tuple(_read(given, f"{path}[{number}]") for number, given in enumerate(value))
    watched = [each for each in found if isinstance(each, WatchSpec)]
    if len(watched) > watching.MOST:
        raise InvalidError(
            f"{path}: {len(watched)} watched paths: at most {watching.MOST} of one job"
        )
    names: set[str] = set()
    for number, each in enumerate(found):
        if not isinstance(each, WatchSpec):
            continue
        if each.name in names:
            raise InvalidError(
                f"{path}[{number}].name: {each.name!r:.80} is there twice: give each a name"
            )
        names.add(each.name)
    return found


def _read(given: Any, path: str) -> On:
    if not isinstance(given, Mapping):
        raise InvalidError(f"{path}: expected a table, got {v.kind(given)}")
    later = sorted(_LATER & given.keys())
    if later:
        raise InvalidError(f"{path}.{later[0]}: not supported by this version of jobd")
    said = [name for name in KINDS if given.get(name) is not None]
    if len(said) != 1:
        expected = f"expected one of {', '.join(KINDS)}"
        raise InvalidError(f"{path}: {expected}, got {', '.join(said) or 'none'}")
    kind = KINDS[said[0]]
    v.check_keys(given, kind.keys, path)
    made: On = kind.parse(given, path)
    return made


def write_all(value: Iterable[On]) -> list[dict[str, Any]]:
    """As in a job file."""
    return [KINDS[_KIND_OF[type(each)]].to_mapping(each) for each in value]

"""`[[on]] path`: a watched path as its owner wrote it, an untrusted mapping to a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobd.core import specvalues as v
from jobd.errors import InvalidError
from jobd.units import duration_text

#: what may happen to a file: closed after writing, made, removed, moved into its folder
HAPPENINGS = ("closed", "created", "deleted", "moved")
#: of one job, each of which may be many folders
MOST = 20
#: a change is told after so much quiet, where nobody says otherwise, in milliseconds
DEBOUNCE = 500

KEYS: dict[str, v.Reader] = {
    "name": v.text(200),
    "path": v.text(4000),
    "pattern": v.text(255),
    "recursive": v.truth,
    "debounce": v.duration(0),
    "batch": v.truth,
}


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """A path that is watched. `debounce` is in milliseconds."""

    name: str
    path: str
    pattern: str = "*"
    events: tuple[str, ...] = ("closed",)
    recursive: bool = False
    debounce: int = DEBOUNCE
    #: whether all changes of one quiet moment are one run
    batch: bool = False


def parse(given: Mapping[str, Any], path: str) -> WatchSpec:
    """The watch in `given`, which has known keys only (core/on.py).

    Raises InvalidError naming the key below `path`.
    """
    read = {
        key: KEYS[key](value, f"{path}.{key}")
        for key, value in given.items()
        if value is not None and key != "event"
    }
    place = read["path"]
    parts = place.split("/")
    if not place.startswith("/") or ".." in parts or place.strip("/") in ("", "proc", "sys", "dev"):
        raise InvalidError(f"{path}.path: {v.shown(place)}: expected a folder's whole path")
    if not place.rstrip("/").startswith(("/proc/", "/sys/", "/dev/")):
        read["path"] = "/" + "/".join(part for part in parts if part not in ("", "."))
    else:
        raise InvalidError(f"{path}.path: {v.shown(place)}: nothing is told of the kernel's own")
    if given.get("event") is not None:
        read["events"] = _events(given["event"], f"{path}.event")
    if "pattern" in read and "/" in read["pattern"]:
        raise InvalidError(f"{path}.pattern: {v.shown(read['pattern'])}: of a file's name, no '/'")
    return WatchSpec(name=read.pop("name", read["path"][-200:]), **read)


def _events(value: Any, path: str) -> tuple[str, ...]:
    """`closed|created`, or a list of such words."""
    words = value.split("|") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise InvalidError(f"{path}: {v.shown(value)}: expected one or more of {_LISTED}")
    found = [word.strip() if isinstance(word, str) else word for word in words]
    for word in found:
        if word not in HAPPENINGS:
            raise InvalidError(f"{path}: {v.shown(word)}: expected one or more of {_LISTED}")
    return tuple(word for word in HAPPENINGS if word in found)


_LISTED = ", ".join(HAPPENINGS) + " (several: closed|created)"


def to_mapping(spec: WatchSpec) -> dict[str, Any]:
    """As in a job file; what has its default is left out."""
    plain = WatchSpec("", "")
    out: dict[str, Any] = {"path": spec.path, "name": spec.name}
    if spec.events != plain.events:
        out["event"] = "|".join(spec.events)
    for key in ("pattern", "recursive", "batch"):
        if getattr(spec, key) != getattr(plain, key):
            out[key] = getattr(spec, key)
    if spec.debounce != plain.debounce:
        out["debounce"] = duration_text(spec.debounce)
    return out

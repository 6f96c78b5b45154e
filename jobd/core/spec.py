"""An untrusted mapping to a job's definition, and back: `parse(to_mapping(spec)) == spec`.

Every key is declared once, in KEYS. An unknown key, a wrong type or an impossible value is refused
with the key's path and what was expected (INTERFACE, "A job file").
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobd.core import alertspec, schedule, specapi
from jobd.core import on as on_
from jobd.core import specaccess as a
from jobd.core import specvalues as v
from jobd.core.model import Access, JobSpec, Retry
from jobd.core.mutexes import check_template
from jobd.core.rates import rate_text, read_rate
from jobd.core.states import Outcome
from jobd.errors import InvalidError
from jobd.units import duration_text, size_text

#: a job's name as it may be
check_name = v.check_name

#: keys that are a container's alone -> what a process has instead
_CONTAINERS_ALONE = {
    "pull": "there is no image to pull",
    "network": "a process has the host's own network",
    "mounts": "a process sees the host's own folders",
    "devices": "a process sees the host's own devices",
    "resources.shm": "a process has the host's own /dev/shm",
    "resources.ulimits": "a process has the limits that jobd itself was started with",
}

#: outcomes that a retry rule may name
_RETRIED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.OOM_KILLED, Outcome.LOST)


class Key(NamedTuple):
    """One key of a job file: where it stands, how it is read, and how it is written back."""

    path: str
    read: v.Reader
    write: v.Writer = v.as_is


#: attribute of JobSpec -> key of the file
KEYS: dict[str, Key] = {
    "image": Key("image", v.text(512)),
    "command": Key("command", v.words, v.listed),
    "pull": Key("pull", v.choice("missing", "always", "never")),
    "user": Key("user", v.text(128)),
    "env": Key("env", v.variables, v.mapped),
    "secrets": Key("secrets", v.secrets, v.mapped),
    "config": Key("config", v.config),
    "network": Key("network", v.text(128)),
    "stdin": Key("stdin", v.choice("none", "payload")),
    "mounts": Key("mounts", a.mounts, a.mounts_listed),
    "devices": Key("devices", a.devices, v.listed),
    "priority": Key("priority", v.whole(-1000, 1000)),
    "overlap": Key("overlap", v.choice("allow", "queue", "skip", "replace")),
    "timeout": Key("timeout", v.duration(1), duration_text),
    "idle_timeout": Key("idle_timeout", v.duration(1000), duration_text),
    "total_timeout": Key("total_timeout", v.duration(1), duration_text),
    "expires": Key("expires", v.duration(1), duration_text),
    "stop_signal": Key("stop_signal", v.signal),
    "stop_grace": Key("stop_grace", v.duration(0), duration_text),
    "cpus": Key("resources.cpus", v.number(0.01, 4096)),
    "memory": Key("resources.memory", v.size(6 << 20), size_text),
    "pids": Key("resources.pids", v.whole(1, 1 << 22)),
    "gpus": Key("resources.gpus", v.whole(0, 1024)),
    "shm": Key("resources.shm", v.size(64 << 10), size_text),
    "ulimits": Key("resources.ulimits", a.ulimits, a.ulimits_mapped),
    "concurrency": Key("limits.concurrency", v.whole(1, 1 << 20)),
    "queue": Key("limits.queue", v.whole(1, 1 << 31)),
    "rate": Key("limits.rate", read_rate, rate_text),
    "burst": Key("limits.burst", v.whole(1, 1 << 20)),
    "group": Key("limits.group", v.text(63)),
    "mutex": Key("limits.mutex", check_template),
    "breaker_failures": Key("breaker.failures", v.whole(1, 1000)),
    "breaker_probe": Key("breaker.probe_after", v.duration(1000), duration_text),
    "api": Key("api", lambda value, path: specapi.read(value, path, check_name), specapi.write),
    "schedules": Key("schedule", schedule.read_all, schedule.write_all),
    "on": Key("on", on_.read_all, on_.write_all),
    "alerts": Key("alert", alertspec.read_all, alertspec.write_all),
}

RETRY_KEYS: dict[str, Key] = {
    "attempts": Key("retry.attempts", v.whole(1, 1000)),
    "delay": Key("retry.delay", v.duration(0), duration_text),
    "factor": Key("retry.factor", v.number(1, 1000)),
    "max_delay": Key("retry.max_delay", v.duration(0), duration_text),
    "jitter": Key("retry.jitter", v.number(0, 1)),
    "interrupted": Key("retry.interrupted", v.choice("retry", "hold", "dead")),
    "memory_step": Key("retry.memory_step", v.size(1 << 20), size_text),
    "memory_max": Key("retry.memory_max", v.size(6 << 20), size_text),
}

ACCESS_KEYS: dict[str, Key] = {
    "submit": Key("access.submit", a.people, v.listed),
    "override": Key("access.override", a.overrides, v.listed),
    "read": Key("access.read", a.people, v.listed),
    "manage": Key("access.manage", a.people, v.listed),
}

_PLAIN = Retry()
#: keys that are tables of keys
TABLES = ("resources", "limits", "breaker", "retry", "access")
#: every key by its path
PATHS = {key.path for keys in (KEYS, RETRY_KEYS, ACCESS_KEYS) for key in keys.values()} | {
    "name",
    "retry.on",
}


def parse(given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> JobSpec:
    """The definition in `given`, what it leaves out taken from `defaults` (of the same form).

    Raises InvalidError naming the key's path.
    """
    flat = _flatten(given)
    said = {path for path, value in flat.items() if value is not None}
    for path, value in (_flatten(defaults) if defaults else {}).items():
        flat.setdefault(path, value)
    _refuse_unknown(flat)
    name = check_name(flat.get("name"))
    if flat.get("image") is None:
        _check_process(name, flat, said)
        # defaults for containers are nothing to a process
        flat.update(dict.fromkeys(_CONTAINERS_ALONE))
    access = Access(**_read(ACCESS_KEYS, flat))
    spec = JobSpec(name=name, retry=_parse_retry(flat), access=access, **_read(KEYS, flat))
    if spec.retry.memory_max is not None and spec.retry.memory_max < spec.memory:
        raise InvalidError(
            f"retry.memory_max: {size_text(spec.retry.memory_max)} is less than resources.memory "
            f"({size_text(spec.memory)})"
        )
    return spec


def _read(keys: Mapping[str, Key], flat: Mapping[str, Any]) -> dict[str, Any]:
    return {
        attribute: key.read(flat[key.path], key.path)
        for attribute, key in keys.items()
        if flat.get(key.path) is not None
    }


def to_mapping(spec: JobSpec) -> dict[str, Any]:
    """The job as in its file, with the defaults filled in; None stands for "no limit"."""
    out: dict[str, Any] = {"name": spec.name}
    owners = ((spec, KEYS), (spec.retry, RETRY_KEYS), (spec.access, ACCESS_KEYS))
    for owner, keys in owners:
        for attribute, key in keys.items():
            value = getattr(owner, attribute)
            table, _, last = key.path.rpartition(".")
            place = out.setdefault(table, {}) if table else out
            place[last] = None if value is None else key.write(value)
    for path in _CONTAINERS_ALONE if spec.image is None else ():
        table, _, last = path.rpartition(".")
        (out[table] if table else out)[last] = None
    out["retry"]["on"] = [*sorted(map(str, spec.retry.on)), *map(_range_text, spec.retry.statuses)]
    return out


def _check_process(name: str, flat: Mapping[str, Any], said: set[str]) -> None:
    """Refuse what makes no sense for a job without an image (INTERFACE, "A job file")."""
    if flat.get("command") is None:
        raise InvalidError(
            f"job {name}: image and command are missing: say which image to run, or which "
            "command as a process of the host"
        )
    for path, instead in _CONTAINERS_ALONE.items():
        if path in said:
            raise InvalidError(f"{path}: job {name} has no image, and {instead}: leave it out")
    program = flat["command"][:1] if isinstance(flat["command"], list | tuple) else ()
    if any(isinstance(word, str) and "/" in word and word[0] != "/" for word in program):
        raise InvalidError(
            f"command: {v.shown(program[0])}: a process starts in a folder of its own: say the "
            "program's whole path, or a name that PATH has"
        )


def _flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if key in TABLES:
            if not isinstance(value, Mapping):
                raise InvalidError(f"{key}: expected a table, got {v.kind(value)}")
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        elif isinstance(key, str) and "." in key:
            # else `"retry.attempts"` in quotes would be a second way to say it, unseen by the first
            raise InvalidError(f"{v.shown(key)}: unknown key; write it as a key of its table")
        else:
            flat[key] = value
    return flat


def _refuse_unknown(flat: Mapping[str, Any]) -> None:
    for path in flat:
        if path not in PATHS:
            raise InvalidError(_unknown(path))


def _unknown(path: str) -> str:
    near = difflib.get_close_matches(str(path), PATHS, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(PATHS))}"
    return f"{v.shown(path)}: unknown key; {hint}"


def wrong_keys(given: Mapping[str, Any]) -> dict[str, str]:
    """Every dotted key of `given` that is wrong by itself, with a sentence that begins with it.

    What depends on several keys is for :func:`parse`, which stops at the first.
    """
    wrong: dict[str, str] = {}
    whole = {}
    for key, value in given.items():
        if key in TABLES and not isinstance(value, Mapping):
            wrong[key] = f"{key}: expected a table, got {v.kind(value)}"
        else:
            whole[key] = value
    tables = (KEYS, RETRY_KEYS, ACCESS_KEYS)
    readers = {key.path: key.read for keys in tables for key in keys.values()}
    readers |= {"name": check_name, "retry.on": lambda value, path: parse_on(value)}
    for path, value in _flatten(whole).items():
        try:
            if path not in PATHS:
                wrong[path] = _unknown(path)
            elif value is not None:
                readers[path](value, path)
        except InvalidError as error:
            wrong[path] = str(error)
    return wrong


def _parse_retry(flat: Mapping[str, Any]) -> Retry:
    fields = _read(RETRY_KEYS, flat)
    # a job that asked for one attempt has not said that it may be run twice (INTERFACE)
    fields.setdefault("max_delay", max(_PLAIN.max_delay, fields.get("delay", _PLAIN.delay)))
    fields.setdefault("interrupted", "retry" if fields.get("attempts", 1) > 1 else "hold")
    if flat.get("retry.on") is not None:
        fields["on"], fields["statuses"] = parse_on(flat["retry.on"])
    retry = Retry(**fields)
    if (retry.memory_step is None) is not (retry.memory_max is None):
        raise InvalidError("retry.memory_step: goes with retry.memory_max, which is its bound")
    if retry.max_delay < retry.delay:
        raise InvalidError(
            f"retry.max_delay: {duration_text(retry.max_delay)} is less than retry.delay "
            f"({duration_text(retry.delay)})"
        )
    return retry


def parse_on(value: Any) -> tuple[frozenset[Outcome], tuple[tuple[int, int], ...]]:
    """`retry.on`: outcomes, and inclusive ranges of exit statuses. Raises InvalidError."""
    expected = f"expected outcomes ({', '.join(_RETRIED)}) or exit statuses such as 75 or '1-10'"
    if not isinstance(value, list | tuple):
        raise InvalidError(f"retry.on: {expected}, in a list, got {v.kind(value)}")
    outcomes: set[Outcome] = set()
    statuses: list[tuple[int, int]] = []
    for item in value:
        if isinstance(item, str) and item in _RETRIED:
            outcomes.add(Outcome(item))
            continue
        first, dash, last = str(item).partition("-")
        if isinstance(item, bool) or not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidError(f"retry.on: {v.shown(item)}: {expected}")
        low, high = int(first), int(last) if dash else int(first)
        if not 1 <= low <= high <= 255:
            raise InvalidError(f"retry.on: {v.shown(item)}: exit statuses go from 1 to 255")
        statuses.append((low, high))
    return frozenset(outcomes), tuple(statuses)


def _range_text(status: tuple[int, int]) -> str | int:
    return status[0] if status[0] == status[1] else f"{status[0]}-{status[1]}"

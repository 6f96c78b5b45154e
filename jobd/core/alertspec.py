"""What is alerted on and where to, as a job file's `[[alert]]` says it; a mapping to values, back.

Pure. What stands in jobd.toml besides (`[alerts]`) is read by core/alertrules.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobd.core import schedule, urls
from jobd.core import specvalues as v
from jobd.errors import InvalidError
from jobd.units import duration_text

#: what a job's alerts may be about
OF_JOBS = (
    "dead", "failed", "timed-out", "oom-killed", "lost", "no-result", "late", "slow", "queue",
    "breaker",
)  # fmt: skip
#: and what is of the host alone
OF_HOST = ("engine", "disk")
#: what somebody asked for, to see whether it arrives
TEST = "test"

#: entries of a job, or of jobd.toml; they are all looked at at each end of an attempt
MOST = 16
#: of a template, in characters, and what it may name: so a body stays small
LONGEST_TEMPLATE, MOST_FIELDS = 2048, 8
#: how many times its median an attempt may take, where nobody says otherwise (the issue's word)
SLOW = 3.0

#: templates that have a name
TEMPLATES = {
    "slack": '{"text": "${text}"}',
    "discord": '{"content": "${text}"}',
    "ntfy": "${text}",
    "text": "${text}",
}
#: what may stand in a template as ${NAME}
FIELDS = ("id", "alert", "state", "what", "job", "run", "count", "text", "at", "raised_at", "host")
_FIELD = re.compile(r"\$\{([^}]*)\}")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}\Z")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\Z")
#: kinds of destinations, and how each is read
KINDS = ("url", "job", "command", "journal", "to")


class Destination(NamedTuple):
    """Where an alert goes: `value` is a URL, or the name of a job, a command, a destination of
    jobd.toml (`to`); empty for the `journal`. `template` is a name, or a text with ${...}."""

    kind: str
    value: str = ""
    template: str = ""

    @property
    def shown(self) -> str:
        """As people may see it: of a URL no path, which may be a secret."""
        if self.kind == "url":
            return urls.parse(self.value).place
        return self.kind if self.kind == "journal" else f"{self.kind} {self.value}"


@dataclass(frozen=True, slots=True)
class AlertSpec:
    """One `[[alert]]`. `within` is in milliseconds; `by` a time of day or a cron expression."""

    on: tuple[str, ...]
    to: Destination
    by: str | None = None
    timezone: str | None = None
    within: int | None = None
    factor: float = SLOW
    waiting: int | None = None


def name(value: Any, path: str) -> str:
    """The name of a job, a command, a destination. Raises InvalidError."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise InvalidError(f"{path}: {v.shown(value)}: expected a name")
    return value


def url(value: Any, path: str) -> str:
    """A URL that could be allowed. Raises InvalidError."""
    urls.parse(value, path)
    return str(value)


def template(value: Any, path: str) -> str:
    """A template's name or text. Raises InvalidError."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEMPLATE:
        raise InvalidError(f"{path}: expected a text of 1 to {LONGEST_TEMPLATE} characters")
    if value in TEMPLATES or value == "json":
        return value
    if "${" not in value:
        known = ", ".join(["json", *TEMPLATES])
        raise InvalidError(f"{path}: {v.shown(value)}: expected {known}, or a text with ${{text}}")
    for word in _FIELD.findall(value):
        if word not in FIELDS:
            raise InvalidError(
                f"{path}: ${{{word[:40]}}}: there is no such field; there are {', '.join(FIELDS)}"
            )
    if len(_FIELD.findall(value)) > MOST_FIELDS:
        raise InvalidError(f"{path}: {MOST_FIELDS} fields at most")
    if value.lstrip()[:1] in ("{", "["):
        try:
            json.loads(_FIELD.sub("0", value))
        except ValueError as error:
            raise InvalidError(f"{path}: begins as JSON and is none: {error}") from None
    return value


def _on(value: Any, path: str) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise InvalidError(f"{path}: {v.shown(value)}: expected a list of what to alert on")
    for word in words:
        if word not in (*OF_JOBS, *OF_HOST):
            raise InvalidError(f"{path}: {v.shown(word)}: expected of {', '.join(OF_JOBS)}")
    return tuple(dict.fromkeys(words))


_KEYS: dict[str, v.Reader] = {
    "on": _on,
    "url": url,
    "job": name,
    "command": name,
    "journal": v.truth,
    "to": name,
    "template": template,
    "by": v.text(256),
    "timezone": v.text(64),
    "within": v.duration(1000),
    "factor": v.number(1.1, 1000),
    "waiting": v.whole(1, 1 << 31),
}


def read_all(value: Any, path: str, of_host: bool = False) -> tuple[AlertSpec, ...]:
    """The `[[alert]]` entries of a job, or with `of_host` those of jobd.toml's `[[alerts.on]]`.

    Raises InvalidError naming the key.
    """
    if isinstance(value, Mapping) or not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: expected a list of tables: [[{path}]]")
    if len(value) > MOST:
        raise InvalidError(f"{path}: {len(value)} entries: {MOST} at most")
    return tuple(_read(one, f"{path}[{n}]", of_host) for n, one in enumerate(value))


def _read(given: Any, path: str, of_host: bool) -> AlertSpec:
    if not isinstance(given, Mapping):
        raise InvalidError(f"{path}: expected a table, got {v.kind(given)}")
    v.check_keys(given, _KEYS, path)
    read = {k: _KEYS[k](given[k], f"{path}.{k}") for k in given if given[k] is not None}
    if read.get("journal") is False:
        del read["journal"]
    if "on" not in read:
        raise InvalidError(f"{path}.on: is missing: of {', '.join(OF_JOBS)}")
    said = [kind for kind in KINDS if kind in read]
    if len(said) != 1:
        text = ", ".join(said) or "none"
        raise InvalidError(f"{path}: expected one of {', '.join(KINDS)}, got {text}")
    kind = said[0]
    found = read.pop(kind)
    to = Destination(kind, "" if kind == "journal" else found, read.pop("template", ""))
    spec = AlertSpec(to=to, **read)
    _check(spec, path, of_host)
    return spec


def _check(spec: AlertSpec, path: str, of_host: bool) -> None:
    if spec.to.template and spec.to.kind not in ("url", "job", "command"):
        raise InvalidError(f"{path}.template: goes with url, job or command")
    if not of_host:
        for word in OF_HOST:
            if word in spec.on:
                raise InvalidError(f"{path}.on: {word} is the host's: [[alerts.on]] in jobd.toml")
    elif "late" in spec.on:
        raise InvalidError(f"{path}.on: late is for each job to say, as when it has to succeed")
    if ("late" in spec.on) is not (spec.by is not None or spec.within is not None):
        raise InvalidError(
            f"{path}: late goes with by (a time of day, or a cron expression) or within (the time "
            "between two successes)"
        )
    if spec.by is not None:
        _timing(spec.by, spec.timezone or "UTC", path)
    elif spec.timezone is not None:
        raise InvalidError(f"{path}.timezone: goes with by")
    if ("queue" in spec.on) is not (spec.waiting is not None):
        raise InvalidError(f"{path}: queue goes with waiting: how many runs are too many")
    if spec.factor != SLOW and "slow" not in spec.on:
        raise InvalidError(f"{path}.factor: goes with slow")


def _timing(by: str, zone: str, path: str) -> schedule.ScheduleSpec:
    clock = _CLOCK.match(by)
    cron = f"{int(clock[2])} {int(clock[1])} * * *" if clock else by
    try:
        made = schedule.parse({"cron": cron, "timezone": zone}, path, zone)
    except InvalidError as error:
        text = str(error).replace(f"{path}.cron", f"{path}.by")
        raise InvalidError(f"{text} (expected a time of day such as 08:30, or cron's)") from None
    if made.moment is not None:
        raise InvalidError(f"{path}.by: {by} is no time")
    return made


def deadline(spec: AlertSpec, since: int, zone: str) -> int | None:
    """By when (ms UTC) a job has to succeed again whose last success was at `since`.

    The first time of `by` after it is met by it; the second has to be met by another.
    """
    found: list[int] = []
    if spec.within is not None:
        found.append(since + spec.within)
    if spec.by is not None:
        timing = _timing(spec.by, spec.timezone or zone, "alert").timing("", since)
        first = None if timing is None else timing.after(since)
        second = None if timing is None or first is None else timing.after(first.at)
        if second is not None:
            found.append(second.at)
    return min(found, default=None)


def write_all(specs: Iterable[AlertSpec]) -> list[dict[str, Any]]:
    """As in a job file; :func:`read_all` reads the same again."""
    return [_write(spec) for spec in specs]


def _write(spec: AlertSpec) -> dict[str, Any]:
    kind, value, text = spec.to
    made: dict[str, Any] = {"on": list(spec.on), kind: True if kind == "journal" else value}
    if text:
        made["template"] = text
    for key in ("by", "timezone", "waiting"):
        if getattr(spec, key) is not None:
            made[key] = getattr(spec, key)
    if spec.within is not None:
        made["within"] = duration_text(spec.within)
    if spec.factor != SLOW:
        made["factor"] = spec.factor
    return made

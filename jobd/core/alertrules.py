"""`[alerts]` of jobd.toml: which URLs are allowed, destinations and commands by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobd.core import alertspec as a
from jobd.core import specvalues as v
from jobd.core import urls
from jobd.core.alertspec import AlertSpec, Destination
from jobd.core.rates import Rate, rate_text, read_rate
from jobd.errors import InvalidError
from jobd.units import duration_text

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
#: how many are given out in a time, where nobody says otherwise
RATE = Rate(60, 3_600_000)
#: the first wait after a delivery that failed, in milliseconds
FIRST_WAIT = 10_000
#: who `jobd notify` runs as where nobody says otherwise
USER = "jobd-notify"
JOURNAL = "/run/systemd/journal/socket"


class Named(NamedTuple):
    """A destination of jobd.toml; `secret` names the file whose content signs what goes there."""

    to: Destination
    secret: str = ""


@dataclass(frozen=True, slots=True)
class AlertRules:
    """What the host's configuration says of alerts. Times are in milliseconds."""

    allow: tuple[str, ...] = ()
    user: str = USER
    #: the uid of `user`, or None where there is no such user
    uid: int | None = None
    #: whether the daemon starts `jobd notify` itself: auto, always, never
    child: str = "auto"
    rate: Rate = RATE
    burst: int = 30
    #: the wait after a delivery that failed for the first time; it doubles with each
    retry: int = FIRST_WAIT
    give_up: int = 2 * 86_400_000
    secret: str = ""
    journal: str = JOURNAL
    named: Mapping[str, Named] = field(default_factory=dict)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: what is alerted on of the host, and of any job
    on: tuple[AlertSpec, ...] = ()

    def resolve(self, to: Destination) -> tuple[Destination, str]:
        """Where it really goes, by the configuration of now, and the name of the signing secret.

        Raises InvalidError where that may not be: it is asked again for each sending, as what was
        allowed once may be allowed no more.
        """
        secret = self.secret
        if to.kind == "to":
            named = self.named.get(to.value)
            if named is None:
                raise InvalidError(_unknown("to", to.value, self.named, "alerts.to"))
            to, secret = named.to, named.secret or secret
        if to.kind == "url":
            url = urls.parse(to.value)
            if not urls.allowed(url, self.allow):
                raise InvalidError(
                    f"url {url.place}/...: is not allowed here ([alerts] allow in jobd.toml)"
                )
        elif to.kind == "command" and to.value not in self.commands:
            raise InvalidError(_unknown("command", to.value, self.commands, "alerts.commands"))
        return to, secret


def _unknown(kind: str, name: str, known: Mapping[str, Any], table: str) -> str:
    names = f"known are {', '.join(sorted(known))}" if known else "there is none"
    return f"{kind} {name!r:.70}: is not in jobd.toml ([{table}]): {names}"


def _allow(value: Any, path: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: {v.shown(value)}: expected a list of URLs")
    return tuple(urls.check_pattern(one, f"{path}[{n}]") for n, one in enumerate(value))


def _secret(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _FILE.match(value):
        raise InvalidError(
            f"{path}: {v.shown(value)} is not the name of a file in the secrets folder"
        )
    return value


_READERS: dict[str, v.Reader] = {
    "allow": _allow,
    "user": v.text(64),
    "child": v.choice("auto", "always", "never"),
    "rate": read_rate,
    "burst": v.whole(1, 10_000),
    "retry": v.duration(100),
    "give_up": v.duration(1000),
    "secret": _secret,
    "journal": v.text(100),
}
#: every key of the table
KEYS = (*_READERS, "to", "commands", "on")
_NAMED: dict[str, v.Reader] = {
    "url": a.url,
    "job": a.name,
    "command": a.name,
    "journal": v.truth,
    "template": a.template,
    "secret": _secret,
}


def read_alerts(given: Any) -> AlertRules:
    """The table `[alerts]`. Raises InvalidError naming the key."""
    if not isinstance(given, Mapping):
        raise InvalidError(f"alerts: expected a table, got {v.kind(given)}")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in _READERS:
            values[key] = _READERS[key](value, f"alerts.{key}")
        elif key == "to":
            values["named"] = {n: _named(n, one) for n, one in _table(value, "alerts.to").items()}
        elif key == "commands":
            values["commands"] = _commands(_table(value, "alerts.commands"))
        elif key == "on":
            values["on"] = a.read_all(value, "alerts.on", of_host=True)
        else:
            raise InvalidError(f"alerts.{key!s:.60}: unknown key; known are {', '.join(KEYS)}")
    rules = AlertRules(**values)
    for n, spec in enumerate(rules.on):
        _resolved(rules, spec.to, f"alerts.on[{n}]")
    for name in rules.named:
        _resolved(rules, Destination("to", name), f"alerts.to.{name}")
    return rules


def _resolved(rules: AlertRules, to: Destination, path: str) -> None:
    try:
        rules.resolve(to)
    except InvalidError as error:
        raise InvalidError(f"{path}: {error}") from None


def _table(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidError(f"{path}: expected a table, got {v.kind(value)}")
    for key in value:
        a.name(key, path)
    return value


def _commands(given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    made = {}
    for key, value in given.items():
        command = v.words(value, f"alerts.commands.{key}")
        if not command[0].startswith("/"):
            raise InvalidError(f"alerts.commands.{key}: expected a program's whole path, in a list")
        made[key] = command
    return made


def _named(name: str, given: Any) -> Named:
    path = f"alerts.to.{name}"
    if not isinstance(given, Mapping):
        raise InvalidError(f"{path}: expected a table, got {v.kind(given)}")
    for key in given:
        if key not in _NAMED:
            raise InvalidError(f"{path}.{key!s:.60}: unknown key; known are {', '.join(_NAMED)}")
    read = {key: _NAMED[key](value, f"{path}.{key}") for key, value in given.items()}
    said = [kind for kind in a.KINDS if read.get(kind)]
    if len(said) != 1:
        raise InvalidError(f"{path}: expected one of url, job, command, journal")
    value = "" if said[0] == "journal" else read[said[0]]
    return Named(Destination(said[0], value, read.get("template", "")), read.get("secret", ""))


def shown(rules: AlertRules) -> dict[str, Any]:
    """The table as it is in force; of URLs no paths, which may be secrets."""
    return {
        "allow": list(rules.allow),
        "user": rules.user,
        "child": rules.child,
        "rate": rate_text(rules.rate),
        "burst": rules.burst,
        "retry": duration_text(rules.retry),
        "give_up": duration_text(rules.give_up),
        "journal": rules.journal,
        **({"secret": rules.secret} if rules.secret else {}),
        "to": {name: _shown(named.to) for name, named in rules.named.items()},
        "commands": {name: list(command) for name, command in rules.commands.items()},
        "on": [{"on": list(spec.on), **_shown(spec.to)} for spec in rules.on],
    }


def _shown(to: Destination) -> dict[str, Any]:
    if to.kind == "url":
        return {"url": f"{to.shown}/..."}
    return {to.kind: True if to.kind == "journal" else to.value}

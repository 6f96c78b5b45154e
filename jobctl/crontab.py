"""A crontab as job files: what each line runs, when, and what could not be taken over.

crontab(5) of Debian: variables, `%` as newline and standard input, nicknames. A system's crontab
has a user in its sixth column, which is told by the file's own lines.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_VARIABLE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|\"[^\"]+\"|'[^']+')\s*=\s*(.*?)\s*\Z")
_LINE = re.compile(r"\s*((?:\S+\s+){5})(.*)\Z", re.DOTALL)
_NICKNAME = re.compile(r"\s*(@\w+)\s+(.*)\Z", re.DOTALL)
_USER = re.compile(r"([a-z_][a-z0-9_-]*)\s+(.*)\Z", re.DOTALL)
#: variables that mean something to cron itself
_CRONS = {"SHELL", "MAILTO", "MAILFROM", "CRON_TZ", "RANDOM_DELAY", "PATH"}


@dataclass(slots=True)
class Imported:
    """Job files by name, and `(line, text)` of what a person has to look at."""

    files: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read(text: str, image: str | None, system: bool | None = None) -> Imported:
    """The jobs of a crontab. `image` runs them in containers; None as processes of the host.

    `system`: its sixth column is a user; None: where every line has one that looks like one.
    """
    made = Imported()
    env: dict[str, str] = {}
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if _counts(line)]
    if system is None:
        system = _has_users([line for _, line in lines])
    for number, line in lines:
        variable = _VARIABLE.match(line)
        if variable and not _LINE.match(line):
            name = variable[1].strip("\"'")
            value = variable[2]
            env[name] = value[1:-1] if value[:1] in "\"'" and value[-1:] == value[:1] else value
            if name in ("MAILTO", "MAILFROM") and value not in ('""', "''", ""):
                made.problems.append((number, f"{name}: jobd sends no mail; see [[alert]]"))
            continue
        found = _NICKNAME.match(line) or _LINE.match(line)
        if found is None:
            made.problems.append((number, f"cannot be read: {line.strip()[:60]!r}"))
            continue
        _add(made, number, " ".join(found[1].split()), found[2], dict(env), image, system)
    return made


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _has_users(lines: list[str]) -> bool:
    commands = [m[2] for line in lines if (m := _NICKNAME.match(line) or _LINE.match(line))]
    return bool(commands) and all(
        (user := _USER.match(command)) is not None and user[1] in ("root", "www-data", "nobody")
        for command in commands
    )


def _add(
    made: Imported,
    number: int,
    when: str,
    command: str,
    env: dict[str, str],
    image: str | None,
    system: bool,
) -> None:
    user = None
    if system and (found := _USER.match(command)):
        user, command = found[1], found[2]
    command, stdin = _percents(command)
    name = _name(command, made)
    shell = env.pop("SHELL", "/bin/sh")
    out = [f"# line {number} of a crontab", f"name = {_text(name)}"]
    if image is not None:
        out.append(f"image = {_text(image)}")
    out.append(f"command = {json.dumps([shell, '-c', command])}")
    if user is not None:
        if image is not None:
            out.append(f"user = {_text(user)}")
        else:
            made.problems.append(
                (number, f"{name}: ran as {user}; here it runs as [process] user says")
            )
    zone = env.pop("CRON_TZ", None)
    delay = env.pop("RANDOM_DELAY", None)
    env = {key: value for key, value in env.items() if key not in _CRONS or key == "PATH"}
    if env:
        inner = ", ".join(f"{key} = {_text(value)}" for key, value in env.items())
        out.append(f"env = {{ {inner} }}")
    if stdin is not None:
        out.append('stdin = "payload"')
    out += ["", "[[schedule]]", f"cron = {_text(when)}"]
    if zone is not None:
        out.append(f"timezone = {_text(zone)}")
    if delay is not None and delay.isdecimal():
        out.append(f'jitter = "{delay}m"')
    if stdin is not None:
        out.append(f"payload = {_text(stdin)}")
    made.files[name] = "\n".join(out) + "\n"


def _percents(command: str) -> tuple[str, str | None]:
    """cron's `%`: the first ends the command, what follows is its standard input."""
    parts = re.split(r"(?<!\\)%", command)
    parts = [part.replace("\\%", "%") for part in parts]
    return parts[0].strip(), "\n".join(parts[1:]) if len(parts) > 1 else None


def _name(command: str, made: Imported) -> str:
    words = [word for word in re.split(r"[\s;&|<>()]+", command) if word and "=" not in word]
    program = next((w for w in words if w not in ("cd", "test", "[", "if", "sh", "-c")), "job")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", program.rpartition("/")[2]).strip("-._")[:50]
    plain = re.sub(r"\.(sh|py|pl|rb)\Z", "", plain) or "job"
    if not plain[0].isalpha() or plain in ("last", "all"):
        plain = f"job-{plain}"
    name, count = plain, 2
    while name in made.files:
        name, count = f"{plain}-{count}", count + 1
    return name


def _text(value: str) -> str:
    """As TOML writes a text: JSON's form, but for what is not ASCII."""
    return json.dumps(value)

"""Readers and writers of single values in a job file. Each reader names the key it refuses."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jobd.errors import InvalidError
from jobd.units import duration_ms, duration_text, size_bytes, size_text

Reader = Callable[[Any, str], Any]
Writer = Callable[[Any], Any]

#: of a job's environment or configuration, in bytes: it travels with each revision
MAX_TEXT = 256 * 1024

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
#: what a container can be told to stop by, without `SIG` (signal(7), real-time ones left out)
_SIGNAL = re.compile(
    r"(?:ABRT|ALRM|BUS|CHLD|CONT|FPE|HUP|ILL|INT|IO|KILL|PIPE|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS"
    r"|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ)\Z"
)

_JOB = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}\Z")
_RESERVED = frozenset({"last", "all"})


def check_name(name: object, what: str = "name") -> str:
    """A job's name as it may be: a letter, then letters, digits, `.`, `_`, `-`, 63 in all."""
    if not isinstance(name, str) or not _JOB.match(name) or name in _RESERVED:
        raise InvalidError(
            f"{what}: {name!r:.80} is not a job name: a letter, then letters, digits, "
            "'.', '_' or '-', 63 in all, and not 'last' or 'all'"
        )
    return name


def shown(value: object) -> str:
    """`value` as it may stand in a message: quoted, and not too long."""
    return f"{value!r:.80}"


def kind(value: object) -> str:
    """What a value is, in the words of a job file."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, Mapping) else "nothing")


def check_keys(given: Mapping[Any, Any], known: Collection[str], path: str) -> None:
    """Refuse keys of a table at `path` that are not among `known`. Raises InvalidError."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise InvalidError(f"{path}.{key!s:.60}: unknown key; {hint}")


def as_is(value: Any) -> Any:
    """The value itself."""
    return value


def listed(value: Any) -> Any:
    """A tuple as a list."""
    return list(value)


def mapped(value: Any) -> Any:
    """A mapping as a plain dict."""
    return dict(value)


def text(longest: int) -> Reader:
    """Reads text of 1 to `longest` characters without control characters."""

    def read(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise InvalidError(f"{path}: expected text, got {kind(value)} {shown(value)}")
        if not 0 < len(value) <= longest or not value.isprintable():
            raise InvalidError(
                f"{path}: {shown(value)}: expected 1 to {longest} printable characters"
            )
        return value

    return read


def any_text(longest: int) -> Reader:
    """Reads text of any characters, of `longest` bytes at most."""

    def read(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise InvalidError(f"{path}: expected text, got {kind(value)} {shown(value)}")
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > longest:
            raise InvalidError(f"{path}: {size} bytes: at most {longest} are taken")
        return value

    return read


class Choice:
    """Reads one of some words."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def __call__(self, value: Any, path: str) -> str:
        if value not in self.words:
            raise InvalidError(f"{path}: {shown(value)}: expected one of {', '.join(self.words)}")
        return str(value)


def choice(*words: str) -> Choice:
    """Reads one of `words`."""
    return Choice(words)


def truth(value: Any, path: str) -> bool:
    """Reads true or false."""
    if not isinstance(value, bool):
        raise InvalidError(f"{path}: {shown(value)}: expected true or false")
    return value


def whole(low: int, high: int) -> Reader:
    """Reads a whole number from `low` to `high`."""

    def read(value: Any, path: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise InvalidError(f"{path}: {shown(value)}: expected a whole number, {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """Reads a number from `low` to `high`."""

    def read(value: Any, path: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise InvalidError(f"{path}: {shown(value)}: expected a number, {low:g} to {high:g}")
        return float(value)

    return read


def duration(least: int) -> Reader:
    """Reads a duration of at least `least` milliseconds."""

    def read(value: Any, path: str) -> int:
        ms = duration_ms(value, path)
        if ms < least:
            raise InvalidError(f"{path}: {shown(value)}: at least {duration_text(least)}")
        return ms

    return read


def size(least: int) -> Reader:
    """Reads a size of at least `least` bytes."""

    def read(value: Any, path: str) -> int:
        count = size_bytes(value, path)
        if count < least:
            raise InvalidError(f"{path}: {shown(value)}: at least {size_text(least)}")
        return count

    return read


def texts(value: Any, path: str) -> tuple[str, ...]:
    """A list of texts; no NUL, and not more than MAX_TEXT in all."""
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise InvalidError(f"{path}: {shown(value)}: expected a list of texts")
    _bounded(path, *value)
    return tuple(value)


def words(value: Any, path: str) -> tuple[str, ...]:
    """A command and its arguments."""
    read = texts(value, path)
    if not read or not read[0]:
        raise InvalidError(f"{path}: expected a command, got an empty list or name")
    return read


def variables(value: Any, path: str) -> dict[str, str]:
    """Environment variables: names to texts (numbers and booleans are written as text)."""
    if not isinstance(value, Mapping):
        raise InvalidError(f"{path}: expected a table of variables, got {kind(value)}")
    read: dict[str, str] = {}
    for name, item in value.items():
        if not isinstance(name, str) or not _VARIABLE.match(name):
            raise InvalidError(f"{path}: {shown(name)} is not the name of a variable")
        if isinstance(item, bool):
            item = "true" if item else "false"
        elif isinstance(item, int | float):
            item = f"{item}"
        if not isinstance(item, str):
            raise InvalidError(f"{path}.{name}: expected text, got {kind(item)}")
        read[name] = item
    _bounded(path, *read, *read.values())
    return read


def secrets(value: Any, path: str) -> dict[str, str]:
    """Variables, or `file:NAME`, to names of files in the secrets folder (never paths)."""
    if not isinstance(value, Mapping):
        raise InvalidError(f"{path}: expected a table of variables, got {kind(value)}")
    for target, source in value.items():
        name = target.removeprefix("file:") if isinstance(target, str) else ""
        wanted = _FILE if isinstance(target, str) and target.startswith("file:") else _VARIABLE
        if not wanted.match(name):
            raise InvalidError(f"{path}: {shown(target)} is not a variable or file:NAME")
        if not isinstance(source, str) or not _FILE.match(source):
            raise InvalidError(
                f"{path}.{target}: {shown(source)} is not the name of a file in the secrets folder"
            )
    return dict(value)


def config(value: Any, path: str) -> str:
    """Text as it is; a table as JSON."""
    if isinstance(value, Mapping):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise InvalidError(f"{path}: the table cannot be written as JSON: {error}") from None
    if not isinstance(value, str):
        raise InvalidError(f"{path}: expected text or a table, got {kind(value)}")
    if len(value) > MAX_TEXT:
        raise InvalidError(f"{path}: {len(value)} characters: at most {MAX_TEXT} are taken")
    return value


def signal(value: Any, path: str) -> str:
    """A signal by its name, such as SIGTERM or TERM."""
    name = value.upper().removeprefix("SIG") if isinstance(value, str) else ""
    if not _SIGNAL.match(name):
        raise InvalidError(f"{path}: {shown(value)}: expected a signal such as SIGTERM")
    return f"SIG{name}"


def _bounded(path: str, *texts: str) -> None:
    if any("\0" in item for item in texts):
        raise InvalidError(f"{path}: holds a NUL character")
    if sum(map(len, texts)) > MAX_TEXT:
        raise InvalidError(f"{path}: more than {MAX_TEXT} characters in all")

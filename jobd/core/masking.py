"""What listings do not show: values under telling names, whoever asks. Pure.

A listing is pasted into tickets and logs; the value itself is in the job's file and in the queue. A
name is told by its words (`DB_PASSWORD`, `apiKey`, `x-auth-token`), in any case. Texts are searched
as JSON where they are JSON, else for `name=value` and `name: value`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: stands for a value, and tells nothing of its length
MASK = "********"

#: telling wherever they stand in a name, once its marks are taken out
_ANYWHERE = re.compile(
    "passw(?:or)?d|passphrase|passcode|secret|token|apikey|licen[sc]e|connectionstring|connstr"
    "|credential|authorization|webhookurl|pwd$"
    "|(?:private|access|signing|encryption|ssh|auth|account|master|shared|deploy)key"
)
#: telling as a word of their own alone: `compass` and `author` are innocent
_WORDS = frozenset({"pass", "pwd", "pw", "auth", "bearer", "cookie", "dsn", "cred", "creds"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# possessive (`++`), so that each is done in one go whatever the text: it is somebody else's
_NAME = re.compile(r"""(?<![\w.-])(?P<name>[\w.-]++)["']?[ \t]*+(?P<mark>=>|[=:])[ \t]*+""")
_VALUES = {
    ":": re.compile(r""""(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[^\n]++"""),
    "=": re.compile(r""""(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[^\s,;&]++"""),
}
_SCHEME = re.compile(
    r"(?<!\w)(?P<head>(?:bearer|basic)[ \t]++)[A-Za-z0-9._~+/=-]{12,}+", re.IGNORECASE
)
#: the password in `scheme://user:password@host`
_URL = re.compile(r"(?<![\w+.-])(?P<head>[A-Za-z][\w+.-]*+://[^\s/:@]*+:)[^\s/@\"']++(?=@)")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [^-]*+-----|\Z)", re.DOTALL
)

_MOST_DEEP = 32


def is_telling(name: str) -> bool:
    """Whether what stands under that name is not for showing."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if _ANYWHERE.search(plain):
        return True
    return any(word.lower() in _WORDS for word in _WORD.findall(name))


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables as they may be shown."""
    return {
        name: MASK if value and is_telling(name) else text(value) for name, value in env.items()
    }


def text(value: str) -> str:
    """A payload, a configuration or one word as it may be shown."""
    if value[:1] in ("{", "[") or value.lstrip()[:1] in ("{", "["):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            pass  # cut off, or JSON lines, or something else in braces
        else:
            return json.dumps(_masked(parsed, 0), ensure_ascii=False)
    value = _PEM.sub(MASK, value)
    value = _SCHEME.sub(rf"\g<head>{MASK}", value)
    return _URL.sub(rf"\g<head>{MASK}", _pairs(value))


def words(command: Sequence[str]) -> list[str]:
    """A command and its arguments as they may be shown: `--password x` and `--password=x`."""
    shown: list[str] = []
    follows = False
    for word in command:
        option = word.startswith("-") and "=" not in word and is_telling(word)
        shown.append(MASK if follows and not word.startswith("-") else text(word))
        follows = option
    return shown


def job(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A job, in its file's form, as it may be shown; names of secrets are no secrets."""
    shown = dict(mapping)
    for key, mask in (("env", variables), ("config", text), ("command", words), ("args", words)):
        if shown.get(key):
            shown[key] = mask(shown[key])
    return shown


def _pairs(value: str) -> str:
    """`name=value` and `name: value` with the values under telling names masked.

    After `:` all of the line is the value, as in a header or in YAML.
    """
    shown: list[str] = []
    known: dict[str, bool] = {}
    done = at = 0
    while (found := _NAME.search(value, at)) is not None:
        at = found.end()
        name = found["name"]
        if name not in known:
            known[name] = is_telling(name)
        if not known[name]:
            continue
        it = _VALUES[found["mark"][0]].match(value, at)
        if it is not None:
            quote = it[0][0] if len(it[0]) > 1 and it[0][0] in "\"'" else ""
            shown += (value[done:at], quote, MASK, quote)
            done = at = it.end()
    return "".join((*shown, value[done:]))


def _masked(value: Any, deep: int, told: bool = False) -> Any:
    if deep > _MOST_DEEP:
        return MASK
    if isinstance(value, dict):
        return {
            key: _masked(item, deep + 1, told or is_telling(key)) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, deep + 1, told) for item in value]
    if told:
        return value if value in (None, "", True, False) and not _is_number(value) else MASK
    return text(value) if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Names of dropped files: which are left alone, and what they become.

A claimed file is `<key><mark><name>`: a key of 32 hex digits, and its own name behind `.`, or (one
that is not UTF-8) quoted behind `%`. Its `.meta.toml` is `<key>@<name>`. So a name is never lost,
and every name here is text, which records and engines can hold.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

META = b".meta.toml"
PLAIN, QUOTED, BESIDE = ".", "%", "@"
#: bytes of a name that are kept: key, run and ending have to fit beside it into 255
_KEPT = 200
_CLAIMED = re.compile(r"([0-9a-f]{32})([.%@])(.*)\Z", re.DOTALL)


class Claimed(NamedTuple):
    """A claimed file's name in its parts."""

    key: str
    mark: str
    name: str

    @property
    def file(self) -> str:
        """The claimed file's own name."""
        return f"{self.key}{self.mark}{self.name}"

    @property
    def beside(self) -> str:
        """The name of what was beside it."""
        return f"{self.key}{BESIDE}{self.name}"

    @property
    def given(self) -> bytes:
        """The name that it was dropped under, cut where that was very long."""
        return unquote_to_bytes(self.name) if self.mark == QUOTED else os.fsencode(self.name)


def is_left_alone(name: bytes) -> bool:
    """Whether a file of that name is no drop: hidden, unfinished, or beside another."""
    return name.startswith(b".") or name.endswith((b".tmp", META))


def claim(name: bytes, key: str | None = None) -> Claimed:
    """What a file of that name is claimed as; `key` is made where none is given."""
    key = key or os.urandom(16).hex()
    try:
        text = _cut(name).decode()
    except UnicodeDecodeError:
        # a quoted byte takes three
        return Claimed(key, QUOTED, quote_from_bytes(name[: _KEPT // 3]))
    return Claimed(key, PLAIN, text)


def claimed(file: str) -> Claimed | None:
    """The parts of a claimed file's name; None for what is none."""
    found = _CLAIMED.match(file)
    return None if found is None else Claimed(*found.groups())


def ended(drop: bytes, run: int, ending: str) -> bytes:
    """The name of what tells how a drop's run ended."""
    return b"%s.%d%s" % (drop, run, ending.encode())


def _cut(name: bytes) -> bytes:
    """The beginning of a long name, no character cut through."""
    if len(name) <= _KEPT:
        return name
    cut = name[:_KEPT]
    return cut.decode("utf-8", "ignore").encode() if _is_text(name) else cut


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Parses the command line: one verb's parser, global options before or behind the verb.

argparse is slow to build and its messages end the program, so only the chosen verb's parser is
made, and errors are raised as UsageError.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NoReturn

from jobctl import values
from jobd.errors import UsageError

# argparse would look for translations of its words, of which there are none, on every start: files
# are searched for, and `locale` is imported. Its messages are read below, so they stay as they are
argparse._ = lambda text: text  # type: ignore[attr-defined]

#: global options that take a value; known here because the verb has to be found among them
_WITH_VALUE = frozenset(
    {"--socket", "--home", "-o", "--output", "--request-timeout", "--request-key"}
)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """A help formatter that is told its width; else it imports shutil, with lzma and bz2.

    argparse makes one for each argument that is added, to check its metavar.
    """
    return argparse.RawDescriptionHelpFormatter(prog, width=help_width())


def help_width() -> int:
    """Columns that help is wrapped at."""
    try:
        return min(os.get_terminal_size().columns, 100) - 2
    except OSError:
        return 98


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises, and that takes no abbreviations (they change meaning)."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(
            prog=prog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_formatter,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Raises UsageError with what argparse found."""
        if "expected one argument" in message:
            message += " (one that starts with - is written --option=VALUE)"
        raise UsageError(f"{self.prog.removeprefix('jobctl ')}: {message}; see {self.prog} --help")


def typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader of `values` as argparse's `type`: its sentence is kept as it is."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    convert.__name__ = read.__name__
    return convert


def add_globals(parser: argparse.ArgumentParser) -> None:
    """The options that every verb has."""
    group = parser.add_argument_group("global options (before or after the verb)")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="the daemon's socket (JOBCTL_SOCKET)")
    where.add_argument(
        "--home", metavar="DIR", help="the home of a daemon that was started with one (JOBCTL_HOME)"
    )
    group.add_argument(
        "-o", "--output", metavar="MODE", help="table, json, jsonl or id (JOBCTL_OUTPUT)"
    )
    group.add_argument("--json", action="store_true", help="the same as -o json")
    group.add_argument("-q", "--quiet", action="store_true", help="no talk on stderr but errors")
    group.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR)")
    group.add_argument(
        "--request-timeout",
        metavar="D",
        type=typed(values.duration),
        default=30_000,
        help="how long a daemon that does not answer is waited for (default 30s)",
    )
    group.add_argument(
        "--request-key",
        metavar="HEX",
        type=typed(_request_key),
        help="asks again for what had an unknown outcome, and does nothing twice",
    )
    group.add_argument("-h", "--help", action="store_true", help="shows this")


def _request_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise UsageError("expected 32 hexadecimal digits, as the message told them")
    return key


def split_verb(argv: list[str]) -> tuple[str | None, list[str]]:
    """The verb, and all else: global options that stood before it come first."""
    index = 0
    while index < len(argv):
        word = argv[index]
        if not word.startswith("-") or word == "-":
            return word, argv[:index] + argv[index + 1 :]
        if word == "--":
            break
        index += 2 if word in _WITH_VALUE else 1
    return None, argv


def split_rest(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what stands behind it."""
    if "--" not in argv:
        return argv, []
    index = argv.index("--")
    return argv[:index], argv[index + 1 :]


def guess_mode(argv: list[str]) -> str | None:
    """The output mode that was meant, for an error found before the command line was parsed."""
    for index, word in enumerate(argv):
        if word == "--":
            break
        if word == "--json":
            return "json"
        if word in ("-o", "--output") and index + 1 < len(argv):
            return argv[index + 1]
        for prefix in ("--output=", "-o"):
            if word.startswith(prefix) and len(word) > len(prefix):
                return word[len(prefix) :]
    return None

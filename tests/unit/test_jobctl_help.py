"""The help of each verb is complete and true: every example is a command that would be taken."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobctl import arguments, statuses
from jobctl.cli import VERBS, main
from jobctl.output import Output
from jobd import errors
from jobd.daemon import cli as daemon

ROOT = Path(__file__).resolve().parent.parent.parent


def command(verb: str) -> Any:
    """The verb's module."""
    return import_module(f"jobctl.commands.{verb}")


def parser(verb: str) -> arguments.Parser:
    """The verb's parser as cli.py makes it."""
    made = arguments.Parser(f"jobctl {verb}", description=command(verb).MANUAL)
    command(verb).add_arguments(made)
    arguments.add_globals(made)
    return made


def examples(verb: str) -> list[list[str]]:
    """The words behind `jobctl` of each example, without what a shell does with their output."""
    found = []
    for line in command(verb).MANUAL.splitlines():
        if not line.startswith("  "):
            continue
        for piece in re.split(r"\s[|>](?:\s|$)|\s#|<\(|\)\s|&&", line):
            words = shlex.split(piece.strip().rstrip(")"), comments=True)
            if words[:1] == ["jobctl"]:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_of_itself(verb: str) -> None:
    assert any(verb in words for words in examples(verb)), command(verb).MANUAL


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_would_be_taken(verb: str) -> None:
    for example in examples(verb):
        name, rest = arguments.split_verb(example)
        assert name in VERBS
        module = command(name)
        behind: list[str] = []
        if getattr(module, "TAKES_REST", False):
            rest, behind = arguments.split_rest(rest)
        given = parser(name).parse_args(rest)
        given.rest = behind
        check = getattr(module, "check", None)
        if check is not None:
            check(given, Output())


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(verb: str) -> None:
    for action in parser(verb)._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            named = "".join(action.option_strings).lstrip("-")
            assert action.help or named in ("name", "help"), action.option_strings


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_page_and_names_every_option(verb: str) -> None:
    text = parser(verb).format_help()
    assert max(map(len, text.splitlines())) <= 100
    for action in parser(verb)._actions:
        assert all(option in text for option in action.option_strings)


def test_readme_and_help_have_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    assert "| | |\n|---|---|\n" + "\n".join(statuses.rows()) + "\n\n`jobd`: " in readme
    stops = "; ".join(f"{status} {meaning}" for status, meaning in daemon.STATUSES)
    assert f"\n`jobd`: {stops}.\n" in readme
    assert main(["help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {'own' if isinstance(s, str) else s} " in said for s, _ in statuses.STATUSES)
    told = {status for status, _ in (*statuses.STATUSES, *daemon.STATUSES)}
    assert {status for _, status, _ in errors.table()} <= told

"""`jobctl __complete WORDS... CURRENT`: what the word under the cursor may become.

Asked by the shells' scripts (jobctl/commands/completion.py) with each press of Tab, so it is on the
hot path and answers within PATIENCE or not at all: a hung daemon must not hang a shell. One
candidate a line, a tab, and what it is; the line `:files` asks the shell for files.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

from jobctl import arguments
from jobctl.output import MODES, Output

Candidate = tuple[str, str]

#: seconds from the start of the program's own work until it gives up, whatever it is at
PATIENCE = 0.15

FILES: Candidate = (":files", "")

#: INTERFACE's table and `dead`; core/states.py is no client's import here (a test compares)
STATUS_WORDS = (
    "delayed blocked held queued retrying starting running stopping succeeded failed timed-out "
    "oom-killed cancelled expired skipped lost dead"
)

#: what a value is, by the metavar that its option or argument has
_BY_METAVAR = {
    "JOB": "jobs",
    "J": "jobs",
    "RUN": "runs",
    "RUN|JOB": "both",
    "RUN[:ok|any|fail]": "runs",
    "FILE": "files",
    "PAYLOAD": "files",
    "DIR": "files",
    "PATH": "files",
    "FILE|DIR": "files",
    "S,...": "status",
    "MODE": "modes",
}


def main(words: list[str], verbs: dict[str, str], out: Output) -> int:
    """Writes the candidates; always 0, as nothing can be done about a failure under a Tab."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    *before, current = words or [""]
    for text, what in candidates(before, current, verbs):
        line = f"{text}\t{what}" if what else text
        # a candidate is put on a command line: nothing that a terminal obeys gets there
        if line.replace("\t", " ").isprintable():
            out.line(line)
    out.flush()
    return 0


def _give_up(*_: Any) -> None:
    os._exit(0)


def candidates(before: list[str], current: str, verbs: dict[str, str]) -> Iterator[Candidate]:
    """What may stand where `current` does, behind the words `before`."""
    verb, rest = arguments.split_verb(before)
    parser = _parser(verb, verbs)
    if parser is None:
        return
    awaited = _awaited(parser, before)
    if awaited is not None:
        yield from _values(awaited, current, before)
    elif current.startswith("--") and "=" in current:
        option, _, value = current.partition("=")
        action = _options(parser).get(option)
        if action is not None:
            for text, what in _values(action, value, before):
                yield (text if text == FILES[0] else f"{option}={text}"), what
    elif current.startswith("-"):
        for option, action in _options(parser).items():
            if option.startswith(current) and (option.startswith("--") or current == "-"):
                yield option, action.help or ""
    elif verb is None or verb == "help":
        yield from ((name, what) for name, what in verbs.items() if name.startswith(current))
    else:
        yield from _positional(parser, rest, current, before)


def _parser(verb: str | None, verbs: dict[str, str]) -> arguments.Parser | None:
    parser = arguments.Parser("jobctl")
    if verb in verbs:
        from importlib import import_module

        import_module(f"jobctl.commands.{verb}").add_arguments(parser)
    elif verb not in (None, "help"):
        return None
    arguments.add_globals(parser)
    return parser


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {
        option: action
        for action in parser._actions
        for option in action.option_strings
        if action.help != argparse.SUPPRESS
    }


def _awaited(parser: argparse.ArgumentParser, before: list[str]) -> argparse.Action | None:
    """The option whose value comes next, or None."""
    action = _options(parser).get(before[-1]) if before else None
    return action if action is not None and action.nargs != 0 else None


def _positional(
    parser: argparse.ArgumentParser, rest: list[str], current: str, before: list[str]
) -> Iterator[Candidate]:
    """The values of the argument that the word is, counted from what stands before."""
    places = [action for action in parser._actions if not action.option_strings]
    options = _options(parser)
    given, skip = 0, False
    for word in rest:
        if word == "--":
            return  # behind it nothing is ours
        takes = options.get(word)
        if not skip and not (word.startswith("-") and word != "-"):
            given += 1
        skip = not skip and takes is not None and takes.nargs != 0
    if not places:
        return
    if given >= len(places):
        if places[-1].nargs not in ("*", "+"):
            return
        given = len(places) - 1
    yield from _values(places[given], current, before)


def _values(action: argparse.Action, current: str, before: list[str]) -> Iterator[Candidate]:
    if action.choices:
        found: Iterable[Candidate] = [(str(choice), "") for choice in action.choices]
    else:
        kind = _BY_METAVAR.get(str(action.metavar or ""))
        found = _of_kind(kind, current, before) if kind else ()
    for text, what in found:
        if text.startswith(current) or text == FILES[0]:
            yield text, what


def _of_kind(kind: str, current: str, before: list[str]) -> Iterable[Candidate]:
    if kind == "files":
        return [FILES]
    if kind == "modes":
        return [(mode, "") for mode in MODES]
    if kind == "status":
        head, comma, _ = current.rpartition(",")
        return [(head + comma + word, "") for word in STATUS_WORDS.split()]
    found: list[Candidate] = []
    if kind in ("jobs", "both"):
        found += _jobs(before)
    if kind in ("runs", "both"):
        found += _runs(before, current)
    return found


# --- what the daemon knows ------------------------------------------------------------------


def _ask(before: list[str], call: str, *given: Any) -> Any:
    """What a call of the client answers; nothing where no daemon does."""
    from jobctl.client import Client
    from jobd.errors import JobdError

    where: dict[str, str] = {}
    for word, after in zip(before, [*before[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in ("--socket", "--home"):
            where[name] = value if equals else after
    try:
        client = Client(where.get("--socket"), where.get("--home"), request_timeout=PATIENCE)
    except JobdError:
        return []
    try:
        return getattr(client, call)(*given)
    except JobdError:
        return []
    finally:
        client.close()


def _jobs(before: list[str]) -> list[Candidate]:
    jobs = _ask(before, "job_names")
    return [(str(job["name"]), "paused" if job.get("paused") else "job") for job in jobs]


def _runs(before: list[str], current: str) -> list[Candidate]:
    head, comma, _ = current.rpartition(",")
    if current.startswith("last:"):
        return [(f"last:{name}", "its last run") for name, _ in _jobs(before)]
    rows = _ask(before, "runs")
    found = [(f"{head}{comma}{row['id']}", f"{row['job']}, {row['status']}") for row in rows]
    return found if comma else [*found, ("last", "the last run")]

"""Job files: their text to specs, with every mistake named by file, line and key. Pure.

The daemon reads `jobs.d/` with it, `jobctl apply` what it is given, so both refuse the same
(INTERFACE, "A job file").
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jobd.core import spec as s
from jobd.core.model import JobSpec
from jobd.core.specvalues import config
from jobd.core.tomlkeys import line_of, lines_of_keys
from jobd.errors import InvalidError

#: of one file, in bytes: a registration travels in one frame
MAX_FILE = 512 * 1024


class Mistake(NamedTuple):
    """One thing that is wrong: in which file, on which line where that is known, and what."""

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.text}"


class JobFile(NamedTuple):
    """One job file that could be read: where it is, and the job it describes."""

    file: str
    name: str
    spec: dict[str, Any]
    #: dotted key -> line
    lines: dict[str, int]

    def mistake(self, text: str) -> Mistake:
        """What is wrong with the job; a `text` that begins with a key is given that key's line.

        `retry.delay: ...` and `job NAME: retry.delay: ...` are both understood.
        """
        text = text.removeprefix("job unnamed: ")
        plain = text.removeprefix(f"job {self.name}: ")
        line = line_of(self.lines, _key_of(plain))
        # where no key is meant, it is about the job as a whole
        return Mistake(self.file, line, text if line is None else plain)


Found = tuple[list[JobFile], list[Mistake]]


def read(
    files: Sequence[tuple[str, str, bytes]],
    defaults: Mapping[str, Any] | None = None,
    check: Callable[[JobSpec], list[str]] | None = None,
) -> Found:
    """The jobs in `files` (path as it is shown, name where the file gives none, content).

    `defaults` are the daemon's; `check` says what a host does not allow. All
    files are read to their end: what is returned is every job that is sound, and every mistake.
    """
    jobs: list[JobFile] = []
    mistakes: list[Mistake] = []
    seen: dict[str, str] = {}
    for file, stem, content in files:
        job, wrong = read_one(file, stem, content, defaults, check)
        mistakes += wrong
        if job is None:
            continue
        if job.name in seen:
            mistakes.append(job.mistake(f"name: job {job.name} is in {seen[job.name]} already"))
        seen.setdefault(job.name, file)
        if not wrong:
            jobs.append(job)
    return jobs, mistakes


def read_one(
    file: str,
    stem: str,
    content: bytes,
    defaults: Mapping[str, Any] | None = None,
    check: Callable[[JobSpec], list[str]] | None = None,
) -> tuple[JobFile | None, list[Mistake]]:
    """One file's job (None where it is no TOML), and its mistakes."""
    if len(content) > MAX_FILE:
        return None, [Mistake(file, None, f"{len(content)} bytes: at most {MAX_FILE} are read")]
    try:
        text = content.decode()
        given = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [Mistake(file, line, "is not UTF-8 text")]
    except tomllib.TOMLDecodeError as error:
        return None, [_syntax(file, content, str(error))]
    given.setdefault("name", stem)
    job = JobFile(file, str(given["name"]), given, lines_of_keys(text))
    mistakes = [job.mistake(text) for text in wrong_keys(given, defaults, check)]
    if not mistakes and "config" in given:
        # a table may be nested deeper than a request, and hold what only JSON's writer refuses
        given["config"] = config(given["config"], "config")
    return job, mistakes


def wrong_keys(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    check: Callable[[JobSpec], list[str]] | None = None,
) -> list[str]:
    """Everything that is wrong with a job, a sentence each that begins with the key."""
    wrong = s.wrong_keys(given)
    texts = list(wrong.values())
    # what depends on several keys, without those that are wrong already: it would repeat the same
    try:
        spec = s.parse(_without(given, list(wrong)), defaults)
        if check is not None:
            texts += check(spec)
    except InvalidError as error:
        texts.append(str(error))
    return texts


def _without(given: Mapping[str, Any], wrong: Sequence[str]) -> dict[str, Any]:
    """`given` without its wrong keys, and without all of [retry], whose keys depend on each other,
    where one of those is wrong. Something stands in for a wrong name, image or command."""
    left: dict[str, Any] = {}
    for key, value in given.items():
        inner = [path for path in wrong if path.startswith(f"{key}.")]
        if key in wrong or (inner and key == "retry"):
            continue
        left[key] = value
        if inner and isinstance(value, Mapping):
            left[key] = {k: v for k, v in value.items() if f"{key}.{k}" not in inner}
    stand_ins = {"name": "unnamed", "image": "unnamed", "command": ["unnamed"]}
    return {**{key: value for key, value in stand_ins.items() if key in wrong}, **left}


def _syntax(file: str, content: bytes, message: str) -> Mistake:
    """tomllib ends its sentence with `(at line 3, column 5)` or `(at end of document)`."""
    text, _, place = message.rpartition(" (at ")
    digits = place.removeprefix("line ").partition(",")[0]
    last = content.count(b"\n") + (not content.endswith(b"\n"))
    line = int(digits) if digits.isdecimal() else last
    return Mistake(file, line, f"is not valid TOML: {text or message}")


def _key_of(text: str) -> str:
    """The dotted key that a sentence begins with, else its first word (`retry.delay 3: ...`)."""
    key = text.partition(": ")[0].strip("'[]")
    return key.partition(" ")[0]

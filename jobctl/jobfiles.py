"""Reads job files for `apply`: every mistake of every file is named before anything is sent.

Off the hot path: it loads the daemon's own reader of job files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jobd.core.jobfile import JobFile, Mistake, read
from jobd.errors import InvalidError, JobdError, UsageError

Content = tuple[str, str, bytes]


def load(paths: Sequence[str]) -> list[JobFile]:
    """The jobs in these files and folders. Raises InvalidError with `details["mistakes"]`."""
    contents: list[Content] = []
    unreadable: list[Mistake] = []
    for path in paths:
        for file in _files(path):
            try:
                contents.append((file, _stem(file), _content(file)))
            except OSError as error:
                unreadable.append(Mistake(file, None, f"cannot be read: {error.strerror}"))
    jobs, mistakes = read(contents)
    mistakes = unreadable + mistakes
    if mistakes:
        raise _refusal([str(one) for one in mistakes])
    return jobs


def placed(error: JobdError, jobs: Sequence[JobFile]) -> JobdError:
    """An error of `job.apply`, its mistakes with the file and line where each stands."""
    found = error.details.get("mistakes")
    if not isinstance(found, list):
        return error
    by_name = {job.name: job for job in jobs}
    lines = [
        str(by_name[name].mistake(text)) if name in by_name else str(text) for name, text in found
    ]
    return _refusal(lines, type(error))


def _refusal(lines: list[str], kind: type[JobdError] = InvalidError) -> JobdError:
    if len(lines) == 1:
        return kind(f"{lines[0]}; nothing was changed", mistakes=lines)
    return kind(f"{len(lines)} mistakes in job files; nothing was changed", mistakes=lines)


def _files(path: str) -> list[str]:
    """The job files that `path` stands for; a folder's own, those of folders in it are not."""
    if path == "-" or not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise UsageError(f"apply: {path}: {error.strerror}") from None
    found = [os.path.join(path, n) for n in names if n.endswith(".toml") and n[0] != "."]
    if not found:
        # with --prune this would remove every job
        raise UsageError(f"apply: {path}: there is no job file (*.toml) in this folder")
    return found


def _stem(file: str) -> str:
    return "" if file == "-" else os.path.basename(file).removesuffix(".toml")


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    with open(file, "rb") as opened:
        return opened.read()

"""Where log files are: `<logs>/<job>/<run>.<attempt>.log`, opened without following a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobd.runlog import reader
from jobd.runlog.writer import DEFAULT_LIMIT, LogWriter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LogFolder:
    """The folder of all logs, held open: everything in it is opened relative to it.

    Folders are 0700 and files 0600, whatever the umask (DURABILITY, checklist 24 and 25).
    """

    def __init__(self, root: Path) -> None:
        """Makes `root` where missing. Raises OSError."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder; open writers go on."""
        os.close(self._root)

    def writer(self, job: str, run: int, attempt: int, limit: int = DEFAULT_LIMIT) -> LogWriter:
        """The writer of one attempt's log, new or resumed; at most one at a time."""
        _check(job)

        def open_folder() -> int:
            try:
                return os.open(job, _DIRECTORY, dir_fd=self._root)
            except FileNotFoundError:
                pass
            try:
                os.mkdir(job, 0o700, dir_fd=self._root)
            except FileExistsError:
                pass
            return os.open(job, _DIRECTORY, dir_fd=self._root)

        return LogWriter(open_folder, _name(run, attempt), limit)

    def read(self, job: str, run: int, attempt: int, offset: int, limit: int) -> tuple[bytes, int]:
        """:func:`reader.read` on an attempt's log; `(b"", offset)` where it has none yet."""
        with self._opened(job, run, attempt) as fd:
            return (b"", offset) if fd is None else reader.read(fd, offset, limit)

    def start_of_tail(self, job: str, run: int, attempt: int, lines: int) -> int:
        """:func:`reader.start_of_tail` on an attempt's log; 0 where it has none yet."""
        with self._opened(job, run, attempt) as fd:
            return 0 if fd is None else reader.start_of_tail(fd, lines)

    def start_of_time(self, job: str, run: int, attempt: int, ms: int) -> int:
        """:func:`reader.start_of_time` on an attempt's log; 0 where it has none yet."""
        with self._opened(job, run, attempt) as fd:
            return 0 if fd is None else reader.start_of_time(fd, ms)

    def missing_words(self, job: str, run: int, attempt: int, words: bytes, at: int) -> bytes:
        """:func:`reader.missing_words` on an attempt's log, of which there may be none."""
        with self._opened(job, run, attempt) as fd:
            return reader.missing_words(fd, words, at)

    @contextmanager
    def _opened(self, job: str, run: int, attempt: int) -> Iterator[int | None]:
        _check(job)
        try:
            folder = os.open(job, _DIRECTORY, dir_fd=self._root)
        except FileNotFoundError:
            yield None
            return
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_name(run, attempt), flags, dir_fd=folder)
        except FileNotFoundError:
            yield None
            return
        finally:
            os.close(folder)
        try:
            yield fd
        finally:
            os.close(fd)


def _name(run: int, attempt: int) -> str:
    return f"{run:d}.{attempt:d}.log"


def _check(job: str) -> None:
    # names are checked where jobs are registered; this is the last line before the file system
    if not job or job in (".", "..") or "/" in job or "\0" in job:
        raise ValueError(f"job {job!r:.80}: no name of a folder")

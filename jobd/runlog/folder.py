"""Where log files are: `<logs>/<job>/<run>.<attempt>.log`, opened without following a link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobd.runlog import reader
from jobd.runlog.writer import DEFAULT_LIMIT, LogWriter

_NAMED = re.compile(r"([1-9][0-9]{0,18})\.([1-9][0-9]{0,9})\.log")
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

    def exists(self, job: str, run: int, attempt: int) -> bool:
        """Whether an attempt has a log."""
        with self._opened(job, run, attempt) as fd:
            return fd is not None

    def missing_words(self, job: str, run: int, attempt: int, words: bytes, at: int) -> bytes:
        """:func:`reader.missing_words` on an attempt's log, of which there may be none."""
        with self._opened(job, run, attempt) as fd:
            return reader.missing_words(fd, words, at)

    def remove(self, job: str, run: int, attempt: int) -> None:
        """Remove an attempt's log, and the job's folder where that was the last; none is as good.

        Raises OSError.
        """
        _check(job)
        try:
            folder = os.open(job, _DIRECTORY, dir_fd=self._root)
        except FileNotFoundError:
            return
        try:
            os.unlink(_name(run, attempt), dir_fd=folder)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)
        try:
            os.rmdir(job, dir_fd=self._root)
        except OSError:
            pass  # others are in it, as nearly always

    def older(self, before: int) -> Iterator[tuple[str, int, int]]:
        """Job, run and attempt of the logs that were last written to before that (ms UTC).

        Raises OSError.
        """
        for job in sorted(os.listdir(self._root)):
            try:
                folder = os.open(job, _DIRECTORY, dir_fd=self._root)
            except OSError:
                continue  # gone meanwhile, or none of ours
            try:
                for name in os.listdir(folder):
                    told = _NAMED.fullmatch(name)
                    if told is not None and _written(folder, name) < before * 1_000_000:
                        yield job, int(told[1]), int(told[2])
            finally:
                os.close(folder)

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


def _written(folder: int, name: str) -> int:
    """When a file was last written to (ns UTC); for one that is gone, a time to come."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 1 << 63


def _name(run: int, attempt: int) -> str:
    return f"{run:d}.{attempt:d}.log"


def _check(job: str) -> None:
    # names are checked where jobs are registered; this is the last line before the file system
    if not job or job in (".", "..") or "/" in job or "\0" in job:
        raise ValueError(f"job {job!r:.80}: no name of a folder")

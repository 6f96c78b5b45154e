"""What an attempt says by files, read from its folder: how far it is, and which runs it queues.

`job/progress` holds how far it is. Each file `job/queue/JOB/NAME` becomes a run of JOB, whose
payload it is; each file `job/queue/@TOPIC/NAME` notifies that topic. All of it lies where the
attempt writes, as root mostly: so links are not followed, what is no regular file with one name is
refused, sizes are bounded, and no name is used as a path but a job's or a topic's, which is checked
(DURABILITY, rulings). A complete file is first moved to where the attempt cannot reach it, under a
name that no other gets: by that it counts once, however often it is looked at.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from jobd.core.ontopic import check_topic
from jobd.core.spec import check_name
from jobd.daemon.sweep import remove_tree
from jobd.errors import InvalidError
from jobd.server.inside import clean
from jobd.server.listener import unix_socket

#: the name of an attempt's socket, in the folder `api`
SOCKET = "jobd.sock"
#: where files lie that were taken, beside what the attempt sees
TAKEN = "taken"
#: what the name of a topic's folder begins with, as no job's does
TOPIC = "@"
#: entries that are looked at in one look, and files that are taken in one
_LOOKED_AT, _TAKEN_AT_ONCE = 10_000, 256
#: bytes of the progress file that are read: its end
_TAIL = 4096
#: sentences on what was not taken that are kept for the attempt's log
_MOST_NOTES = 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d*)?\s*%?(?:\s+(.*)|)", re.DOTALL)


class Letter(NamedTuple):
    """A file that was taken: its name by now, which is its own for ever, and which job it is for,
    or behind TOPIC the topic that it notifies.

    `shown` is what it was called, as far as that is still known.
    """

    name: str
    job: str
    shown: str


class RejectedError(Exception):
    """A file is not what it may be; it never becomes a run."""


class Inbox:
    """The folder of one attempt. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: the last look: of each file that may still grow, what would show it
        self._seen: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._progress: tuple[int, int, int] | None = None
        self._shown: dict[str, str] = {}
        #: what was not taken, a sentence each
        self.notes: list[str] = []

    def listen(self) -> socket.socket:
        """The attempt's socket, made anew at its name. Raises OSError.

        By the folder's descriptor: a path has 107 bytes, and a state folder may lie deep. Whoever
        reaches it may ask: none but the attempt does, and it may be any user.
        """
        with _entered(None, self._path) as folder, _entered(folder, "api") as api:
            with suppress(FileNotFoundError):
                os.unlink(SOCKET, dir_fd=api)
            made = unix_socket()
            try:
                made.bind(f"/proc/self/fd/{api}/{SOCKET}")
                os.chmod(SOCKET, 0o666, dir_fd=api)
                made.listen(64)
            except OSError:
                made.close()
                raise
            return made

    # -- how far it is -----------------------------------------------------------------------

    def progress(self) -> tuple[int | None, str] | None:
        """Percent and message where the file says something new, else None."""
        try:
            with _entered(None, self._path) as folder, _entered(folder, "job") as job:
                found = os.stat("progress", dir_fd=job, follow_symlinks=False)
                mark = (found.st_ino, found.st_size, found.st_mtime_ns)
                if mark == self._progress or not stat.S_ISREG(found.st_mode):
                    return None
                self._progress = mark
                data = _tail(os.open("progress", _FILE, dir_fd=job))
        except OSError:
            return None  # it may do with its file what it likes
        lines = [clean(line) for line in data.decode("utf-8", "replace").split("\n")]
        return parse_progress(next((line for line in reversed(lines) if line), ""))

    # -- what it queues ----------------------------------------------------------------------

    def take(self, final: bool) -> list[Letter]:
        """Files that are taken and not done with, in the order in which they were written.

        A file is taken when it has stayed the same from one look to the next; with `final`, as
        nobody writes any more, all that are there.
        """
        try:
            with _entered(None, self._path) as folder, _entered(folder, TAKEN) as taken:
                with (
                    suppress(OSError),
                    _entered(folder, "job") as job,
                    _entered(job, "queue") as queue,
                ):
                    self._take_new(queue, taken, final)
                names = sorted(os.listdir(taken))[:_TAKEN_AT_ONCE]
        except OSError:
            return []
        letters = [(name, name.partition(".")[2]) for name in names]
        return [Letter(name, job, self._shown.get(name, job)) for name, job in letters]

    def _take_new(self, queue: int, taken: int, final: bool) -> None:
        seen: dict[tuple[str, str], tuple[int, int, int]] = {}
        ready: list[tuple[int, str, str]] = []
        for job in self._jobs(queue):
            with suppress(OSError), _entered(queue, job) as folder:
                for name, found in _files(folder, _LOOKED_AT - len(seen)):
                    mark = (found.st_ino, found.st_size, found.st_mtime_ns)
                    if not stat.S_ISREG(found.st_mode):
                        self.note(job, name, "is no regular file")
                    elif final or self._seen.get((job, name)) == mark:
                        ready.append((found.st_mtime_ns, job, name))
                    else:
                        seen[job, name] = mark
        self._seen = seen
        for _, job, name in sorted(ready)[:_TAKEN_AT_ONCE]:
            self._move(queue, taken, job, name)

    def _jobs(self, queue: int) -> list[str]:
        with os.scandir(queue) as entries:
            found = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in islice(entries, _LOOKED_AT)
            ]
        return sorted(name for name, is_folder in found if self._is_job(name, is_folder))

    def _is_job(self, name: str, is_folder: bool) -> bool:
        if name.startswith("."):
            return False
        try:
            if name.startswith(TOPIC):
                check_topic(name.removeprefix(TOPIC))
            else:
                check_name(name)
        except InvalidError:
            is_folder = False
        if not is_folder:
            self.note(name, "", "is no folder of a job or @TOPIC: write to queue/JOB/NAME")
        return is_folder

    def _move(self, queue: int, taken: int, job: str, name: str) -> None:
        own = f"{time.time_ns():016x}{os.urandom(4).hex()}.{job}"
        try:
            with _entered(queue, job) as folder:
                os.rename(name, own, src_dir_fd=folder, dst_dir_fd=taken)
        except FileNotFoundError:
            return
        except OSError as error:
            self.note(job, name, f"cannot be taken: {error.strerror}")
            return
        self._shown[own] = f"{job}/{name}"

    def read(self, letter: Letter, limit: int) -> bytes:
        """The bytes of a file that was taken. Raises RejectedError."""
        try:
            with _entered(None, self._path) as folder, _entered(folder, TAKEN) as taken:
                # looked at first: opening a device or a pipe may do something
                found = os.stat(letter.name, dir_fd=taken, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise RejectedError("is no regular file")
                if found.st_nlink != 1:
                    raise RejectedError("has other names (hard links)")
                with open(os.open(letter.name, _FILE, dir_fd=taken), "rb") as file:
                    data = file.read(limit + 1) if found.st_size <= limit else b""
        except OSError as error:
            raise RejectedError(f"cannot be read: {error.strerror}") from error
        if found.st_size > limit or len(data) > limit:
            raise RejectedError(
                f"{max(found.st_size, len(data))} bytes: {limit} at most here (maxima.payload)"
            )
        return data

    def done(self, letter: Letter) -> None:
        """Let go of a file: its run is on disk, or it never becomes one."""
        self._shown.pop(letter.name, None)
        with (
            suppress(OSError),
            _entered(None, self._path) as folder,
            _entered(folder, TAKEN) as taken,
        ):
            remove_tree(taken, letter.name)

    def note(self, job: str, name: str, why: str) -> None:
        """Keep for the attempt's log why a file was not taken: each once, and not without end."""
        text = f"queue/{job!a:.70}{'/' if name else ''}{name!a:.90}".replace("'", "")
        self.say(f"{text}: {why}")

    def say(self, text: str) -> None:
        """Keep a sentence for the attempt's log."""
        if text not in self.notes and len(self.notes) < _MOST_NOTES:
            self.notes.append(text)


def parse_progress(line: str) -> tuple[int | None, str] | None:
    """`40`, `40 %`, `40 half of it` or just words; None for nothing."""
    line = line.strip()
    if not line:
        return None
    found = _PERCENT.fullmatch(line)
    if found is None or int(found[1]) > 100:
        return None, line
    return int(found[1]), found[2] or ""


def _files(folder: int, most: int) -> Iterator[tuple[str, os.stat_result]]:
    """What may be taken of a folder: not what begins with a dot, or ends in `.tmp`."""
    with os.scandir(folder) as entries:
        for entry in islice(entries, max(0, most)):
            if entry.name.startswith(".") or entry.name.endswith(".tmp"):
                continue
            with suppress(FileNotFoundError):
                yield entry.name, entry.stat(follow_symlinks=False)


def _tail(fd: int) -> bytes:
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return b""
        return os.pread(fd, _TAIL, max(0, found.st_size - _TAIL))
    finally:
        os.close(fd)


@contextmanager
def _entered(folder: int | None, name: str | Path) -> Iterator[int]:
    fd = os.open(name, _DIRECTORY, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)

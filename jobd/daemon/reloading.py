"""A new configuration while the daemon runs: taken whole, or the old one stays (INTERFACE).

Files are read by a thread beside the loop; what they say is taken in the loop, in one pass.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from jobd.core.commands import FOLDER, ApplyJobs
from jobd.core.jobfile import JobFile
from jobd.daemon.config import Config
from jobd.daemon.sdnotify import notify
from jobd.daemon.settings import Settings
from jobd.errors import JobdError

_log = logging.getLogger(__name__)

#: what only a start can change: engines and sockets are made once
_AT_START = (
    "engine",
    "engine_socket",
    "docker_config",
    "engine_request",
    "engine_start",
    "process",
    "socket_mode",
    "socket_group",
)


class Reloader:
    """A thread that reads the configuration when asked. `take` is called with what it read, or
    with the error; in this thread."""

    def __init__(
        self,
        read: Callable[[], Settings],
        take: Callable[[Settings | JobdError], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._read = read
        self._take = take
        self._fatal = fatal
        self._asked = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Have the files read. Two that ask while one reading is due get that one."""
        self._asked.set()

    def close(self) -> None:
        """End the thread after what it is at."""
        self._closing = True
        self._asked.set()
        self._thread.join(2)

    def _run(self) -> None:
        try:
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._closing:
                    return
                notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._take(self._try())
        except BaseException as error:
            self._fatal(error)
            raise

    def _try(self) -> Settings | JobdError:
        try:
            return self._read()
        except JobdError as error:
            return error


def apply_command(jobs: Sequence[JobFile]) -> ApplyJobs:
    """What the core is told of the daemon's own job files: they are all there are of their kind."""
    return ApplyJobs(
        [(job.spec, FOLDER + PurePath(job.file).name) for job in jobs],
        prune=FOLDER,
        keep_live=True,
    )


def told(rows: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """What applying the job files did: one clause, and a sentence for each job that was kept."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["action"]] = counts.get(row["action"], 0) + 1
    done = ", ".join(f"{number} {word}" for word, number in counts.items() if word != "kept")
    kept = [
        f"{row['text']}; its file is gone, so the next reload without live runs removes it"
        for row in rows
        if row["action"] == "kept"
    ]
    return f"jobs of {FOLDER} {done or 'none'}", kept


def not_taken(old: Config, new: Config) -> list[str]:
    """The settings that differ and that only a start can change."""
    return [
        field.name
        for field in fields(Config)
        if field.name in _AT_START and getattr(old, field.name) != getattr(new, field.name)
    ]


def refusal(error: JobdError) -> list[str]:
    """Every mistake of a configuration that was not taken, a line each."""
    lines = error.details.get("mistakes")
    return [str(line) for line in lines] if isinstance(lines, list) else [str(error)]

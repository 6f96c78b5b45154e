"""A real daemon that is struck while it runs: by strace at a system call, by a limit, by the disk.

`strace --inject` makes a call fail, be short, late or the last one. It is attached to the daemon's
own thread alone, once that is ready, so that a test says which of its calls it means.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.errors import JobdError
from tests.support.fakehost import ENVIRONMENT, PATIENCE, SMALL, FakeHost


class StruckHost(FakeHost):
    """As :class:`FakeHost`; its words are kept, its end is awaited, strace may stand before it."""

    def __init__(self, home: Path, log: Path | None = None) -> None:
        """`log` is a file for its words, which must not be on a disk that is struck."""
        super().__init__(home)
        self.log = log or home.with_suffix(".log")

    def start(self, *before: str, **environment: str) -> StruckHost:
        """Returns once it is ready; `before` are words that run it, as `strace ...`."""
        self.begin(*before, **environment)
        assert self._process is not None
        assert self._process.stdout is not None
        assert b"ready" in self._process.stdout.readline(), self.said()
        return self

    def begin(self, *before: str, **environment: str) -> None:
        """Starts it, and does not wait."""
        words = [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", "fake"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*before, *words],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**ENVIRONMENT, **environment},
            )

    def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        process = self._process
        assert process is not None
        status = process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
        return status

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self.ended()

    def said(self) -> str:
        """What it wrote to stderr, over all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def job(self, name: str = "job", **more: Any) -> None:
        """A job whose runs stay where they are."""
        with self.client() as client:
            client.register({"name": name, "image": "img", "command": ["exit=0"], **SMALL, **more})
            client.pause(name)

    def payloads(self) -> list[bytes]:
        """Those of all runs, by their ids."""
        with self.client() as client:
            ids = sorted(run["id"] for run in client.runs())
            return [client.payload(id_) for id_ in ids]

    def segment(self) -> Path:
        """The file of the queue that is being written."""
        return max((self.home / "state").glob("seg-*.log"))

    @contextmanager
    def struck(self, call: str, how: str, file: Path | None = None) -> Iterator[Strike]:
        """Have `call` of the daemon's loop on `file` (the queue's, by default) go as `how` says."""
        strike = Strike(self.pid, call, how, file or self.segment(), self.home.parent)
        try:
            yield strike
        finally:
            strike.close()


class Strike:
    """One strace at work."""

    def __init__(self, pid: int, call: str, how: str, file: Path, folder: Path) -> None:
        self._log = folder / f"strace.{len(list(folder.glob('strace.*')))}"
        words = ["strace", "-P", str(file), "-o", str(self._log), "-e", f"inject={call}:{how}"]
        self._process = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        assert b"attached" in said, said
        # what it says later must not fill the pipe
        self._reader = threading.Thread(target=self._process.stderr.read)
        self._reader.start()

    def calls(self, name: str) -> list[str]:
        """The calls of that name on the file, one a line, as far as they have been noted."""
        text = self._log.read_text(errors="replace")
        return re.findall(rf"^{name}\(.*$", text, re.MULTILINE)

    def close(self) -> None:
        """Let go; the daemon goes on."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def need_strace() -> None:
    """Skips loudly where nobody can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("NOT TESTED on this host: strace is not installed")
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED on this host: strace may not trace: {done.stderr!r}")


class Asking(threading.Thread):
    """Does one thing over a client of its own; `result` is its answer or its error."""

    def __init__(self, host: FakeHost, ask: Callable[[Client], object]) -> None:
        super().__init__()
        self._host, self._ask = host, ask
        self.result: object = None
        self.start()

    def run(self) -> None:
        """Ask once."""
        with self._host.client(request_timeout=60) as client:
            try:
                self.result = self._ask(client)
            except JobdError as error:
                self.result = error

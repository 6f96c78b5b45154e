"""One jobd on an engine that a test harms: jobs registered and queued by jobctl, and looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobctl.client import Client
from tests.support.harness import IMAGE, Daemon

#: seconds until something that has to come is given up on; never what is measured
PATIENCE = 60.0

Run = dict[str, Any]


class FaultRig(Daemon):
    """A daemon, started and ready, that loses patience with its engine after 2 seconds."""

    def __init__(
        self, path: Path, engine: str, *settings: str, kind: str = "docker", image: str = IMAGE
    ) -> None:
        self._engine = engine
        self._settings = settings
        self.image = image
        self._client: Client | None = None
        path.mkdir()
        super().__init__(path / "h", engine, kind=kind)
        self.reconfigure(*settings)
        self.start()
        self.ready()
        self.wait_reconciled()

    def reconfigure(self, *settings: str) -> None:
        """Other settings, from the next start on."""
        self.configure(
            f'engine.socket = "{self._engine}"',
            'engine.request_timeout = "2s"',
            'engine.start_timeout = "2s"',
            *settings,
        )

    def again(self) -> None:
        """kill -9, and the next one."""
        self.kill()
        self.start()
        self.ready()

    @property
    def api(self) -> Client:
        """A client that stays connected."""
        if self._client is None:
            self._client = Client(home=str(self.home))
        return self._client

    def close(self) -> None:
        """End the process whatever state it is in."""
        if self._client is not None:
            self._client.close()
        super().close()

    def register(self, name: str, program: str, *options: str, attempts: int = 1) -> None:
        """A job of a shell's program; it says when it begins."""
        common = ["--network", "none", "--memory", "32M", "--cpus", "0.1"]
        retry = ["--attempts", str(attempts), "--retry-delay", "200ms"]
        self.ctl(
            *["register", "--name", name, *common, *retry, *options],
            *[self.image, "sh", "-c", f"echo begin $ATTEMPT; {program}"],
        )

    def queue(self, name: str, *options: str) -> int:
        """Queue a run; its id."""
        return int(self.ctl("queue", name, *options).stdout)

    def run(self, number: int) -> Run:
        """All about a run."""
        found: Run = self.api.show(number)
        return found

    def until(self, number: int, what: Callable[[Run], object], patience: float = PATIENCE) -> Run:
        """The run, once `what` is true of it."""
        deadline = time.monotonic() + patience
        while True:
            run = self.run(number)
            if what(run):
                return run
            assert self.alive(), f"jobd ended by itself:\n{self.last_words()}"
            assert time.monotonic() < deadline, f"it does not come to that: {run}"
            time.sleep(0.05)

    def until_status(self, number: int, *words: str) -> Run:
        """The run, once its status is one of `words`."""
        return self.until(number, lambda run: run["status"] in words)

    def begun(self, number: int) -> Run:
        """The run, once its program has said so."""
        self.until_status(number, "running")
        deadline = time.monotonic() + PATIENCE
        while "begin" not in self.text(number):
            assert time.monotonic() < deadline, f"run {number} says nothing"
            time.sleep(0.05)
        return self.run(number)

    def ended(self, number: int) -> Run:
        """The run, once nothing more happens to it: final or held."""
        return self.until(number, lambda run: run["finished_at"] or run["status"] == "held")

    def outcomes(self, number: int) -> list[tuple[str, int | None]]:
        """How each attempt ended."""
        return [(one["outcome"], one["exit_code"]) for one in self.run(number)["attempts"]]

    def text(self, number: int, *options: str) -> str:
        """What `jobctl logs` prints."""
        return self.ctl("logs", str(number), *options).stdout

    def notes(self, number: int, attempt: int = 1) -> str:
        """The log file as it is, with jobd's own notes."""
        (found,) = self.home.glob(f"log/*/{number}.{attempt}.log")
        return found.read_text(errors="replace")

    def wait_reconciled(self) -> None:
        """Wait until runs may start."""
        deadline = time.monotonic() + PATIENCE
        while not self.api.status()["engine"]["reachable"]:
            assert time.monotonic() < deadline, f"engine not reached:\n{self.last_words()}"
            time.sleep(0.05)

    def container(self, number: int, attempt: int = 1) -> str:
        """The name of an attempt's container."""
        return f"jobd-{self.store[:8]}-{number}-{attempt}"

    @property
    def store(self) -> str:
        """The queue's uuid."""
        return str(self.api.status()["store"])

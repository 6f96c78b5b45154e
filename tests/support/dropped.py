"""A job of a test and the folder that its files are dropped into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from jobctl.client import Client
from tests.support.fakehost import SMALL, FakeHost
from tests.support.processes import open_folder
from tests.support.waiting import until

NUMBERS = count(1)


@contextmanager
def dropping_host() -> Iterator[FakeHost]:
    """A daemon in a folder that every user can get to; payloads above 64 KiB are large to it."""
    with open_folder() as path:
        home = path / "h"
        home.mkdir(mode=0o711)
        (home / "jobd.toml").write_text('[maxima]\npayload = "64K"\n')
        one = FakeHost(home).start()
        yield one
        one.end()


class Folder:
    """A job and its folder."""

    def __init__(self, host: FakeHost, client: Client, **more: Any) -> None:
        self.host, self.client = host, client
        self.name = f"job-{next(NUMBERS)}"
        command = more.pop("command", ["payload"])
        client.register({"name": self.name, "image": "img", "command": command, **SMALL, **more})
        self.path = host.home / "spool" / self.name

    def drop(self, name: str | bytes, data: bytes = b"data") -> None:
        """Move a file in."""
        self.prepare(data)
        self.put(name)

    def prepare(self, data: bytes) -> Path:
        made = self.host.home / "outside"
        made.write_bytes(data)
        return made

    def put(self, name: str | bytes) -> None:
        os.rename(
            self.host.home / "outside", os.path.join(os.fsencode(self.path), os.fsencode(name))
        )

    def runs(self) -> list[dict[str, Any]]:
        """Its runs, the oldest first."""
        return sorted(self.client.runs(job=self.name, limit=1000), key=lambda run: run["id"])

    def ended(self, number: int) -> list[dict[str, Any]]:
        """Its runs, once there are so many, and all of them are over and told."""

        def look() -> Any:
            runs = self.runs()
            over = len(runs) >= number and all(run["finished_at"] for run in runs)
            return over and not self.claimed() and runs

        runs: list[dict[str, Any]] = until(look)
        until(lambda: len(self.names("done")) + len(self.errors()) >= number)
        assert len(runs) == number
        return runs

    def names(self, sub: str = "") -> set[bytes]:
        found = os.listdir(os.fsencode(self.path / sub))
        return {each for each in found if not each.startswith(b".")} - {
            b"done",
            b"failed",
            b"rejected",
        }

    def errors(self) -> set[bytes]:
        return {name for name in self.names("failed") if name.endswith(b".error")}

    def claimed(self) -> list[str]:
        return os.listdir(self.path / ".claimed")

    def reason(self, name: str) -> str:
        """Why the file was refused, once it was."""
        path = self.path / "rejected" / f"{name}.reason"
        until(path.exists)
        until(lambda: not self.claimed())
        return path.read_text()

    def settled(self, run: int) -> None:
        """Wait until it is on record that the run's end was told."""
        until(
            lambda: any(
                event["event"] == "drop.settled" and event["run"] == run
                for event in self.client.events()
            )
        )

"""What every fault test starts from: small real file systems, a daemon on one, clean afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.process_daemon import ProcessDaemon
from tests.support.processes import open_folder
from tests.support.small_disk import SmallDisk, mounted, why_not
from tests.support.struck import StruckHost

MakeDisk = Callable[..., SmallDisk]
MakeDaemon = Callable[..., ProcessDaemon]
MakeHost = Callable[[Path], StruckHost]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user can get to, and short enough for a socket's path."""
    with open_folder() as path:
        yield path


@pytest.fixture
def make_disk(folder: Path) -> Iterator[MakeDisk]:
    """Makes small disks, as :class:`SmallDisk` says; all are unmounted at the end.

    Skips where this host has none; the closing lines of pytest say so.
    """
    with ExitStack() as stack:

        def make(kind: str, size: int, inodes: int | None = None, **more: Any) -> SmallDisk:
            reason = why_not(kind)
            if reason is not None:
                pytest.skip(f"NOT TESTED on this host, {kind}: {reason}")
            into = folder / f"d{len(list(folder.iterdir()))}"
            into.mkdir(mode=0o755)
            return stack.enter_context(mounted(into, kind, size, inodes, **more))

        yield make


@pytest.fixture
def make_daemon(folder: Path, make_disk: MakeDisk) -> Iterator[MakeDaemon]:
    """Makes daemons with process attempts: `make_daemon(home, *settings)`, not started yet.

    Asks for `make_disk` so that nothing of a daemon has files open when the disks are unmounted.
    """
    daemons: list[ProcessDaemon] = []

    def make(home: Path, *settings: str) -> ProcessDaemon:
        witness = folder / f"w{len(daemons)}"
        witness.mkdir(mode=0o755)
        daemon = ProcessDaemon(home, *settings, witness=witness)
        daemons.append(daemon)
        return daemon

    yield make
    for daemon in daemons:
        daemon.close()
        daemon.end_attempts()


@pytest.fixture
def make_host(folder: Path, make_disk: MakeDisk) -> Iterator[MakeHost]:
    """Makes daemons with the fake engine: `make_host(home)`, not started yet; all are ended."""
    hosts: list[StruckHost] = []

    def make(home: Path) -> StruckHost:
        hosts.append(StruckHost(home, folder / f"l{len(hosts)}"))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make_host: MakeHost, folder: Path) -> StruckHost:
    """One that runs, with one run on disk."""
    made = make_host(folder / "h")
    made.start()
    made.job()
    with made.client() as client:
        client.queue("job", b"first")
    return made

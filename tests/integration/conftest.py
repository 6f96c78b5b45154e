"""A daemon with the fake engine for all tests of a file, which restart it at will."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from jobctl.client import Client
from tests.support.dropped import Folder
from tests.support.fakehost import SMALL, FakeHost

NUMBERS = count(1)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """One daemon for the whole file; each test has jobs of its own."""
    one = FakeHost(tmp_path_factory.mktemp("h") / "home").start()
    yield one
    one.end()


@pytest.fixture
def client(host: FakeHost) -> Iterator[Client]:
    with host.client() as one:
        yield one


@pytest.fixture
def job(client: Client) -> str:
    """A paused job of the test's own: what is queued stays so."""
    name = f"job-{next(NUMBERS)}"
    client.register({"name": name, "image": "img", "command": ["payload"], **SMALL})
    client.pause(name)
    return name


@pytest.fixture
def folder(host: FakeHost, client: Client) -> Folder:
    """A job of the test's own and the folder that its files are dropped into."""
    return Folder(host, client)

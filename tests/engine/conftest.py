"""A real engine for every test here, and orders for it. No engine is a failure, not a skip."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from jobd.engine.base import Order
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import IMAGE, contrib_engine, make_order

MakeOrder = Callable[..., Order]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need an engine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The socket of the engine named by JOBD_TEST_DOCKER, or of one started for the session."""
    named = os.environ.get("JOBD_TEST_DOCKER")
    if named:
        folder = Path(named.removeprefix("unix://")).parent
        with_image = _has_image(named)
        if not with_image:
            contrib_engine("image", folder)
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix="jobd-engine-"))
    try:
        contrib_engine("start", folder)
        contrib_engine("image", folder)
        yield f"unix://{folder}/docker.sock"
    finally:
        contrib_engine("stop", folder)


def _has_image(url: str) -> bool:
    client = docker.APIClient(url, version="auto", timeout=10)
    try:
        return bool(client.images(IMAGE))
    finally:
        client.close()


@pytest.fixture
def sdk(url: str) -> Iterator[docker.APIClient]:
    """The SDK's own client, to look at the engine from the side."""
    client = docker.APIClient(url, version="auto", timeout=30)
    yield client
    client.close()


@pytest.fixture
def engine(url: str) -> Iterator[DockerEngine]:
    """A connected engine with a store of its own; what the test left is removed."""
    made = DockerEngine(url, uuid.uuid4().bytes)
    made.connect()
    yield made
    for found in made.found():
        made.discard(found.ref)
    made.close()


@pytest.fixture
def order(engine: DockerEngine, tmp_path: Path) -> Iterator[MakeOrder]:
    """Makes orders of this test's store: `order("sh", "-c", "...", memory=...)`."""
    made: list[Order] = []

    def make(*command: str, **changes: Any) -> Order:
        made.append(make_order(engine, tmp_path, command, **changes))
        return made[-1]

    yield make
    for one in made:
        # also what a test had removed by hand: its parent cgroup is still there
        engine.discard(one.ref)

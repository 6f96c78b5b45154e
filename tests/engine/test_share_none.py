"""`share_none`: one network namespace for attempts of network `none`, whatever becomes of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from jobd.engine.docker import DockerEngine
from jobd.engine.holder import archive, body
from tests.support.engine_support import ended, make_order, run, silent

SCRIPT = ("readlink", "/proc/self/ns/net")


@pytest.fixture
def store() -> bytes:
    return uuid.uuid4().bytes


@pytest.fixture
def shared(url: str, store: bytes) -> Iterator[DockerEngine]:
    """An engine that shares; nothing of it is left behind."""
    made = DockerEngine(url, store, share_none=True)
    made.connect()
    yield made
    for found in made.found():
        made.discard(found.ref)
    made.close()


def namespace(engine: DockerEngine, folder: Path, **changes: object) -> str:
    """The network namespace that an attempt finds itself in."""
    order = make_order(engine, folder, SCRIPT, **changes)
    _, lines = run(engine, order)
    engine.discard(order.ref)
    return lines[0].data.decode()


def holders(sdk: docker.APIClient, store: bytes) -> list[dict[str, str]]:
    return list(sdk.containers(all=True, filters={"label": f"jobd.holder={store.hex()}"}))


def at_once(engine: DockerEngine, sdk: docker.APIClient, folder: Path) -> list[str]:
    """The network namespaces of two attempts that run side by side.

    Of two after each other the second may get the first one's number again.
    """
    orders = [make_order(engine, folder, ("sleep", "30")) for _ in range(2)]
    for order in orders:
        engine.start(order, silent)
    pids = [sdk.inspect_container(order.ref)["State"]["Pid"] for order in orders]
    found = [os.readlink(f"/proc/{pid}/ns/net") for pid in pids]
    for order in orders:
        engine.discard(order.ref)
    return found


def test_attempts_share_and_others_do_not(
    shared: DockerEngine, url: str, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    one, other = at_once(shared, sdk, tmp_path)
    assert one == other != os.readlink("/proc/self/ns/net")
    assert len(holders(sdk, store)) == 1
    plain = DockerEngine(url, uuid.uuid4().bytes)
    plain.connect()
    try:
        assert len({one, *at_once(plain, sdk, tmp_path)}) == 3
    finally:
        plain.close()


def test_another_network_is_as_it_was(shared: DockerEngine, tmp_path: Path) -> None:
    assert namespace(shared, tmp_path, network="host") == os.readlink("/proc/self/ns/net")


def test_it_is_found_again_after_a_restart(
    shared: DockerEngine, url: str, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    order = make_order(shared, tmp_path, ("sleep", "30"))
    shared.start(order, silent)
    shared.close()  # an attempt goes on: so does what it shares
    (before,) = holders(sdk, store)
    again = DockerEngine(url, store, share_none=True)
    again.connect()
    namespace(again, tmp_path)
    assert [each["Id"] for each in holders(sdk, store)] == [before["Id"]]
    again.discard(order.ref)
    again.close()
    assert not holders(sdk, store)


@pytest.mark.parametrize("how", ["killed", "removed"])
def test_it_is_made_anew_where_it_is_gone(
    shared: DockerEngine, store: bytes, sdk: docker.APIClient, tmp_path: Path, how: str
) -> None:
    order = make_order(shared, tmp_path, ("sleep", "30"))
    shared.start(order, silent)
    (before,) = holders(sdk, store)
    if how == "killed":
        sdk.kill(before["Id"])
        sdk.wait(before["Id"])
    else:
        sdk.remove_container(before["Id"], force=True)
    # those that had joined are left as they are
    assert sdk.inspect_container(order.ref)["State"]["Running"]
    assert namespace(shared, tmp_path)
    (after,) = holders(sdk, store)
    assert after["Id"] != before["Id"]
    shared.discard(order.ref)


def test_one_made_for_a_holder_that_is_gone_is_made_anew(
    shared: DockerEngine, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    namespace(shared, tmp_path)
    (before,) = holders(sdk, store)
    order = make_order(shared, tmp_path, SCRIPT)
    # as a daemon that was killed between create and start leaves it
    sdk.create_container_from_config(
        {
            "Image": order.image,
            "Cmd": list(SCRIPT),
            "Labels": dict(order.labels),
            "HostConfig": {"NetworkMode": f"container:{before['Id']}"},
        },
        order.ref,
    )
    sdk.remove_container(before["Id"], force=True)
    shared.start(order, silent)
    assert ended(shared, order.ref).exit_code == 0
    (after,) = holders(sdk, store)
    mode = sdk.inspect_container(order.ref)["HostConfig"]["NetworkMode"]
    assert mode == f"container:{after['Id']}"


def test_what_is_left_is_removed_where_it_is_not_wanted_any_more(
    shared: DockerEngine, url: str, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    namespace(shared, tmp_path)
    assert holders(sdk, store)
    plain = DockerEngine(url, store)
    plain.connect()
    plain.close()
    assert not holders(sdk, store)


def test_a_name_that_is_somebody_elses_leaves_each_its_own(
    shared: DockerEngine, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    name = f"jobd-{store.hex()[:8]}-holder"
    other = sdk.create_container("jobd-test:busybox", "true", name=name)["Id"]
    try:
        one, another = at_once(shared, sdk, tmp_path)
        assert one != another
        assert sdk.inspect_container(name)["Id"] == other
    finally:
        sdk.remove_container(other)


def test_the_holder_may_do_nothing(
    shared: DockerEngine, store: bytes, sdk: docker.APIClient, tmp_path: Path
) -> None:
    namespace(shared, tmp_path)
    (row,) = holders(sdk, store)
    found = sdk.inspect_container(row["Id"])
    assert found["State"]["Running"]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["Config"]["User"] == "65534:65534"
    assert not found["Mounts"]


def test_a_processor_that_is_not_known_has_no_program() -> None:
    assert archive("s390x") is None
    assert archive("amd64") == archive("x86_64")
    assert body({})["HostConfig"]

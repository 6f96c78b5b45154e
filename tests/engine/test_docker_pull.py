"""Pulls from a real registry on this host: policies, progress, and each way to fail."""

from __future__ import annotations

import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobd.daemon.imagegc import ImageCollector, Keep
from jobd.daemon.imagetable import ImageTable
from jobd.engine.base import PullFailedError, StartRefusedError
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import IMAGE, ended, silent, text
from tests.support.registry import (
    free_port,
    image_with,
    push,
    registry_at,
    write_credentials,
    write_helper,
)


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry_at(folder, free_port()) as address:
        yield address


@pytest.fixture
def publish(sdk, registry):
    """Pushes the test image as `name`, with a layer of its own content; the host forgets it."""
    made = []

    def publish(name: str, content: bytes | None = None) -> str:
        reference = f"{registry}/{name}"
        push(sdk, reference, IMAGE if content is None else image_with(sdk, content))
        made.append(reference)
        return reference

    yield publish
    for reference in made:
        with contextlib.suppress(Exception):
            sdk.remove_image(reference, force=True)


def test_missing_is_pulled_once_and_told(engine, order, publish):
    reference = publish("job:1")
    said: list[str] = []
    one = order("echo", "pulled", image=reference)
    started = engine.start(one, said.append)
    assert started.pull_ms > 0
    assert said[0] == f"pulling {reference}"
    lines = [line for batch in engine.output(one.ref, 0) for line in batch]
    assert text(lines) == "pulled\n"
    said.clear()
    again = engine.start(order("true", image=reference), said.append)
    assert (again.pull_ms, said) == (0, [])
    assert again.image_id == started.image_id


def test_many_who_wait_are_one_pull(engine, order, publish, sdk):
    reference = publish("job:many")
    orders = [order("true", image=reference) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda one: engine.start(one, silent), orders))
    assert len({one.image_id for one in started}) == 1
    for one in orders:
        ended(engine, one.ref)


def test_by_digest(engine, order, publish, sdk):
    reference = publish("job:digest")
    digest = sdk.inspect_distribution(reference)["Descriptor"]["digest"]
    by_digest = reference.rpartition(":")[0] + "@" + digest
    one = order("echo", "digest", image=by_digest)
    assert engine.start(one, silent).pull_ms > 0
    lines = [line for batch in engine.output(one.ref, 0) for line in batch]
    assert text(lines) == "digest\n"
    engine.discard(one.ref)
    sdk.remove_image(by_digest)


def test_always_asks_the_registry_each_time(engine, order, publish):
    reference = publish("job:always")
    for _ in range(2):
        assert engine.start(order("true", image=reference, pull="always"), silent).pull_ms > 0


@pytest.mark.parametrize("name", ["job:no-such-tag", "no-such-job:1"])
def test_what_the_registry_does_not_know_is_refused(engine, order, publish, registry, name):
    publish("job:1")
    with pytest.raises(StartRefusedError, match=f"{registry}/{name}.*check the name"):
        engine.start(order("true", image=f"{registry}/{name}"), silent)


def test_never_does_not_pull(engine, order, publish):
    reference = publish("job:never")
    with pytest.raises(StartRefusedError, match="never"):
        engine.start(order("true", image=reference, pull="never"), silent)


def test_a_registry_that_is_gone_is_the_hosts_fault(engine, order):
    reference = f"127.0.0.1:{free_port()}/job:1"
    with pytest.raises(PullFailedError, match=f"{reference}.*connection refused.*tried again"):
        engine.start(order("true", image=reference), silent)
    assert engine.found() == []


def test_credentials_are_needed_and_read_anew(engine, order, sdk, url, tmp_path):
    folder, port = tmp_path / "registry", free_port()
    folder.mkdir()
    reference = f"127.0.0.1:{port}/job:1"
    with registry_at(folder, port):
        push(sdk, reference)
    config = tmp_path / "docker"
    config.mkdir()
    other = DockerEngine(url, bytes.fromhex(engine.store), docker_config=config)
    with registry_at(folder, port, auth=True):
        for password in (None, "wrong"):
            if password is not None:
                write_credentials(config, port, password)
            with pytest.raises(StartRefusedError, match=f"{reference}.*credentials"):
                other.start(order("true", image=reference), silent)
        write_credentials(config, port, "right")
        assert other.start(order("true", image=reference), silent).pull_ms > 0
    other.close()
    for found in engine.found():
        ended(engine, found.ref)
        engine.discard(found.ref)
    sdk.remove_image(reference)


@pytest.mark.filterwarnings("ignore:docker-credential-absent")
def test_a_helper_for_credentials_that_is_missing_is_told(order, url, engine, publish, tmp_path):
    reference = publish("job:helper")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": f"absent-{os.getpid()}"}))
    other = DockerEngine(url, bytes.fromhex(engine.store), docker_config=tmp_path)
    with pytest.raises(PullFailedError, match=r"absent-.*docker_config"):
        other.start(order("true", image=reference), silent)
    other.close()


def test_a_helper_gives_the_credentials_at_each_pull(
    order, url, engine, sdk, tmp_path, monkeypatch
):
    folder, port = tmp_path / "registry", free_port()
    folder.mkdir()
    reference = f"127.0.0.1:{port}/job:1"
    with registry_at(folder, port):
        push(sdk, reference)
    config = tmp_path / "docker"
    config.mkdir()
    write_helper(config, "jobd-test", port, "right")
    monkeypatch.setenv("PATH", f"{config}/bin:{os.environ['PATH']}")
    other = DockerEngine(url, bytes.fromhex(engine.store), docker_config=config)
    with registry_at(folder, port, auth=True):
        for _ in range(2):
            assert other.start(order("true", image=reference, pull="always"), silent).pull_ms > 0
    other.close()
    asked = (config / "bin" / "docker-credential-jobd-test.log").read_text().splitlines()
    assert len(asked) == 2
    assert all(line.startswith("get ") and str(port) in line for line in asked)
    for found in engine.found():
        ended(engine, found.ref)
        engine.discard(found.ref)
    sdk.remove_image(reference)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 2", "does not answer"),
        ("true", "gave no credentials"),
        ("echo garbage", "gave no credentials"),
        ("echo '{}'", "gave no credentials"),
        ("echo '[]'", "gave no credentials"),
        ("kill -9 $$", "no credentials"),
    ],
)
def test_a_helper_that_fails_is_told(
    order, url, engine, registry, tmp_path, monkeypatch, script, why
):
    monkeypatch.setattr("jobd.engine.docker.HELPER_S", 1.0)
    write_helper(tmp_path, "jobd-fails", int(registry.rpartition(":")[2]), "x")
    (tmp_path / "bin" / "docker-credential-jobd-fails").write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    other = DockerEngine(url, bytes.fromhex(engine.store), docker_config=tmp_path)
    with pytest.raises(PullFailedError, match=why):
        other.start(order("true", image=f"{registry}/helper:1"), silent)
    other.close()


def test_an_image_that_was_removed_between_two_attempts(engine, order, publish, sdk):
    """Pulled again by the same name; where that is not to be, the message says so."""
    reference = publish("job:between")
    first = order("true", image=reference)
    image_id = engine.start(first, silent).image_id
    ended(engine, first.ref)
    engine.discard(first.ref)
    sdk.remove_image(reference)
    if engine.images.image_id(image_id) is not None:
        # its content is that of the test image, which stays: only the name is gone
        assert engine.start(order("true", image="none:x", image_id=image_id), silent)
    gone = "sha256:" + "0" * 64
    again = engine.start(order("true", image=reference, image_id=gone), silent)
    assert again.pull_ms > 0
    with pytest.raises(StartRefusedError, match="never"):
        engine.start(order("true", image="x/y:1", image_id=gone, pull="never"), silent)


def test_collection_removes_what_was_pulled_once_nobody_uses_it(
    engine, order, publish, sdk, tmp_path
):
    # an image of its own: that of the other tests has other names on this host
    reference = publish("job:collected", content=b"collected")
    table = ImageTable(tmp_path / "images.json")
    engine.images.on_pull(lambda name, new, old: table.pulled(name, new, old, time.time() - 60))
    needed: set[str] = set()
    collector = ImageCollector(engine.images, table, Keep(age=30), lambda: needed)
    one = order("true", image=reference)
    image_id = engine.start(one, silent).image_id
    assert [row.name for row in table.rows()] == [reference]
    ended(engine, one.ref)
    assert collector.collect() == [], "its container is still there"
    engine.discard(one.ref)
    needed.add(reference)
    assert collector.collect() == []
    needed.clear()
    assert collector.collect() == [reference]
    assert engine.images.image_id(image_id) is None
    assert sdk.images(IMAGE), "an image that jobd did not pull stays"

"""Pulls from a real registry on this host: policies, progress, and each way to fail."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobd.engine.base import PullFailedError, StartRefusedError
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import IMAGE, ended, silent, text

# "right", by bcrypt at cost 5
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n"
CONFIG = """version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}/data
http:
  addr: 127.0.0.1:{port}
log:
  level: error
  accesslog:
    disabled: true
{auth}"""
AUTH = """auth:
  htpasswd:
    realm: test
    path: {folder}/htpasswd
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def registry_at(folder: Path, port: int, *, auth: bool = False):
    """Debian's docker-registry (package of that name) on 127.0.0.1, stopped at the end."""
    program = shutil.which("docker-registry")
    assert program, "no docker-registry; apt-get install docker-registry"
    (folder / "htpasswd").write_text(HTPASSWD)
    (folder / "config.yml").write_text(
        CONFIG.format(folder=folder, port=port, auth=AUTH.format(folder=folder) if auth else "")
    )
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        give_up = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, "the registry does not answer"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True


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

    def push(name: str) -> str:
        reference = f"{registry}/{name}"
        repository, _, tag = reference.rpartition(":")
        sdk.tag(IMAGE, repository, tag)
        for line in sdk.push(repository, tag=tag, stream=True, decode=True):
            assert "error" not in line, line
        sdk.remove_image(reference)
        made.append(reference)
        return reference

    yield push
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
        sdk.tag(IMAGE, f"127.0.0.1:{port}/job", "1")
        for line in sdk.push(f"127.0.0.1:{port}/job", tag="1", stream=True, decode=True):
            assert "error" not in line, line
        sdk.remove_image(reference)
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


def write_credentials(folder: Path, port: int, password: str) -> None:
    token = base64.b64encode(f"user:{password}".encode()).decode()
    auths = {"auths": {f"127.0.0.1:{port}": {"auth": token}}}
    (folder / "config.json").write_text(json.dumps(auths))


@pytest.mark.filterwarnings("ignore:docker-credential-absent")
def test_a_helper_for_credentials_that_is_missing_is_told(order, url, engine, publish, tmp_path):
    reference = publish("job:helper")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": f"absent-{os.getpid()}"}))
    other = DockerEngine(url, bytes.fromhex(engine.store), docker_config=tmp_path)
    with pytest.raises(PullFailedError, match=r"absent-.*docker_config"):
        other.start(order("true", image=reference), silent)
    other.close()

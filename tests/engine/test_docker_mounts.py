"""Mounts and devices of the host in a real container; what is not allowed is never started."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from jobd.core.policy import Rules
from jobd.engine.base import EngineTroubleError, Mount, StartRefusedError
from jobd.engine.docker import DockerEngine
from tests.engine.conftest import MakeOrder
from tests.support.engine_support import run, silent, text


def test_mounts_are_read_only_unless_they_are_not(
    engine: DockerEngine, order: MakeOrder, tmp_path: Path
) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    (tmp_path / "in" / "file").write_text("hello\n")
    mounts = (Mount(str(tmp_path / "in"), "/in"), Mount(str(tmp_path / "out"), "/out", False))
    script = "cat /in/file; echo x >/in/file || echo refused; echo y >/out/file && echo written"
    _, lines = run(engine, order("sh", "-c", script, mounts=mounts))
    assert "hello\n" in text(lines)
    assert "refused" in text(lines)
    assert "written" in text(lines)
    assert (tmp_path / "in" / "file").read_text() == "hello\n"
    assert (tmp_path / "out" / "file").read_text() == "y\n"


def test_a_device_is_there_and_no_other(engine: DockerEngine, order: MakeOrder) -> None:
    known = ("/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/null")
    device = next(path for path in known if Path(path).exists())
    script = f"test -c {device} && echo there; ls /dev | grep -c '^sd'"
    _, lines = run(engine, order("sh", "-c", script, devices=(device,)))
    assert text(lines).split() == ["there", "0"]


def test_shared_memory_and_limits_are_what_was_said(engine: DockerEngine, order: MakeOrder) -> None:
    script = "df -k /dev/shm | tail -n 1; ulimit -n; ulimit -Hn"
    one = order("sh", "-c", script, shm=7 << 20, ulimits=(("nofile", 321),))
    _, lines = run(engine, one)
    shm, *limits = text(lines).splitlines()
    assert shm.split()[1] == str(7 << 10)
    assert limits == ["321", "321"]


def test_a_host_without_gpus_that_says_it_has_some(engine: DockerEngine, order: MakeOrder) -> None:
    """There is no GPU here: what can be seen is that the engine understands the request."""
    one = order("true", gpus=(0,))
    with pytest.raises(EngineTroubleError, match="device driver"):
        engine.start(one, silent)
    engine.discard(one.ref)


def test_a_missing_source_is_the_jobs_fault(
    engine: DockerEngine, order: MakeOrder, tmp_path: Path
) -> None:
    one = order("true", mounts=(Mount(str(tmp_path / "nothing"), "/in"),))
    with pytest.raises(StartRefusedError):
        engine.start(one, silent)
    engine.discard(one.ref)
    assert not (tmp_path / "nothing").exists(), "the engine made no folder of root's"


def test_a_link_in_a_folders_place_is_never_started(
    engine: DockerEngine, order: MakeOrder, sdk: docker.APIClient, tmp_path: Path
) -> None:
    (tmp_path / "in").symlink_to("/etc")
    one = order("cat", "/in/passwd", mounts=(Mount(str(tmp_path / "in"), "/in"),))
    with pytest.raises(StartRefusedError, match="is a link by now"):
        engine.start(one, silent)
    for found in sdk.containers(all=True, filters={"name": one.ref}):
        assert found["State"] == "created"
    engine.discard(one.ref)


def test_the_lists_are_asked_again_at_the_last_door(
    engine: DockerEngine, order: MakeOrder, sdk: docker.APIClient, url: str
) -> None:
    rules = Rules(images=("other",))
    strict = DockerEngine(url, bytes.fromhex(engine.store), rules=lambda: rules)
    one = order("true")
    with pytest.raises(StartRefusedError, match=r"images\.allow"):
        strict.start(one, silent)
    strict.close()
    assert not sdk.containers(all=True, filters={"name": one.ref})

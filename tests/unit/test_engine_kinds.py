"""Which engine is spoken to, who it is, and what it is asked for otherwise."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from jobd.engine import dialects, listener, sockets
from jobd.engine.container import ForbiddenSettingError, _are_ulimits
from jobd.engine.usage import _remove


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "engine.socket"


def test_a_persons_own_socket_comes_first(tmp_path: Path, memory: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman/podman.sock").touch()
    assert sockets.find("podman", environ, 1000, memory) == f"unix://{tmp_path}/podman/podman.sock"
    memory.unlink()
    (tmp_path / "docker.sock").touch()
    assert sockets.find("auto", environ, 1000, memory) == f"unix://{tmp_path}/docker.sock"
    assert sockets.candidates("docker", environ, 0) == [sockets.DOCKER]


def test_the_choice_is_kept_while_its_socket_is_away(tmp_path: Path, memory: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "docker.sock").touch()
    chosen = sockets.find("auto", environ, 1000, memory)
    (tmp_path / "docker.sock").unlink()
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman/podman.sock").touch()
    assert sockets.find("auto", environ, 1000, memory) == chosen
    # another kind was asked for: that is a person's word
    assert sockets.find("podman", environ, 1000, memory) != chosen


def test_variables_go_before_what_is_found(memory: Path) -> None:
    assert sockets.find("auto", {"DOCKER_HOST": "tcp://h:1"}, 0, memory) is None
    there = {"CONTAINER_HOST": "unix:///x"}
    assert sockets.find("podman", there, 0, memory) == "unix:///x"
    assert sockets.find("docker", there, 0, memory) == f"unix://{sockets.DOCKER}"
    assert sockets.find("podman", {"CONTAINER_HOST": "ssh://h"}, 0, memory) == (
        f"unix://{sockets.PODMAN}"
    )


def test_who_listens_is_this_process(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        url = f"unix://{path}"
        began = listener.started_at(url)
        assert began is not None
        assert 0 < began <= time.time() * 1000
        assert listener.shares_pids(url)
        assert listener.is_there(url)
        files, _ = listener.limits(url)
        assert files is not None
        assert files > 0
    for away in (f"unix://{tmp_path}/none", "tcp://127.0.0.1:1"):
        assert not listener.is_there(away)
        assert listener.started_at(away) is None
        assert listener.limits(away) == (None, None)
        assert not listener.shares_pids(away)


def test_podman_is_told_by_its_first_component() -> None:
    assert dialects.is_podman({"Components": [{"Name": "Podman Engine"}]})
    assert not dialects.is_podman({"Components": [{"Name": "Engine"}]})
    assert not dialects.is_podman({})
    made = dialects.podman(4096, 100)
    assert made.settings.limits == (("nofile", 4096), ("nproc", 100))
    assert dialects.podman(None, None).settings.limits == ()


def test_a_remote_engine_says_what_does_not_work_there() -> None:
    info = {"LiveRestoreEnabled": True}
    (note,) = dialects.notes(dialects.DOCKER, info, True, "tcp://10.0.0.1:2375")
    assert "tcp://10.0.0.1:2375" in note
    assert "folders" in note
    assert dialects.notes(dialects.DOCKER, info, True, "unix:///x") == ()
    assert "live-restore" in dialects.notes(dialects.DOCKER, {}, True, "unix:///x")[0]
    assert dialects.notes(dialects.podman(None, None), {}, True, "unix:///x") == ()


CORE = {"Name": "core", "Soft": 0, "Hard": 0}
FILES = {"Name": "nofile", "Soft": 9, "Hard": 9}
PROCESSES = {"Name": "nproc", "Soft": 9, "Hard": 9}


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ([CORE], True),
        ([CORE, FILES, PROCESSES], True),
        ([], False),
        ([FILES, PROCESSES], False),
        ([CORE, FILES], True),
        ([CORE, PROCESSES, FILES], False),
        ([CORE, {**FILES, "Soft": 8}, PROCESSES], False),
        ([CORE, {**FILES, "Hard": 0, "Soft": 0}, PROCESSES], False),
        ([CORE, {**FILES, "Name": "memlock"}, PROCESSES], True),
        ([CORE, {**FILES, "Name": "cpu"}, PROCESSES], False),
        ([CORE, FILES, {**PROCESSES, "More": 1}], False),
        ("core", False),
    ],
)
def test_limits_that_may_be_set(limits: object, allowed: bool) -> None:
    assert _are_ulimits(limits) is allowed
    assert issubclass(ForbiddenSettingError, Exception)


def test_what_podman_leaves_in_a_cgroup_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "jobd-1-1-1"
    (folder / "conmon").mkdir(parents=True)
    _remove(folder, 0)
    assert not os.path.exists(folder)

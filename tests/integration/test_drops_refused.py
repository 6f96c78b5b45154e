"""Dropped files that are not what they seem: nothing is followed, believed or lost."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.client import Client
from tests.support.dropped import Folder, dropping_host
from tests.support.fakehost import FakeHost
from tests.support.waiting import until

ROOT = os.geteuid() == 0
NOBODY = 65534
needs_root = pytest.mark.skipif(not ROOT, reason="gives files to others")


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    with dropping_host() as one:
        yield one


@pytest.mark.parametrize(
    ("meta", "why"),
    [
        ("prioritty = 1", "'prioritty': unknown key; did you mean priority?"),
        ("priority = 5000", "priority: 5000"),
        ("priority =", "is not valid TOML"),
        ("labels = 3", "labels: expected a table"),
        ('delay = "1h"\nnot_before = 7', "one of them"),
    ],
)
def test_settings_that_are_wrong_refuse_the_file(folder: Folder, meta: str, why: str) -> None:
    (folder.path / "file.meta.toml").write_text(meta)
    folder.drop("file")
    assert why in folder.reason("file")
    assert folder.names("rejected") == {b"file", b"file.meta.toml", b"file.reason"}
    assert not folder.runs()


@needs_root
def test_a_file_of_roots_is_no_more_than_a_submitters(folder: Folder) -> None:
    (folder.path / "file.meta.toml").write_text("priority = 7")
    folder.drop("file")
    assert "does not let submitters set it (access.override)" in folder.reason("file")


@needs_root
def test_the_owner_is_who_asks(host: FakeHost, client: Client) -> None:
    closed = Folder(host, client, access={"submit": ["nobody"]})
    os.chown(closed.prepare(b"x"), NOBODY, NOBODY)
    closed.put("mine")
    run = closed.ended(1)[0]
    assert run["submitted_by"]["user"] == "nobody"
    os.chown(closed.prepare(b"x"), 12345, NOBODY)
    closed.put("theirs")
    assert "user 12345 may not queue runs of it (access.submit)" in closed.reason("theirs")
    # of two owners neither speaks for the other
    (closed.path / "mixed.meta.toml").write_text('labels = { a = "b" }')
    os.chown(closed.prepare(b"x"), NOBODY, NOBODY)
    closed.put("mixed")
    assert "belongs to another user" in closed.reason("mixed")


@needs_root
def test_others_may_put_files_in_and_see_or_take_none(folder: Folder) -> None:
    os.chmod(folder.host.home, 0o711)
    os.chmod(folder.host.home.parent, 0o711)
    os.chmod(folder.host.home.parent.parent, 0o711)
    os.chown(folder.path, 0, NOBODY)
    os.chmod(folder.path, 0o3730)
    (folder.path / "roots.tmp").write_text("x")

    def as_nobody(script: str) -> subprocess.CompletedProcess[bytes]:
        def become() -> None:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        return subprocess.run(
            ["sh", "-c", script], cwd="/", preexec_fn=become, capture_output=True, check=False
        )

    if as_nobody(f"test -x {folder.host.home}").returncode:
        pytest.skip("the folder of the tests is closed to others")
    assert as_nobody(f"echo hi >{folder.path}/theirs").returncode == 0
    for script in ("ls {}", "rm -f {}/roots.tmp", "ls {}/done", "mv {}/rejected {}/x"):
        assert as_nobody(script.format(folder.path, folder.path)).returncode != 0, script
    # who may put a file there need not be allowed to queue
    assert "may not queue" in folder.reason("theirs")


def test_what_is_no_plain_file_is_refused_unopened(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (folder.path / "link").symlink_to(secret)
    os.mkfifo(folder.path / "fifo")
    assert "is a symbolic link" in folder.reason("link")
    assert "is a FIFO" in folder.reason("fifo")
    os.link(secret, folder.path / "hard")
    assert "has 2 names" in folder.reason("hard")
    (folder.path / "folder").mkdir()
    assert "is a folder" in folder.reason("folder")
    if ROOT:
        os.mknod(folder.path / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        assert "is a device" in folder.reason("device")
    assert secret.read_text() == "s3cret"
    assert not folder.runs()


def test_a_second_name_that_goes_at_once_is_no_fault(folder: Folder) -> None:
    made = folder.prepare(b"linked")
    os.link(made, folder.path / "linked")
    made.unlink()
    folder.ended(1)


def test_names_may_be_any_bytes(folder: Folder) -> None:
    names = [b"not \xff utf-8", "ä ö".encode(), b"new\nline", b"x" * 255, b"100%41", b"\xff" * 255]
    for name in names:
        folder.drop(name, name)
    runs = folder.ended(len(names))
    assert {folder.client.payload(run["id"]) for run in runs} == set(names)
    told = folder.names("done")
    for name in names[:3] + names[4:5]:
        assert any(one.startswith(name + b".") for one in told), name


def test_a_folder_that_somebody_removed_is_made_anew(folder: Folder) -> None:
    subprocess.run(["rm", "-rf", folder.path], check=True)
    until(folder.path.exists)
    time.sleep(0)
    folder.drop("after")
    folder.ended(1)


def test_a_file_that_vanishes_is_no_fault(folder: Folder) -> None:
    for number in range(30):
        path = folder.path / f"gone-{number}"
        path.write_bytes(b"x")
        path.unlink()
    folder.drop("stays")
    until(lambda: any(run["trigger"]["name"] == "stays" for run in folder.runs()))
    assert folder.host.ctl("status").status == 0

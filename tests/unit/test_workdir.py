"""An attempt's folder: laid out whole or not, nothing believed that came back, removed whatever."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.core.commands import Body
from jobd.daemon.workdir import Collected, Inputs, Output, Workdir, sweep_workdirs
from jobd.errors import QueueDamagedError
from jobd.journal.bodies import Bodies
from tests.support.attempt_rig import file_size_limit


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[Bodies]:
    one = Bodies(tmp_path / "bodies")
    yield one
    one.close()


@pytest.fixture
def work(tmp_path: Path, bodies: Bodies) -> Workdir:
    return Workdir(tmp_path / "work", 7, 2, bodies)


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_layout(work: Workdir, tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        work.prepare(Inputs(b"payload", b"config", {"key": b"secret"}))
    finally:
        os.umask(old)
    assert work.path == tmp_path / "work/7.2"
    modes = {str(path.relative_to(work.path)): mode(path) for path in work.path.rglob("*")}
    assert modes == {
        "boot": "0o600",
        "job": "0o755",
        "job/payload": "0o644",
        "job/config": "0o644",
        "job/result": "0o666",
        "job/out": "0o777",
        "job/secrets": "0o755",
        "secrets": "0o755",
        "secrets/key": "0o444",
    }
    assert mode(work.path) == "0o700"
    assert mode(tmp_path / "work") == "0o700"
    assert (work.task_dir / "payload").read_bytes() == b"payload"
    assert (work.task_dir / "config").read_bytes() == b"config"
    assert (work.secrets_dir / "key").read_bytes() == b"secret"


def test_no_secrets_no_folder(work: Workdir) -> None:
    work.prepare(Inputs())
    assert sorted(os.listdir(work.path)) == ["boot", "job"]
    assert sorted(os.listdir(work.task_dir)) == ["config", "out", "payload", "result"]


def test_prepared_twice_keeps_the_result(work: Workdir) -> None:
    work.prepare(Inputs(b"one"))
    (work.task_dir / "result").write_bytes(b"result")
    work.prepare(Inputs(b"two"))
    assert (work.task_dir / "payload").read_bytes() == b"one"
    assert work.collect_result().result == b"result"


@pytest.mark.parametrize("boot", [b"", b"\0" * 36, b"e7a1b0fc-0000-0000-0000-000000000000"])
def test_what_was_laid_out_before_the_kernel_started_is_laid_out_anew(
    work: Workdir, boot: bytes
) -> None:
    work.prepare(Inputs(b"one"))
    (work.path / "boot").write_bytes(boot)
    (work.task_dir / "payload").write_bytes(b"")  # as a power cut leaves it
    work.prepare(Inputs(b"one"))
    assert (work.task_dir / "payload").read_bytes() == b"one"


def test_what_an_earlier_version_has_laid_out_is_left_as_it_is(work: Workdir) -> None:
    work.prepare(Inputs(b"one"))
    (work.path / "boot").unlink()
    (work.task_dir / "result").write_bytes(b"result")
    work.prepare(Inputs(b"two"))
    assert work.collect_result().result == b"result"


def test_payload_is_a_copy(work: Workdir, bodies: Bodies) -> None:
    body = bodies.put(b"p" * 600_000)
    work.prepare(Inputs(body))
    payload = work.task_dir / "payload"
    assert payload.read_bytes() == b"p" * 600_000
    payload.write_bytes(b"scribbled by the attempt")
    assert bodies.read(body) == b"p" * 600_000


def test_all_or_nothing(work: Workdir, bodies: Bodies, tmp_path: Path) -> None:
    body = bodies.put(b"p" * 9000)
    with file_size_limit(5000), pytest.raises(OSError, match="large"):
        work.prepare(Inputs(body))
    assert not work.path.exists()
    (tmp_path / "bodies" / body.name[:2] / body.name).write_bytes(b"q" * 9000)
    with pytest.raises(QueueDamagedError):
        work.prepare(Inputs(body))
    assert not work.path.exists()
    # and what the tries left is no hindrance
    work.prepare(Inputs(b"x"))
    assert os.listdir(tmp_path / "work") == ["7.2"]


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000])
def test_result(work: Workdir, bodies: Bodies, size: int) -> None:
    work.prepare(Inputs())
    (work.task_dir / "result").write_bytes(b"r" * size)
    found = work.collect_result()
    assert found.note is None
    if size <= 4096:
        assert found.result == b"r" * size
    else:
        assert isinstance(found.result, Body)
        assert bodies.read(found.result) == b"r" * size


def test_no_result(work: Workdir) -> None:
    work.prepare(Inputs())
    assert work.collect_result().result is None
    (work.task_dir / "result").unlink()
    assert work.collect_result() == Collected(None, None)
    work.remove()
    assert work.collect_result().result is None


@pytest.mark.parametrize(
    "trick", ["symlink", "hard link", "pipe", "folder", "sparse", "too long", "device"]
)
def test_tricks_with_the_result(work: Workdir, tmp_path: Path, trick: str) -> None:
    work.prepare(Inputs())
    secret = tmp_path / "secret"
    secret.write_bytes(b"the host's own")
    result = work.task_dir / "result"
    result.unlink()
    if trick == "symlink":
        result.symlink_to(secret)
    elif trick == "hard link":
        os.link(secret, result)
    elif trick == "pipe":
        os.mkfifo(result)
    elif trick == "folder":
        result.mkdir()
    elif trick == "sparse":
        result.touch()
        os.truncate(result, 1 << 40)
    elif trick == "too long":
        result.write_bytes(b"r" * 1001)
    elif os.geteuid() == 0:
        os.mknod(result, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    found = work.collect_result(limit=1000)
    assert found.result is None
    assert trick == "device" or str(found.note).startswith("result not taken: ")
    assert work.remove()
    assert secret.read_bytes() == b"the host's own"
    assert not work.path.exists()


def test_no_output_is_none(work: Workdir) -> None:
    assert work.collect_output() == Output()
    work.prepare(Inputs())
    assert work.collect_output() == Output()
    (work.task_dir / "out").rmdir()
    (work.task_dir / "out").symlink_to("/etc")
    assert "not kept" in str(work.collect_output().note)


def test_remove_follows_no_link(work: Workdir, tmp_path: Path) -> None:
    work.prepare(Inputs())
    keep = tmp_path / "keep"
    keep.mkdir(mode=0o755)
    (keep / "file").write_text("precious")
    out = work.task_dir / "out"
    (out / "link").symlink_to(keep)
    (out / "file").symlink_to(keep / "file")
    (out / "dangling").symlink_to("nowhere")
    (out / "closed").mkdir()
    (out / "closed/link").symlink_to(keep)
    (out / "closed").chmod(0)
    os.link(keep / "file", out / "hard")
    assert work.remove()
    assert work.remove()
    assert (keep / "file").read_text() == "precious"
    assert mode(keep) == "0o755"
    assert os.listdir(tmp_path / "work") == []


def test_remove_what_is_too_deep(work: Workdir, tmp_path: Path) -> None:
    """Deeper than the stack and PATH_MAX, with few descriptors."""
    work.prepare(Inputs())
    fd = os.open(work.task_dir / "out", os.O_RDONLY)
    for depth in range(3000):
        os.mkdir("deeper", dir_fd=fd)
        if depth % 10 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        down = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = down
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # few beyond what other tests of this process hold open
    most = max(map(int, os.listdir("/proc/self/fd"))) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most), hard))
    try:
        assert work.remove()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        left = os.listdir(tmp_path / "work")
        # pytest cannot remove so deep a tree, and every later run of it would fail at its end
        subprocess.run(["rm", "-rf", tmp_path / "work"], check=True)
    assert left == []


def test_remove_many_files(work: Workdir) -> None:
    work.prepare(Inputs())
    fd = os.open(work.task_dir / "out", os.O_RDONLY)
    for index in range(5000):
        os.symlink("x", f"l{index}", dir_fd=fd)
    os.close(fd)
    assert work.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_remove_closed_folders_without_root() -> None:
    """What an ordinary user's daemon meets: folders that are its own and closed to it."""
    tmp_path = Path(tempfile.mkdtemp())  # as pytest's own folders are closed to others
    tmp_path.chmod(0o777)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            bodies = Bodies(tmp_path / "bodies")
            work = Workdir(tmp_path / "work", 1, 1, bodies)
            work.prepare(Inputs())
            deep = work.task_dir / "out/a/b/c"
            deep.mkdir(parents=True)
            (deep / "file").touch()
            for closed in (deep, deep.parent, deep.parent.parent, work.task_dir):
                closed.chmod(0)
            status = 0 if work.remove() and not os.listdir(tmp_path / "work") else 2
        finally:
            os._exit(status)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        shutil.rmtree(tmp_path)


def test_sweep(tmp_path: Path, bodies: Bodies) -> None:
    for run in (1, 2, 3):
        Workdir(tmp_path / "work", run, 1, bodies).prepare(Inputs())
    (tmp_path / "work/.4.1.new").mkdir()
    (tmp_path / "work/.removing.5.1.0/x").mkdir(parents=True)
    removed = sweep_workdirs(tmp_path / "work", [(2, 1), (9, 9)])
    assert removed == [".4.1.new", ".removing.5.1.0", "1.1", "3.1"]
    assert os.listdir(tmp_path / "work") == ["2.1"]
    assert sweep_workdirs(tmp_path / "nowhere", []) == []


def test_results_of_parents_are_files_of_their_own(tmp_path, bodies) -> None:
    large = bodies.put(b"x" * 100_000)
    made = Workdir(tmp_path / "work", 7, 1, bodies)
    made.prepare(Inputs(parents={5: b"five", 6: large}))
    folder = made.task_dir / "parents"
    assert (folder / "5" / "result").read_bytes() == b"five"
    assert (folder / "6" / "result").read_bytes() == b"x" * 100_000
    assert (folder / "5" / "result").stat().st_mode & 0o777 == 0o644
    assert made.remove()

"""What the host gives process attempts: cgroups, a user, a way to their folders."""

from __future__ import annotations

import os
import pwd
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobd.core.policy import Rules
from jobd.daemon.config import read
from jobd.engine import account as account_module
from jobd.engine.account import Account, NoAccountError, account, closed_folder, open_way
from jobd.engine.cage import Cages
from jobd.engine.usage import CgroupSettings
from jobd.errors import InvalidError
from tests.support.processes import Bench, open_folder, processes_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


# -- cgroups --------------------------------------------------------------------------------


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def cages(root: Path) -> Cages:
    return Cages(CgroupSettings(root=root, name="jobd-process"))


@pytest.mark.usefixtures("as_root")
def test_version_1_has_a_folder_in_each_hierarchy(tmp_path: Path) -> None:
    for name in ("memory", "cpu", "cpuacct", "pids"):
        (tmp_path / name).mkdir()
    made = cages(tmp_path).make("jobd-1", 1.5, 64 << 20, 10)
    joins = list(map(Path, made.joins))
    folders = {p.parent.relative_to(tmp_path).parts[0]: p.parent for p in joins}
    assert set(folders) == {"memory", "cpu", "cpuacct", "pids"}
    assert (made.memory, made.cpu, made.pids) == (True, True, True)
    assert (folders["memory"] / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (folders["cpu"] / "cpu.cfs_quota_us").read_text() == "150000"
    assert (folders["pids"] / "pids.max").read_text() == "10"


@pytest.mark.usefixtures("as_root")
def test_version_2_has_one_folder_and_its_controllers_switched_on(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    made = cages(tmp_path).make("jobd-1", 0.5, 64 << 20, 10)
    (join,) = map(Path, made.joins)
    assert join.parent == tmp_path / "jobd-process" / "jobd-1"
    assert (join.parent / "memory.max").read_text() == str(64 << 20)
    assert (join.parent / "memory.swap.max").read_text() == "0"
    assert (join.parent / "cpu.max").read_text() == "50000 100000"
    assert (join.parent / "pids.max").read_text() == "10"
    for above in (tmp_path, tmp_path / "jobd-process"):
        assert (above / "cgroup.subtree_control").exists()


def test_without_root_or_controllers_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "memory").mkdir()
    assert not cages(tmp_path).usable()
    assert cages(tmp_path).make("jobd-1", 1, 1 << 26, 10).joins == ()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not cages(tmp_path / "none").usable()
    (only,) = cages(tmp_path).make("jobd-1", 1, 1 << 26, 10).joins
    assert Path(only).is_relative_to(tmp_path / "memory"), "what is not there is not made"


# -- who they run as ------------------------------------------------------------------------


def user(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/sh"))


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the daemon run as a uid, on a host with a few users."""
    known = [user("root", 0), user("toor", 0), user("jobd", 900), user("ann", 1000)]

    def by_name(name: str) -> pwd.struct_passwd:
        return next(u for u in known if u.pw_name == name)

    def named(name: str) -> pwd.struct_passwd:
        try:
            return by_name(name)
        except StopIteration:
            raise KeyError(name) from None

    monkeypatch.setattr(account_module.pwd, "getpwnam", named)
    monkeypatch.setattr(
        account_module.pwd, "getpwuid", lambda uid: next(u for u in known if u.pw_uid == uid)
    )
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(
    ("uid", "name", "said"),
    [
        (0, "jobd-run", r"no user jobd-run .*useradd --system"),
        (0, "root", "never run as root"),
        (0, "toor", "never run as toor"),
        (0, "jobd", "never run as jobd"),
        (900, "ann", "never run as jobd itself"),
    ],
)
def test_they_never_run_as_root_or_the_system_daemon(
    users: Callable[[int], None], uid: int, name: str, said: str
) -> None:
    users(uid)
    with pytest.raises(NoAccountError, match=said):
        account(name)


def test_roots_processes_are_anothers_and_a_persons_are_their_own(
    users: Callable[[int], None],
) -> None:
    users(0)
    assert account("ann") == Account("ann", 1000, 1000, "/home/ann", True)
    users(1000)
    assert account("jobd-run") == Account("ann", 1000, os.getegid(), "/home/ann", False)


def test_only_jobds_own_folders_are_opened_and_a_closed_one_above_is_told(tmp_path: Path) -> None:
    who = Account("ann", 4711, 4711, "/", True)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    work = home / "state" / "work"
    open_way(work, who)
    assert all(p.stat().st_mode & 0o001 for p in (work, work.parent))
    assert work.stat().st_mode & 0o777 == 0o701
    assert home.stat().st_mode & 0o777 == 0o700
    closed = closed_folder(work, who)
    assert closed is not None
    assert home.is_relative_to(closed)
    assert closed_folder(work, Account("me", os.getuid(), os.getgid(), "/", False)) is None


# -- the configuration ----------------------------------------------------------------------


def rules(given: dict[str, Any], engine: str | None = None, processes: bool = False) -> Rules:
    return read(given, engine, processes).rules


def test_processes_are_off_until_somebody_says_so(users: Callable[[int], None]) -> None:
    users(0)
    ann = {"process": {"user": "ann"}}
    assert "enabled = true" in rules(ann).no_processes
    for on in (
        rules({"process": {"user": "ann", "enabled": True}}),
        rules(ann, "process"),
        rules({**ann, "engine": {"kind": "process"}}),
        rules(ann, None, True),
    ):
        assert (on.no_processes, on.process_user) == ("", "ann")
    off = {"process": {"user": "ann", "enabled": False}}
    assert "enabled = true" in rules(off, "process", True).no_processes
    assert "useradd" in rules({}, "process").no_processes
    with pytest.raises(InvalidError, match=r"^process.enabled: 'yes': expected true or false"):
        rules({"process": {"enabled": "yes"}})


# -- a person's own daemon ------------------------------------------------------------------


def as_nobody(work: Callable[[], None]) -> None:
    """Do `work` in a process of the user nobody. Fails with what it raised."""
    "".encode("ascii")  # loads what nobody may not be able to read
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reads)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
        except BaseException:
            os.write(writes, traceback.format_exc().encode())
            raise
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        said = file.read()
    os.waitpid(pid, 0)
    assert not said, said


@needs_root
def test_a_person_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", python_for_all())
    with open_folder() as path:
        path.chmod(0o777)
        home = path / "home"

        def work() -> None:
            home.mkdir(mode=0o700)
            bench = Bench(home)
            try:
                order = bench.start("id -un; ulimit -d; nice; sleep 300 & exit 5", memory=64 << 20)
                ending = bench.ended(order)
                assert bench.text(order).split() == [b"nobody", b"65536", b"5"]
                assert ending.exit_code == 5
                assert ending.usage.memory_peak_source == "rusage"
                assert ending.usage.memory_peak
                assert processes_of(order.task_dir) == []
            finally:
                bench.close()

        as_nobody(work)


def python_for_all() -> str:
    """A python that every user can start."""
    for path in (sys.executable, "/usr/bin/python3"):
        real = Path(path).resolve()
        if real.exists() and all(p.stat().st_mode & 1 for p in (real, *real.parents)):
            return str(real)
    pytest.skip("no python here that another user can start")

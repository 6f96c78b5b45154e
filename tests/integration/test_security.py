"""What the daemon does to the host's files, and what it says: modes, opens, log lines."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from jobctl.client import Client
from jobd.daemon.cli import OneLine
from jobd.daemon.places import refuse_open_parents
from jobd.errors import ConfigError
from jobd.wire import envelope
from tests.support.fakehost import ENVIRONMENT, PATIENCE, SMALL
from tests.support.rawpeer import long_frame, raw_peer

#: a job's name may have dots; a payload, a label and a result are any bytes
NAME = "a..b"
#: system calls that make, open or move files
CALLS = (
    "open", "openat", "openat2", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2",
    "link", "linkat", "symlink",
)  # fmt: skip
FORGED = "x\nCRITICAL jobd: forged\r\x1b[2Jline"


class Traced:
    """A daemon with all that it opens written down by strace, and what it says kept."""

    def __init__(self, folder: Path, *around: str) -> None:
        self.home = folder / "h"
        self.log = folder / "said"
        words = [sys.executable, "-m", "jobd", "run", "--home", str(self.home), "--engine", "fake"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*around, *words], stdout=log, stderr=log, env=ENVIRONMENT, umask=0
            )
        until = time.monotonic() + PATIENCE
        while b"ready" not in self.log.read_bytes():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self) -> None:
        """As systemd does it."""
        pid = int((self.home / "state" / "LOCK").read_text().split()[0])
        if self._process.poll() is None:
            # strace hands no signal on: its child is told
            subprocess.run(["kill", "-TERM", str(pid)], check=False)
            self._process.wait(PATIENCE)


def live(home: Path) -> None:
    """A bit of everything: runs with results, output, a large payload, a refused request."""
    with Client(home=str(home)) as client:
        words = ["payload", "print=hi", "result=done", "out=file:text"]
        client.register({"name": NAME, "image": "img", "command": words, **SMALL})
        run = client.queue(NAME, b"x" * 700_000, labels={"l": "m"})["runs"][0]["id"]
        client.wait(run)
        client.result(run)
        [*client.logs(run)]
    with raw_peer(home / "run" / "jobd.sock") as peer:
        peer.send(long_frame(envelope.request(1, FORGED, {}, bytes(16))))
        peer.reply()
        peer.send(long_frame(envelope.request(2, "job.pause", {"job": FORGED}, bytes(16))))
        peer.reply()


@pytest.fixture
def folder() -> Iterator[Path]:
    # not pytest's, which lies in /tmp: nothing is to be seen there
    path = Path(tempfile.mkdtemp(prefix="js", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


def test_folders_and_files_are_closed_whatever_the_umask(folder: Path) -> None:
    daemon = Traced(folder)
    try:
        live(daemon.home)
        found = [path for path in daemon.home.rglob("*") if not path.is_socket()]
    finally:
        daemon.end()
    assert len(found) > 10
    closed = [path for path in found if path.relative_to(daemon.home).parts[0] != "run"]
    # who may drop files passes the spool, and puts them into a folder that only jobd can list
    spool = daemon.home / "spool"
    assert stat.S_IMODE(spool.stat().st_mode) == 0o711
    assert stat.S_IMODE((spool / NAME).stat().st_mode) == 0o3730
    closed = [path for path in closed if path not in (spool, spool / NAME)]
    open_ = {
        str(path.relative_to(daemon.home)): oct(path.stat().st_mode)
        for path in closed
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_ == {}
    assert stat.S_IMODE(daemon.home.stat().st_mode) & 0o022 == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_path_is_made_of_what_others_chose_and_none_is_in_tmp(folder: Path) -> None:
    trace = folder / "trace"
    daemon = Traced(folder, "strace", "-f", "-qq", "-s", "300", "-o", str(trace), "-e",
                    "trace=" + ",".join(CALLS))  # fmt: skip
    try:
        live(daemon.home)
    finally:
        daemon.end()
    made = [
        line
        for line in trace.read_text(errors="replace").splitlines()
        if re.search(r"O_CREAT|O_WRONLY|O_RDWR|mkdir|rename|link", line) and "ENOENT" not in line
    ]
    assert len(made) > 20
    in_tmp = [line for line in made if re.search(r'"(/tmp|/dev/shm)/', line)]
    assert in_tmp == []
    outside = [
        line
        for line in made
        for path in re.findall(r'"(/[^"]*)"', line)
        if not path.startswith((str(folder), "/dev/null", "/dev/urandom", "/proc/self", "/sys/fs"))
        and "__pycache__" not in path
    ]
    assert outside == []
    # the job's name makes one folder below a descriptor that is held, its runs are numbers
    named = [line for line in made if f'{NAME}"' in line or f"{NAME}/" in line]
    assert all("AT_FDCWD" not in line for line in named), named
    links = [line for line in made if "O_CREAT" in line and "/log" in line]
    assert all("O_NOFOLLOW" in line and "O_CLOEXEC" in line for line in links), links


def test_nobody_forges_a_line_of_the_log() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "refused %s", (FORGED,), None)
    said = OneLine("jobd: %(levelname)s: %(message)s").format(record)
    assert said == "jobd: WARNING: refused x?CRITICAL jobd: forged??[2Jline"
    try:
        raise KeyError("bug")
    except KeyError:
        record.exc_info = sys.exc_info()
    assert "\n" in OneLine("%(message)s").format(record)


def test_a_folder_that_others_can_put_in_its_place_is_refused(folder: Path) -> None:
    above = folder / "above"
    above.mkdir()
    above.chmod(0o777)
    words = [sys.executable, "-m", "jobd", "run", "--home", str(above / "h"), "--engine", "fake"]
    for verb in (words, [*words[:3], "check", "--home", str(above / "h")]):
        done = subprocess.run(
            verb, capture_output=True, env=ENVIRONMENT, timeout=PATIENCE, check=False
        )
        assert done.returncode == ConfigError.status, done.stderr
        assert f"chmod go-w {above}".encode() in done.stderr
    assert list(above.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "gid", "refused"),
    [
        (0o755, 0, False),
        (0o757, 0, True),
        (0o1777, 0, False),
        (0o775, os.getgid(), False),
        (0o775, 1, True),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to a group")
def test_which_folders_others_can_write_to(
    folder: Path, mode: int, gid: int, refused: bool
) -> None:
    above = folder / "above"
    above.mkdir()
    os.chown(above, 0, gid)
    above.chmod(mode)
    # the way by a link counts, and what it leads to does
    (folder / "link").symlink_to(above)
    for path in (above / "a" / "state", folder / "link" / "state"):
        with pytest.raises(ConfigError, match="others") if refused else nullcontext():
            refuse_open_parents(path)

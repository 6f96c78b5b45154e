"""Every error code and every exit status, each produced through the real programs.

What jobctl is asked with `--json` must name the code; jobd says a sentence on stderr. A code or a
status that nobody can produce fails the last test.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from jobctl import statuses
from jobd import errors
from jobd.daemon import cli
from tests.support.fakehost import ENVIRONMENT, PATIENCE, SMALL, FakeHost
from tests.support.people import People, is_root

#: what both programs say they may exit with; 42 and 143 stand for the attempt's own
STATUSES = {status for status, _ in (*statuses.STATUSES, *cli.STATUSES) if type(status) is int}
STATUSES |= {42, 143}

Case = Callable[["Programs"], int]
CASES: dict[str, Case] = {}
PRODUCED: set[int] = set()


class Programs:
    """jobctl and jobd as processes, beside a daemon."""

    def __init__(self, host: FakeHost, folder: Path) -> None:
        self.host = host
        self.folder = folder

    def jobctl(self, *words: str, code: str | None, status: int, before: str = "") -> int:
        """Its exit status, having seen that the one JSON value on stdout names the code.

        `before` is Python that runs in the same process first.
        """
        script = f"import sys\n{before}\nfrom jobctl.cli import main\nsys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", script, "--home", str(self.host.home), "--json", *words],
            capture_output=True,
            env=ENVIRONMENT,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
        found = json.loads(done.stdout)
        assert (found["error"]["code"] if "error" in found else None) == code
        return done.returncode

    def plain(self, *words: str, out: IO[bytes], says: str) -> int:
        """The exit status of jobctl in its usual mode, with its stdout elsewhere."""
        words = (sys.executable, "-m", "jobctl", "--home", str(self.host.home), *words)
        done = subprocess.run(
            words,
            stdout=out,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            timeout=PATIENCE,
            check=False,
        )
        assert says in done.stderr.decode()
        return done.returncode

    def jobd(self, home: Path, says: str, *around: str) -> int:
        """The exit status of `jobd run` on a folder."""
        done = subprocess.run(
            [*around, sys.executable, "-m", "jobd", "run", "--home", str(home), "--engine", "fake"],
            capture_output=True,
            env=ENVIRONMENT,
            timeout=PATIENCE,
            check=False,
        )
        assert says in done.stderr.decode()
        return done.returncode

    def job(self, name: str, *steps: str, **keys: object) -> None:
        """Register a job of the fake engine."""
        with self.host.client() as client:
            client.register({"name": name, "image": "img", "command": [*steps], **SMALL, **keys})

    def stopped(self, name: str) -> Path:
        """A folder of a queue with a run in it, whose daemon has ended."""
        other = FakeHost(self.folder / name).start()
        with other.client() as client:
            client.register({"name": "j", "image": "img", "command": ["exit=0"], **SMALL})
            client.pause("j")
            client.queue("j", b"a payload that can be found")
        other.end()
        return other.home


def case(what: str) -> Callable[[Case], Case]:
    """Says what a function produces: an error's code, or else a word."""

    def keep(function: Case) -> Case:
        CASES[what] = function
        return function

    return keep


@case("success")
def _success(programs: Programs) -> int:
    return programs.jobctl("ls", code=None, status=0)


@case("ended otherwise")
def _otherwise(programs: Programs) -> int:
    programs.job("slow", "sleep=60")
    with programs.host.client() as client:
        run = client.queue("slow")["runs"][0]["id"]
        client.cancel(run)
    return programs.jobctl("wait", str(run), code=None, status=1)


@case("the attempt's own")
def _own(programs: Programs) -> int:
    programs.job("fails", "exit=42")
    return programs.jobctl("queue", "fails", "--wait", code=None, status=42)


@case("the attempt's signal")
def _signal(programs: Programs) -> int:
    programs.job("killed", "exit=143")
    return programs.jobctl("queue", "killed", "--wait", code=None, status=143)


@case("usage")
def _usage(programs: Programs) -> int:
    return programs.jobctl("ls", "--limit", "many", code="usage", status=2)


@case("not-found")
def _not_found(programs: Programs) -> int:
    return programs.jobctl("show", "999999", code="not-found", status=66)


@case("unreachable")
def _unreachable(programs: Programs) -> int:
    nowhere = str(programs.folder / "nowhere")
    return programs.jobctl("ls", "--home", nowhere, code="unreachable", status=69)


@case("outcome-unknown")
def _outcome_unknown(programs: Programs) -> int:
    programs.job("hung", "exit=0")
    words = ("queue", "hung", "--request-timeout", "1")
    os.kill(programs.host.pid, signal.SIGSTOP)
    try:
        return programs.jobctl(*words, code="outcome-unknown", status=69)
    finally:
        os.kill(programs.host.pid, signal.SIGCONT)


@case("internal")
def _internal(programs: Programs) -> int:
    bug = "import jobctl.runcalls\njobctl.runcalls.runs_and_more = lambda *a, **k: 1 / 0"
    return programs.jobctl("ls", code="internal", status=70, before=bug)


@case("conflict")
def _conflict(programs: Programs) -> int:
    programs.job("waits", "exit=0")
    with programs.host.client() as client:
        client.pause("waits")
        run = client.queue("waits")["runs"][0]["id"]
    return programs.jobctl("result", str(run), code="conflict", status=73)


@case("refused")
def _refused(programs: Programs) -> int:
    programs.job("narrow", "exit=0", limits={"queue": 1})
    with programs.host.client() as client:
        client.pause("narrow")
        client.queue("narrow")
    return programs.jobctl("queue", "narrow", code="refused", status=75)


@case("version")
def _version(programs: Programs) -> int:
    other = "import jobd.wire.envelope as e\ne.VERSION = 9"
    return programs.jobctl("ls", code="version", status=76, before=other)


@case("forbidden")
def _forbidden(programs: Programs) -> int:
    people = People(programs.host.home)
    try:
        said = people.say("nobody", "drain", "--json")
    finally:
        people.close()
    assert said.json["error"]["code"] == "forbidden"
    return said.status


@case("invalid")
def _invalid(programs: Programs) -> int:
    words = ("register", "--name", "none", "--cpus", "0", "img")
    return programs.jobctl(*words, code="invalid", status=78)


@case("time-over")
def _time_over(programs: Programs) -> int:
    programs.job("never", "exit=0")
    with programs.host.client() as client:
        client.pause("never")
        run = client.queue("never")["runs"][0]["id"]
    return programs.jobctl("wait", str(run), "--timeout", "0.1", code="time-over", status=124)


@case("interrupted")
def _interrupted(programs: Programs) -> int:
    programs.job("long", "sleep=60")
    script = "import sys; from jobctl.cli import program; program()"
    home = str(programs.host.home)
    with subprocess.Popen(
        [sys.executable, "-c", script, "--home", home, "run", "long"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        until = time.monotonic() + PATIENCE
        with programs.host.client() as client:
            while not (found := client.runs(job="long", status=["running"])):
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
            client.cancel(found[0]["id"])
    return process.returncode


@case("a full disk behind stdout")
def _full(programs: Programs) -> int:
    with open("/dev/full", "wb") as full:
        return programs.plain("--help", out=full, says="No space left on device")


@case("nobody reads stdout")
def _left(programs: Programs) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as left:
        return programs.plain("--help", out=left, says="")


@case("config")
def _config(programs: Programs) -> int:
    home = programs.folder / "badly"
    home.mkdir()
    (home / "jobd.toml").write_text("[engine]\nkind = 5\n")
    return programs.jobd(home, "engine.kind")


@case("already-running")
def _already_running(programs: Programs) -> int:
    return programs.jobd(programs.host.home, "in use by another daemon")


@case("queue-damaged")
def _damaged(programs: Programs) -> int:
    home = programs.stopped("damaged")
    segment = min((home / "state").glob("seg-*.log"))
    data = segment.read_bytes()
    assert b"a payload that can be found" in data
    segment.write_bytes(data.replace(b"a payload that can", b"a payload that CAN"))
    return programs.jobd(home, "run 1")


@case("disk-failed")
def _disk_failed(programs: Programs) -> int:
    home = programs.stopped("failing")
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace (Debian: apt-get install strace)")
    # the first sync of the data is the one that the next start's first batch needs
    inject = ("-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO")
    return programs.jobd(home, "Input/output error", strace, "-qq", "-o", "/dev/null", *inject)


@pytest.mark.parametrize("what", CASES)
def test_it_can_be_produced(what: str, host: FakeHost, tmp_path: Path) -> None:
    if what == "forbidden" and not is_root():
        pytest.skip("needs root, to become another user")
    expected = {code: status for code, status, _ in errors.table()}.get(what)
    status = CASES[what](Programs(host, tmp_path))
    assert expected in (None, status)
    PRODUCED.add(status)


def test_none_is_left_out() -> None:
    assert {code for code, _, _ in errors.table()} <= CASES.keys()
    if len(PRODUCED) > 1 and is_root() and shutil.which("strace"):
        assert PRODUCED >= STATUSES

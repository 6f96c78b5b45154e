"""Floods: of output (row 47), and of the engine's own disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import MakeRig, rigs_on
from tests.support.fault_rig import FaultRig
from tests.support.private_engine import PrivateEngine


def peak_memory(pid: int) -> int:
    """The most memory that a process has held, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid}: no VmHWM")


def test_floods_of_output_stay_bounded(rigs: MakeRig, private: PrivateEngine) -> None:
    """Row 47: 200 MB of lines, lines of 1 MB without an end, bytes that are no text."""
    rig = rigs('logs.per_attempt = "2M"')
    rig.register("warm", "exit 0")
    rig.ended(rig.queue("warm"))
    before = peak_memory(rig.pid)
    line = "0123456789" * 10
    long = "head -c 3000000 /dev/zero | tr '\\0' x"
    programs = {
        "lines": f"yes {line} | head -c 200000000; echo; echo the end; echo done >$RESULT_FILE",
        "long": f"{long}; {long} >&2; echo; echo the end; echo done >$RESULT_FILE",
        "binary": "head -c 5000000 /dev/urandom; echo; echo the end; echo done >$RESULT_FILE",
    }
    for name, program in programs.items():
        rig.register(name, f"{program}; exit 6", "--cpus", "1")
    numbers = {name: rig.queue(name) for name in programs}
    for name, number in numbers.items():
        run = rig.ended(number)
        assert (run["status"], run["exit_code"]) == ("failed", 6), name
        assert rig.ctl("result", str(number)).stdout == "done\n"
        (log,) = rig.home.glob(f"log/{name}/{number}.1.log")
        assert log.stat().st_size < 3 << 20, name
        assert b" stdout F the end\n" in log.read_bytes(), name
        assert run["attempts"][0]["log_truncated"], name
    grown = peak_memory(rig.pid) - before
    assert grown < 96 << 20, f"jobd grew by {grown >> 20} MiB"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[PrivateEngine]:
    """An engine whose whole disk is a file system of 48 MB."""
    made = PrivateEngine(data="48m")
    yield made
    made.close()


def test_a_full_disk_of_the_engine_charges_nobody(small: PrivateEngine, tmp_path: Path) -> None:
    """Nothing can be created: the run says why, waits, and goes on when there is room."""
    ballast = small.folder / "data/ballast"
    for rig in rigs_of(small, tmp_path):
        rig.register("one", "exit 5")
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M"], stderr=subprocess.DEVNULL)
        number = rig.queue("one")
        run = rig.until(number, lambda run: run["reason"] and run["progress"])
        assert run["status"] == "starting"
        assert "no space left on device" in run["reason"]["text"]
        assert rig.api.status()["engine"]["reachable"]
        ballast.unlink()
        assert rig.ended(number)["status"] == "failed"
        assert rig.outcomes(number) == [("failed", 5)]


def rigs_of(engine: PrivateEngine, path: Path) -> Iterator[FaultRig]:
    """One daemon on an engine, and the end of it."""
    for make in rigs_on(engine, path):
        yield make()

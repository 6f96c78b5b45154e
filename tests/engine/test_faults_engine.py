"""The engine stops, dies, freezes, and loses its containerd under jobd: rows 37 to 41."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import rigs_on
from tests.support.fault_rig import FaultRig
from tests.support.private_engine import PrivateEngine, end_of


def inner_pid(engine: PrivateEngine, rig: FaultRig, number: int) -> int:
    """The first process of a run's container."""
    return int(engine.sdk.inspect_container(rig.container(number))["State"]["Pid"])


def slowest(work: Callable[[], object], times: int) -> float:
    """The longest that one of several calls took, in seconds."""
    longest = 0.0
    for _ in range(times):
        begun = time.monotonic()
        work()
        longest = max(longest, time.monotonic() - begun)
    return longest


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_end_while_the_engine_is_dead_keeps_its_status(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 37: killed with -9, the container ends by itself, the engine comes back."""
    rig.register("one", "sleep 1.5; exit 7", attempts=2)
    number = rig.queue("one")
    rig.begun(number)
    pid = inner_pid(private, rig, number)
    private.kill()
    rig.until(number, lambda run: run["reason"] and run["reason"]["code"] == "engine")
    end_of(pid)
    assert rig.run(number)["status"] == "running"
    private.up()
    rig.until(number, lambda run: run["attempts"][0]["outcome"])
    assert rig.outcomes(number)[0] == ("failed", 7)
    assert "gap: the engine was out of reach" in rig.notes(number)


def test_an_engine_that_stops_interrupts_and_charges_nobody(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 38: no live-restore. Retried, or held where there is one attempt; nothing starts."""
    program = "[ $ATTEMPT = 1 ] && sleep 60; exit 0"
    rig.register("again", program, attempts=2)
    rig.register("once", program)
    rig.register("quick", "exit 0")
    rig.register("dead", program, "--retry-interrupted", "dead")
    rig.register("quit", program, "--stop-signal", "SIGUSR1", attempts=2)
    numbers = [rig.queue(name) for name in ("again", "once", "dead", "quit")]
    for number in numbers:
        rig.begun(number)
    private.terminate()
    waiting = rig.queue("quick")
    rig.until(waiting, lambda run: "no engine answers" in (run["reason"] or {}).get("text", ""))
    begun, cpu = time.monotonic(), cpu_seconds(rig.pid)
    while time.monotonic() < begun + 3:
        assert rig.run(waiting)["status"] in ("queued", "starting")
        time.sleep(0.2)
    used = cpu_seconds(rig.pid) - cpu
    assert used < 1.5, f"{used} s of CPU in 3 s without an engine"
    private.up()
    assert rig.ended(numbers[0])["status"] == "succeeded"
    assert [one[0] for one in rig.outcomes(numbers[0])] == ["interrupted", "succeeded"]
    held = rig.ended(numbers[1])
    assert (held["status"], held["reason"]["code"]) == ("held", "interrupted")
    assert rig.ended(numbers[2])["status"] == "lost"
    assert rig.ended(numbers[3])["status"] == "succeeded"
    assert [one[0] for one in rig.outcomes(numbers[3])] == ["interrupted", "succeeded"]
    assert rig.ended(waiting)["status"] == "succeeded"


def test_an_engine_restarted_behind_jobds_back_charges_nobody(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 38 with jobd away too: that another engine began it tells what 143 cannot."""
    rig.register("again", "[ $ATTEMPT = 1 ] && sleep 60; exit 0", attempts=2)
    number = rig.queue("again")
    rig.begun(number)
    rig.kill()
    private.terminate()
    private.up()
    rig.start()
    rig.ready()
    assert rig.ended(number)["status"] == "succeeded"
    assert [one[0] for one in rig.outcomes(number)] == ["interrupted", "succeeded"]
    assert rig.run(number)["attempts"][0]["error"] == "the engine stopped"


def test_a_frozen_engine_holds_nobody_up(rig: FaultRig, private: PrivateEngine) -> None:
    """Row 40: answers stay as quick as they were, nothing is declared dead, all goes on."""
    rig.register("long", "sleep 9; echo end", attempts=2)
    rig.register("short", "exit 0")
    number = rig.queue("long")
    rig.begun(number)
    spare: list[int] = []

    def ask() -> None:
        spare.append(rig.api.queue("short", b"")["runs"][0]["id"])
        rig.api.runs()
        rig.api.show(number)
        rig.api.cancel(str(spare[-1]))

    before = slowest(ask, 10)
    private.freeze()
    begun, during = time.monotonic(), 0.0
    last = rig.queue("short")
    while time.monotonic() < begun + 12:
        during = max(during, slowest(ask, 3))
        assert rig.run(number)["status"] == "running"
        time.sleep(0.1)
    print(f"four requests took at most {before * 1000:.0f} ms, {during * 1000:.0f} ms meanwhile")
    # each request to the engine takes 2 s to time out: nobody waited for one
    assert during < 1.5
    status = rig.api.status()
    assert status["engine"]["reachable"] is False
    private.thaw()
    assert rig.ended(last)["status"] == "succeeded"
    rig.ended(number)
    assert rig.outcomes(number) == [("succeeded", 0)]
    assert rig.text(number) == "begin 1\nend\n"
    for one in spare:
        assert rig.ended(one)["status"] in ("cancelled", "succeeded")


def test_a_killed_containerd_changes_no_outcome(rig: FaultRig, private: PrivateEngine) -> None:
    """Row 41: one ends while it is away, one goes on past it, one begins."""
    rig.register("ends", "sleep 1; exit 5", attempts=1)
    rig.register("goes", "sleep 8; echo end; exit 6", attempts=1)
    ends, goes = rig.queue("ends"), rig.queue("goes")
    rig.begun(ends)
    rig.begun(goes)
    os.kill(private.containerd, signal.SIGKILL)
    begins = rig.queue("ends")
    for number, code in ((ends, 5), (goes, 6), (begins, 5)):
        rig.ended(number)
        assert rig.outcomes(number) == [("failed", code)], number
    assert rig.text(goes) == "begin 1\nend\n"


@pytest.fixture(scope="module")
def lasting() -> Iterator[PrivateEngine]:
    """An engine with the setting that the documentation recommends."""
    made = PrivateEngine("--live-restore")
    yield made
    made.close()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_restart_with_live_restore_goes_by(
    lasting: PrivateEngine, tmp_path: Path, how: str
) -> None:
    """Row 39: the attempt goes on, and what may lack of its output is marked."""
    with contextlib.contextmanager(rigs_on)(lasting, tmp_path) as rigs:
        rig = rigs()
        rig.register("one", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done; exit 9")
        rig.register("ends", "sleep 1; exit 8")
        number, ends = rig.queue("one"), rig.queue("ends")
        rig.begun(number)
        pid = inner_pid(lasting, rig, ends)
        getattr(lasting, how)()
        end_of(pid)
        assert rig.run(number)["status"] == "running"
        lasting.up()
        rig.ended(number)
        rig.ended(ends)
        assert rig.outcomes(number) == [("failed", 9)]
        assert rig.outcomes(ends) == [("failed", 8)]
        assert "gap: the engine was out of reach" in rig.notes(number)
        lines = rig.text(number).splitlines()
        assert len(lines) == len(set(lines)), "a line came twice"
        assert lines[-1] == "8"

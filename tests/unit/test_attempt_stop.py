"""Told to stop at any moment; and whose fault an end by signal is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.core.commands import ReportEnded, ReportStarted, ReportUnstarted
from jobd.daemon.workdir import Inputs
from jobd.engine.base import EngineUnreachableError, Phase
from tests.support.attempt_rig import FAST, Rig, until

AWAY = EngineUnreachableError("engine: out of reach")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def test_stop_before_anything_was_tried(rig: Rig) -> None:
    rig.path.joinpath("work").write_text("in the way")  # the folder cannot be made
    order = rig.start("exit=0")
    until(lambda: any("disk" in text for text in rig.said))
    rig.engine.set_reachable(False)
    rig.drivers.stop(1, 1, "SIGTERM")
    unstarted = rig.expect(ReportUnstarted)
    assert unstarted.cancelled
    assert "start" not in rig.engine.calls
    rig.path.joinpath("work").unlink()
    rig.engine.set_reachable(True)
    rig.finish(order)


def test_stop_while_the_engine_is_away(rig: Rig) -> None:
    rig.engine.set_reachable(False)
    rig.start("exit=0")
    until(lambda: rig.engine.calls.get("start", 0) > 1)
    rig.drivers.stop(1, 1, "SIGTERM")
    # it may have been made: nothing is reported before the engine has said
    until(lambda: rig.engine.calls.get("phase", 0) > 2)
    assert rig.reports.empty()
    rig.engine.set_reachable(True)
    assert rig.expect(ReportUnstarted).cancelled
    assert not rig.engine.attempts


def test_stop_where_it_was_created(rig: Rig) -> None:
    order = rig.order("exit=0")

    def create(call: str) -> None:
        if call == "start":
            rig.engine.create(order)
            raise AWAY

    rig.engine.hook = create
    rig.drivers.start(order, Inputs())
    until(lambda: order.ref in rig.engine.attempts)
    attempt = rig.engine.attempts[order.ref]
    rig.drivers.stop(1, 1, "SIGTERM")
    assert rig.expect(ReportUnstarted).cancelled
    assert not rig.engine.attempts
    assert attempt.starts == 0


def test_stop_where_it_turns_out_to_run(rig: Rig) -> None:
    order = rig.order("hang")
    calls = []

    def start_late(call: str) -> None:
        # the start took so long that the driver gave up waiting, and then it happened
        if call == "start" and not calls:
            calls.append(call)
            rig.drivers.stop(1, 1, "SIGTERM")
            rig.engine.create(order).start()
            raise AWAY

    rig.engine.hook = start_late
    rig.drivers.start(order, Inputs())
    rig.expect(ReportStarted)
    assert rig.expect(ReportEnded).exit_code == 143


def test_nudged_when_the_engine_is_back(rig: Rig) -> None:
    """Pauses of an hour: it is the nudge that ends them."""
    rig.timing = replace(FAST, backoff_first=3600.0, backoff_longest=3600.0)
    rig.restart()
    rig.engine.set_reachable(False)
    rig.start("exit=6")
    until(lambda: rig.said != [])
    rig.engine.set_reachable(True)
    # over again, as one that comes before the pause has begun ends nothing
    until(lambda: rig.drivers.nudge() or not rig.reports.empty())
    rig.expect(ReportStarted)
    until(lambda: rig.drivers.nudge() or not rig.reports.empty())
    assert rig.expect(ReportEnded).exit_code == 6


def test_kill_after_term(rig: Rig) -> None:
    rig.start("ignore-term", "print=ready", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.output() == [b"ready"])
    rig.drivers.stop(1, 1, "SIGTERM")
    until(lambda: rig.engine.calls.get("signal") == 1)
    rig.drivers.stop(1, 1, "SIGKILL")
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (137, False)


def test_later_signal_takes_the_place(rig: Rig) -> None:
    rig.start("ignore-term", "print=ready", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.output() == [b"ready"])
    rig.engine.set_reachable(False)
    rig.drivers.stop(1, 1, "SIGTERM")
    until(lambda: rig.engine.calls.get("signal", 0) > 1)
    rig.drivers.stop(1, 1, "SIGKILL")
    rig.engine.set_reachable(True)
    assert rig.expect(ReportEnded).exit_code == 137


# ---- the host's fault


def test_engine_that_takes_its_attempts_along(rig: Rig) -> None:
    rig.start("lines=3", "hang")
    rig.expect(ReportStarted)
    rig.engine.stop(137)
    asked = rig.engine.calls.get("ending", 0)
    until(lambda: rig.engine.calls.get("ending", 0) > asked + 2)
    rig.engine.set_reachable(True)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (137, True)


def test_engine_that_closes_its_door_after(rig: Rig) -> None:
    order = rig.start("print=ready", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.output() == [b"ready"])
    # the end is seen while the engine still answers
    rig.engine.hook = lambda call: rig.engine.set_reachable(call != "connect")
    rig.engine.attempts[order.ref].kill(143)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (143, True)


@pytest.mark.parametrize("code", [137, 143])
def test_killed_by_somebody(rig: Rig, code: int) -> None:
    order = rig.start("hang")
    rig.expect(ReportStarted)
    rig.engine.attempts[order.ref].kill(code)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (code, False)


def test_out_of_memory_is_its_own(rig: Rig) -> None:
    rig.start("oom")
    rig.expect(ReportStarted)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.oom, ended.host_fault) == (137, True, False)
    assert "connect" not in rig.engine.calls


@pytest.mark.parametrize(
    ("code", "boot_after_end", "fault"),
    [(255, False, True), (255, True, False), (143, True, True), (3, True, False)],
)
def test_host_that_was_started_anew(rig: Rig, code: int, boot_after_end: bool, fault: bool) -> None:
    order = rig.start("sleep=0.05", f"exit={code}")
    started = rig.expect(ReportStarted)
    rig.restart()
    attempt = rig.engine.attempts[order.ref]
    until(lambda: attempt.phase is Phase.EXITED)
    boot_ms = attempt.finished_at // 1_000_000 + 1 if boot_after_end else started.at + 1
    rig.restart(boot_ms)
    while not rig.reports.empty():
        rig.reports.get()
    rig.drivers.adopt(order, None, started=True)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (code, fault)

"""One attempt's life, from claim to removal, on an engine that behaves and on one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.core.commands import (
    Body,
    ReportEnded,
    ReportLost,
    ReportRefused,
    ReportStarted,
)
from jobd.daemon.workdir import Inputs
from jobd.engine.base import EngineUnreachableError, GoneError, Phase
from tests.support.attempt_rig import Rig, until

AWAY = EngineUnreachableError("engine: out of reach")
GONE = GoneError("gone")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def test_whole_life(rig: Rig, tmp_path: Path) -> None:
    order = rig.start("lines=10", "payload", "result=text", "memory=5000000", "exit=3")
    started = rig.expect(ReportStarted)
    assert (started.run, started.attempt) == (1, 1)
    assert started.engine_id == f"fake-{order.ref}"
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.result, ended.error) == (3, b"text", None)
    assert (ended.oom, ended.host_fault, ended.log_truncated) == (False, False, False)
    assert (ended.memory_peak, ended.memory_peak_source) == (5_000_000, "sampled")
    assert ended.at >= started.at > 0
    text = b"".join(b"line %d\n" % i for i in range(10)) + b"the payload\n"
    assert ended.log_tail == text
    assert ended.log_bytes == len(text)
    assert rig.output() == text.split(b"\n")[:-1]
    assert {entry.stream for entry in rig.log()} == {"stdout", "stderr"}
    # nothing is removed before the end is durable
    assert rig.engine.phase(order.ref) is Phase.EXITED
    assert (tmp_path / "work/1.1/job/payload").exists()
    rig.finish(order)
    assert not rig.engine.attempts
    assert list((tmp_path / "work").iterdir()) == []
    assert rig.drivers.samples() == {}


@pytest.mark.parametrize("call", ["start", "phase", "output", "ending", "discard", "signal"])
def test_engine_away_at_each_call(rig: Rig, call: str) -> None:
    rig.engine.fail(call, *[AWAY] * 4)
    order = rig.start("lines=3", "hang")
    rig.expect(ReportStarted)
    until(lambda: len(rig.output()) == 3)
    rig.drivers.stop(1, 1, "SIGTERM")
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (143, False)
    assert rig.output() == [b"line 0", b"line 1", b"line 2"]
    rig.finish(order)
    assert rig.engine.calls[call] > 4
    assert rig.engine.calls["start"] == 1 + 4 * (call == "start")
    assert not rig.engine.attempts


def test_engine_away_for_a_while(rig: Rig) -> None:
    order = rig.start("print=before", "sleep=0.15", "print=after", "exit=7")
    rig.expect(ReportStarted)
    until(lambda: rig.output() == [b"before"])
    rig.engine.set_reachable(False)
    until(lambda: rig.engine.attempts[order.ref].phase is Phase.EXITED)
    asked = rig.engine.calls["ending"]
    until(lambda: rig.engine.calls["ending"] > asked + 2)
    assert rig.reports.empty()
    rig.engine.set_reachable(True)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (7, False)
    assert rig.output() == [b"before", b"after"]
    assert [note.split(":")[0] for note in rig.notes()] == ["gap"]


def test_refused(rig: Rig) -> None:
    order = rig.start("no-such-word")
    refused = rig.expect(ReportRefused)
    assert refused.exit_code == 127
    assert "no-such-word" in refused.error
    rig.finish(order)
    order = rig.start(image="missing:1")
    refused = rig.expect(ReportRefused)
    assert refused.exit_code is None
    assert "missing:1" in refused.error
    rig.finish(order)
    assert not (rig.path / "work/1.1").exists()


def test_foreign_is_not_touched(rig: Rig) -> None:
    order = rig.order("hang")
    rig.engine.foreign.add(order.ref)
    rig.drivers.start(order, Inputs())
    assert "not touched" in rig.expect(ReportRefused).error
    rig.finish(order)
    assert "discard" not in rig.engine.calls


def test_damaged_payload(rig: Rig) -> None:
    body = rig.bodies.put(b"x" * 9000)
    path = rig.path / "bodies" / body.name[:2] / body.name
    path.write_bytes(b"x" * 8999 + b"y")
    rig.start("payload", inputs=Inputs(body))
    refused = rig.expect(ReportRefused)
    assert str(path) in refused.error
    assert "start" not in rig.engine.calls


@pytest.mark.parametrize("call", ["output", "ending"])
def test_gone_once_is_not_believed(rig: Rig, call: str) -> None:
    rig.engine.fail(call, GONE)
    rig.start("lines=3", "sleep=0.05", "exit=4")
    rig.expect(ReportStarted)
    assert rig.expect(ReportEnded).exit_code == 4


def test_gone_twice_is_lost(rig: Rig) -> None:
    order = rig.start("lines=3", "hang")
    rig.expect(ReportStarted)
    until(lambda: len(rig.output()) == 3)
    rig.engine.forget(order.ref)
    # between the two, the engine is away: that is no answer
    rig.engine.fail("ending", GONE, AWAY, AWAY)
    assert "gone" in rig.expect(ReportLost).error
    assert rig.engine.calls["start"] == 1
    assert rig.notes()[-1].startswith("lost: ")
    rig.finish(order)


def test_never_started_again(rig: Rig) -> None:
    # the journal has its start; the engine has it as created (its disk lost the start)
    order = rig.order("print=twice")
    rig.engine.create(order)
    rig.drivers.adopt(order, None, started=True)
    assert "never started" in rig.expect(ReportLost).error
    assert rig.engine.attempts[order.ref].starts == 0
    assert "start" not in rig.engine.calls
    # nor where it knows nothing of it
    gone = rig.order("print=twice", run=2)
    rig.drivers.adopt(gone, None, started=True)
    rig.expect(ReportLost)
    assert "start" not in rig.engine.calls


def test_start_that_was_not_recorded(rig: Rig) -> None:
    """Killed between the start and its record: found, and its result is not wiped."""
    order = rig.start("result=early", "hang")
    rig.expect(ReportStarted)
    until(lambda: (order.task_dir / "result").read_bytes() == b"early")
    rig.restart()
    rig.drivers.adopt(order, Inputs(b"the payload\n"), started=False)
    rig.expect(ReportStarted)
    rig.drivers.stop(1, 1, "SIGTERM")
    assert rig.expect(ReportEnded).result == b"early"
    assert rig.engine.attempts[order.ref].starts == 1


def test_created_and_not_started(rig: Rig) -> None:
    order = rig.order("exit=5")
    rig.engine.create(order)
    rig.drivers.adopt(order, Inputs(), started=False)
    rig.expect(ReportStarted)
    assert rig.expect(ReportEnded).exit_code == 5


def test_adopted_running_and_ended(rig: Rig) -> None:
    order = rig.start("lines=3", "sleep=0.05", "lines=6", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.output())
    rig.restart()
    rig.drivers.adopt(order, None, started=True)
    until(lambda: len(rig.output()) == 9)
    rig.restart()
    rig.engine.attempts[order.ref].signal("SIGTERM")
    until(lambda: rig.engine.attempts[order.ref].phase is Phase.EXITED)
    rig.drivers.adopt(order, None, started=True, stopping=True)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (143, False)
    assert rig.output() == [b"line %d" % i for i in (0, 1, 2, 0, 1, 2, 3, 4, 5)]
    assert all(note.startswith("adopted: ") for note in rig.notes())
    assert rig.reports.empty()


def test_result_kinds(rig: Rig) -> None:
    rig.finish(rig.start("result=", "exit=0"))
    rig.expect(ReportStarted)
    assert rig.expect(ReportEnded).result is None
    rig.start("result=" + "r" * 5000)
    rig.expect(ReportStarted)
    result = rig.expect(ReportEnded).result
    assert isinstance(result, Body)
    assert rig.bodies.read(result) == b"r" * 5000


def test_unexpected_error_ends_the_daemon(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    def fail(call: str) -> None:
        if call == "ending":
            raise RuntimeError("a bug")

    rig.engine.hook = fail
    rig.start("exit=0")
    rig.expect(ReportStarted)
    assert str(rig.fatal.get(timeout=30)) == "a bug"
    assert rig.reports.empty()
    rig.engine.hook = lambda call: None
    rig.close()


# ---- the pool


def test_close_leaves_attempts_running(rig: Rig) -> None:
    order = rig.start("hang")
    rig.expect(ReportStarted)
    until(lambda: rig.drivers.samples() == {1: 1 << 20})
    assert rig.drivers.close(30)
    assert rig.engine.attempts[order.ref].phase is Phase.RUNNING
    rig.drivers.start(rig.order("hang", run=2), Inputs())
    assert len(rig.drivers) == 0
    assert rig.reports.empty()


def test_close_while_everything_waits(rig: Rig) -> None:
    rig.engine.set_reachable(False)
    rig.start("hang")
    rig.drivers.adopt(rig.order("hang", run=2), None, started=True)
    rig.drivers.discard(3, 1, "jobd-00000000-3-1", "img")
    until(lambda: rig.engine.calls.get("discard", 0) > 1)
    assert rig.drivers.close(30)
    assert rig.reports.empty()


def test_discard_without_a_driver(rig: Rig) -> None:
    order = rig.start("exit=0")
    rig.expect(ReportStarted)
    rig.expect(ReportEnded)
    rig.restart()
    rig.engine.fail("discard", AWAY)
    rig.finish(order)
    assert not rig.engine.attempts
    assert not (rig.path / "work/1.1").exists()

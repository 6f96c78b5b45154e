"""Every line of output exactly once: over broken streams, restarts, floods and full disks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.core.commands import Body, ReportEnded, ReportStarted
from jobd.engine.base import EngineUnreachableError, Phase
from jobd.engine.fake import FakeEngine
from tests.support.attempt_rig import FAST, PATIENCE, Rig, file_size_limit, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def coarse_clock(chance: random.Random) -> Callable[[], int]:
    """Time that stands still for some lines, as two may bear the same nanosecond, or leaps.

    With leaps an output lasts longer than what is read again of it.
    """
    last = time.time_ns() - 3600 * 10**9
    leap = chance.choice([0, 1_000_000, 300_000_000])

    def now() -> int:
        nonlocal last
        if chance.random() < 0.5:
            last += 1000 + chance.randrange(0, 2 * leap + 1)
        return last

    return now


@pytest.mark.parametrize("seed", range(200))
def test_streams_that_break_anywhere(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    engine = FakeEngine(clock_ns=coarse_clock(chance), heartbeat_s=0.005)
    # on a busy machine the engine is "away" for longer than FAST leaves without a note
    rig = Rig(tmp_path, engine, timing=replace(FAST, notice=PATIENCE))
    breaks = [chance.randrange(0, 60) for _ in range(chance.randrange(1, 10))]

    def next_break() -> int | None:
        if not breaks:
            return None
        if all(attempt.phase is Phase.EXITED for attempt in engine.attempts.values()):
            # all that tells a broken stream from one that ended is an engine that went away
            engine.fail("phase", EngineUnreachableError("away"))
        return breaks.pop()

    engine.breaks = next_break
    counts = [chance.randrange(1, 40) for _ in range(3)]
    words = [word for count in counts for word in (f"lines={count}", "sleep=0.002")]
    order = rig.start(*words)
    rig.expect(ReportStarted)
    for _ in range(chance.randrange(0, 3)):
        time.sleep(chance.random() * 0.004)
        if rig.reports.empty():
            rig.restart()
            if not rig.reports.empty():
                rig.reports.get()  # it ended in the daemon's last moment, and was not recorded
            rig.drivers.adopt(order, None, started=True)
    ended = rig.expect(ReportEnded)
    wanted = [b"line %d" % index for count in counts for index in range(count)]
    assert rig.output() == wanted
    assert ended.exit_code == 0
    assert ended.log_bytes == sum(len(line) + 1 for line in wanted)
    assert not ended.log_truncated
    assert all(note.startswith("adopted: ") for note in rig.notes())
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def test_parts_of_lines(rig: Rig) -> None:
    rig.start("part=no newline", "eprint=whole", "part=the end")
    rig.expect(ReportStarted)
    ended = rig.expect(ReportEnded)
    assert ended.log_tail == b"no newlinewhole\nthe end"
    assert ended.log_bytes == len(ended.log_tail)
    assert [entry.partial for entry in rig.log()] == [True, False, True]


def test_flood(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_limit=40_000)
    rig.start("flood=400000", "exit=2")
    rig.expect(ReportStarted)
    ended = rig.expect(ReportEnded)
    assert ended.log_truncated
    assert ended.log_bytes == 400_000
    output = rig.output()
    numbers = [int(line) for line in output]
    first = len([n for i, n in enumerate(numbers) if n == i])
    # 141 bytes a line in the file: 141 of them in each half
    assert 138 <= first <= 142
    assert numbers[first:] == list(range(4000 - len(numbers) + first, 4000))
    assert 278 <= len(numbers) <= 284
    left_out = 4000 - len(numbers)
    assert rig.notes()[-1].startswith(f"cut: {left_out} lines, {left_out * 100} bytes ")
    assert ended.log_tail == b"".join(b"%099d\n" % i for i in range(3900, 4000))[-8192:]
    assert (tmp_path / "log/job/1.1.log").stat().st_size < 41_000
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def test_flood_is_not_followed_and_restarts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_limit=40_000)
    order = rig.start("flood=100000", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.notes() != [])
    assert rig.notes()[0].startswith("full: ")
    looks = rig.engine.calls.get("ending", 0)
    until(lambda: rig.engine.calls.get("ending", 0) > looks + 2)
    assert rig.engine.calls["output"] == 1
    rig.restart()
    rig.drivers.adopt(order, None, started=True)
    looks = rig.engine.calls["ending"]
    until(lambda: rig.engine.calls["ending"] > looks + 2)
    assert rig.engine.calls["output"] == 1
    rig.drivers.stop(1, 1, "SIGTERM")
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.log_truncated, ended.log_bytes) == (143, True, 100_000)
    assert rig.output()[-1] == b"%099d" % 999
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def test_disk_full_for_a_while(rig: Rig) -> None:
    with file_size_limit(20_000):
        rig.start("flood=50000", "hang")
        rig.expect(ReportStarted)
        until(lambda: sum("log not written" in text for text in rig.said) > 2)
    until(lambda: len(rig.output()) == 500)
    rig.drivers.stop(1, 1, "SIGTERM")
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.log_truncated, ended.log_bytes) == (143, False, 50_000)
    assert rig.output() == [b"%099d" % i for i in range(500)]
    assert [note.split(":")[0] for note in rig.notes()] == ["gap"]


def test_disk_full_to_the_end(rig: Rig) -> None:
    with file_size_limit(20_000):
        rig.start("flood=50000", "result=kept", "exit=9")
        rig.expect(ReportStarted)
        ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.result, ended.log_truncated) == (9, b"kept", True)
    assert ended.log_bytes == 50_000
    assert ended.log_tail == b"".join(b"%099d\n" % i for i in range(400, 500))[-8192:]
    output = rig.output()
    assert output == [b"%099d" % i for i in range(len(output))]


@pytest.mark.parametrize("room_comes", [True, False])
def test_disk_full_for_the_result(rig: Rig, room_comes: bool) -> None:
    order = rig.start("result=" + "r" * 5500, "print=ready", "hang")
    rig.expect(ReportStarted)
    until(lambda: rig.output() == [b"ready"])
    with file_size_limit(5_000):
        rig.engine.attempts[order.ref].kill(0)
        until(lambda: any("room for the result" in text for text in rig.said))
        if not room_comes:
            ended = rig.expect(ReportEnded)
    if room_comes:
        ended = rig.expect(ReportEnded)
        assert isinstance(ended.result, Body)
        assert rig.bodies.read(ended.result) == b"r" * 5500
    else:
        assert ended.result is None
        assert "result lost" in str(ended.note)
    assert ended.exit_code == 0

"""A payload on standard input: whole, or the attempt's end is the host's fault."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.core.commands import ReportEnded, ReportStarted
from jobd.daemon import stdin
from jobd.daemon.stdin import CUT, PayloadInput
from jobd.daemon.workdir import Inputs
from jobd.engine.base import Order
from jobd.engine.feeding import Feeder
from tests.support.attempt_rig import Rig, until


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(stdin, "GRACE_S", 0.2)
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    assert rig.fatal.empty(), rig.fatal.get()


def fed(rig: Rig, *command: str) -> Order:
    """An order whose payload is its standard input."""
    order = rig.order(*command)
    return replace(order, stdin=PayloadInput(order.task_dir.parent))


def test_the_whole_payload_is_read(rig: Rig) -> None:
    order = fed(rig, "stdin")
    rig.drivers.start(order, Inputs(b"one\n" * 100_000))
    rig.expect(ReportStarted)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (0, False)
    assert ended.log_bytes == 400_000
    until((order.task_dir.parent / "stdin").exists)


def test_who_does_not_read_it_is_not_waited_for(rig: Rig) -> None:
    order = fed(rig, "print=done", "exit=3")
    rig.drivers.start(order, Inputs(b"x" * (8 << 20)))
    rig.expect(ReportStarted)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault, ended.error) == (3, False, None)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("stdin")])
    rig.finish(order)


def test_an_adopted_attempt_that_had_it_all_goes_on(rig: Rig) -> None:
    order = fed(rig, "stdin", "sleep=0.2")
    rig.drivers.start(order, Inputs(b"all\n"))
    rig.expect(ReportStarted)
    until((order.task_dir.parent / "stdin").exists)
    rig.restart()
    rig.drivers.adopt(fed(rig, "stdin", "sleep=0.2"), None, started=True)
    ended = rig.expect(ReportEnded)
    assert (ended.exit_code, ended.host_fault) == (0, False)


@pytest.mark.parametrize("command", [("hang",), ("exit=0",)])
def test_one_whose_payload_was_cut_short_by_a_restart_is_the_hosts_fault(
    rig: Rig, command: tuple[str, ...]
) -> None:
    """Also where it says that all went well: it had read a part and an end."""
    plain = rig.order(*command)
    rig.drivers.workdir(1, 1).prepare(Inputs(b"payload"))
    rig.engine.create(plain).start()
    rig.drivers.adopt(fed(rig, *command), None, started=True)
    ended = rig.expect(ReportEnded)
    assert ended.host_fault
    assert ended.error == CUT


def test_one_that_was_started_by_a_call_whose_answer_was_lost_is_cut_short_too(rig: Rig) -> None:
    rig.drivers.workdir(1, 1).prepare(Inputs(b"payload"))
    rig.engine.create(rig.order("hang")).start()
    rig.drivers.start(fed(rig, "hang"), Inputs(b"payload"))
    rig.expect(ReportStarted)
    assert rig.expect(ReportEnded).host_fault


class Ends:
    """A stream whose other end the test holds."""

    def __init__(self) -> None:
        self.sock, self.other = socket.socketpair()
        self.closed = False

    def close(self) -> None:
        self.sock.close()
        self.closed = True


class Source:
    """An input that remembers what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[bool] = []
        self.over = False

    def open(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def begun(self) -> None:
        pass

    def settled(self, whole: bool) -> None:
        self.told.append(whole)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "payload").write_bytes(b"x" * (4 << 20))
    return Source(tmp_path / "payload")


def test_a_stream_that_breaks_is_told(source: Source) -> None:
    ends = Ends()
    Feeder(ends, source, "x").begin()
    assert ends.other.recv(10)
    ends.other.close()
    until(lambda: ends.closed)
    assert source.told == [False]


def test_an_engine_that_ends_the_stream_before_it_is_all_written_broke_it(source: Source) -> None:
    ends = Ends()
    Feeder(ends, source, "x").begin()
    ends.other.shutdown(socket.SHUT_WR)
    until(lambda: ends.closed)
    assert source.told == [False]
    ends.other.close()


def test_an_end_of_the_attempt_ends_the_writing(source: Source) -> None:
    ends = Ends()
    Feeder(ends, source, "x").begin()
    source.over = True
    until(lambda: ends.closed)
    assert source.told == [True]
    ends.other.close()


def test_a_payload_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "payload").symlink_to("/etc/passwd")
    ends = Ends()
    with pytest.raises(OSError):
        Feeder(ends, PayloadInput(tmp_path), "x")
    assert ends.closed
    ends.other.close()

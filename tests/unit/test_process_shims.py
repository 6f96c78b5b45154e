"""Shims that run one attempt after the other, and the server that forks them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.engine.base import Order
from jobd.engine.shim import main as shim
from jobd.engine.shim.records import DONE, process_state
from jobd.engine.spreading import spread
from tests.support.processes import Bench, open_folder
from tests.support.waiting import until


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_folder() as path:
        made = Bench(path)
        yield made
        made.close()


def finish(bench: Bench, order: Order) -> int:
    """Have it ended and discarded; the pid of its shim."""
    pid = bench.shim(order)
    bench.ended(order)
    bench.engine.discard(order.ref)
    return pid


def server(pid: int) -> int:
    """Who has forked a shim."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def lives(pid: int) -> bool:
    try:
        return process_state(pid)[0] not in ("Z", "X")
    except OSError:
        return False


def test_a_shim_runs_one_attempt_after_the_other(bench: Bench) -> None:
    pids = []
    for number in range(4):
        script = f"echo {number}; ls /proc/self/fd | wc -w; echo oops >&2; exit {number}"
        order = bench.start(script)
        pids.append(bench.shim(order))
        assert bench.text(order).split() == [b"%d" % number, b"4"]
        ending = bench.ended(order)
        assert ending.exit_code == number
        assert ending.notes == ()
        assert ending.cut == (0, 0)
        bench.engine.discard(order.ref)
    assert len(set(pids)) == 1
    # its three streams, its channel, four pipes to the next command: nothing of earlier ones
    until(lambda: len(os.listdir(f"/proc/{pids[0]}/fd")) == 8)


def test_one_that_was_killed_while_it_waited_is_replaced(bench: Bench) -> None:
    first = finish(bench, bench.start("true"))
    os.kill(first, signal.SIGKILL)
    until(lambda: not lives(first))
    order = bench.start("exit 5")
    assert bench.shim(order) != first
    assert bench.ended(order).exit_code == 5


def test_one_whose_command_left_no_trace_of_itself_goes_on(bench: Bench) -> None:
    first = bench.start("sleep 300 & setsid sleep 300 </dev/null >/dev/null 2>&1 & echo done")
    pid = finish(bench, first)
    order = bench.start("echo $PPID")
    assert bench.text(order) == b"%d\n" % pid


def test_a_killed_server_costs_nothing(bench: Bench) -> None:
    order = bench.start('until [ -e "$SAID/go" ]; do sleep 0.01; done; exit 3')
    before = server(bench.shim(order))
    os.kill(before, signal.SIGKILL)
    other = bench.start("exit 4")
    assert server(bench.shim(other)) not in (before, 1, os.getpid())
    (bench.path / "said" / "go").touch()
    assert bench.ended(order).exit_code == 3
    assert bench.ended(other).exit_code == 4


def test_without_a_daemon_only_what_runs_is_left(bench: Bench) -> None:
    waiting = finish(bench, bench.start("true"))
    orders = [bench.start("sleep 300") for _ in range(2)]
    running = [bench.shim(order) for order in orders]
    assert waiting in running
    above = server(waiting)
    finished = bench.start("true")
    idle = finish(bench, finished)
    bench.engine.close()
    until(lambda: not lives(above) and not lives(idle))
    assert all(map(lives, running))
    bench.engine = bench.another()
    for order in orders:
        bench.engine.signal(order.ref, "SIGTERM")
        assert bench.ended(order).exit_code == 143


def test_the_end_is_the_shims_to_sync_unless_the_daemon_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shim, "DONE_PATIENCE", 0.05)
    for said, done in ((DONE, True), (b"", False), (None, False)):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            if said is None:
                pass  # the daemon lives and is slow
            elif said:
                ours.send(said)
            else:
                ours.close()
            assert shim.is_done(theirs.fileno()) is done


@pytest.mark.parametrize("daemon", ["follows", "is gone"])
def test_an_end_that_the_daemon_has_not_is_synced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, daemon: str
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(tmp_path, os.O_RDONLY)
    with ours, theirs:
        if daemon == "follows":
            ours.send(DONE)
        else:
            ours.close()
        data = b"log_bytes=1000\0end=\0"
        attempt = shim.Attempt(folder, shim.Order(data), theirs.fileno())
        attempt._end(shim.Reaped(0), shim.ENDED, {})
        assert bool(synced) is (daemon == "is gone")
    os.close(folder)


def test_folders_are_spread_where_the_file_system_can(tmp_path: Path) -> None:
    spread(tmp_path)
    spread(tmp_path)
    (tmp_path / "one").mkdir()
    spread(tmp_path / "absent")
    spread(Path("/proc/self"))

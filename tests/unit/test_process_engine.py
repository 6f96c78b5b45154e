"""Attempts as processes of the host: real shims, real signals, real crashes."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.engine.attemptfolder import AttemptFolder
from jobd.engine.base import (
    EngineUnreachableError,
    GoneError,
    OrphanedError,
    Phase,
    Started,
    StartRefusedError,
    Stream,
)
from jobd.engine.cage import Cage, Cages
from jobd.engine.launch import Launcher
from jobd.engine.process import ProcessEngine
from jobd.engine.shim.records import encode
from tests.support.processes import STORE, Bench, open_folder, processes_of
from tests.support.waiting import until


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_folder() as path:
        made = Bench(path)
        yield made
        made.close()


def test_output_and_status_are_what_the_command_gave(bench: Bench) -> None:
    order = bench.start('cat "$TASK_DIR/payload"; echo oops >&2; printf end; exit 7')
    assert bench.text(order) == b"payload\nend"
    assert bench.text(order, Stream.STDERR) == b"oops\n"
    ending = bench.ended(order)
    assert (ending.exit_code, ending.oom, ending.host_fault) == (7, False, False)
    assert ending.started_at <= ending.finished_at
    assert ending.usage.cpu_seconds is not None
    assert ending.usage.memory_peak
    assert ending.usage.memory_peak_source == ("parent" if Cages().usable() else "rusage")
    assert bench.engine.phase(order.ref) is Phase.EXITED
    bench.engine.discard(order.ref)
    with pytest.raises(GoneError):
        bench.engine.ending(order.ref)
    assert os.listdir(bench.root) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("no-such-command",), 127),
        (("/absent/program",), 127),
        (("/etc/passwd",), 126),
        (("/",), 126),
    ],
)
def test_a_command_that_cannot_run_is_refused(
    bench: Bench, command: tuple[str, ...], code: int
) -> None:
    order = bench.order(command=command)
    for _ in range(2):
        with pytest.raises(StartRefusedError, match=command[0]) as refused:
            bench.engine.start(order, print)
        assert refused.value.exit_code == code


def test_what_the_host_denies_is_no_fault_of_the_command(bench: Bench) -> None:
    order = bench.order('echo begun >>"$SAID/said"')
    order.task_dir.rename(order.task_dir.with_name("away"))
    for _ in range(2):
        with pytest.raises(EngineUnreachableError, match="job: No such file"):
            bench.engine.start(order, print)
    order.task_dir.with_name("away").rename(order.task_dir)
    bench.engine.start(order, print)
    assert bench.ended(order).exit_code == 0
    assert bench.said() == ["begun"]


def test_doing_it_twice_finds_what_the_first_time_made(bench: Bench) -> None:
    order = bench.order('echo begun >>"$SAID/said"; sleep 0.3; echo over >>"$SAID/said"')
    started: list[Started] = []
    engines = [bench.engine, bench.another(), bench.another()]
    threads = [
        threading.Thread(target=lambda e=engine: started.append(e.start(order, print)))  # type: ignore[misc]
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.ended(order)
    started.append(bench.another().start(order, print))
    assert len(started) == 4
    assert len(set(started)) == 1
    assert bench.said() == ["begun", "over"]


def test_it_outlives_its_engine_and_is_taken_over(bench: Bench) -> None:
    order = bench.start(
        "i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.02; done; exit 3"
    )
    batches = bench.engine.output(order.ref, 0)
    had = list(next(b for b in batches if b))
    batches.close()  # type: ignore[attr-defined]
    bench.engine.close()
    bench.engine = bench.another()
    found = bench.engine.found()
    assert [(one.ref, one.labels) for one in found] == [(order.ref, order.labels)]
    rest = bench.output(order, had[-1].time_ns)
    assert rest[0] == had[-1] or rest[0] in had, "from that time on, inclusive"
    lines = had + [line for line in rest if line not in had]
    assert [line.data for line in lines] == [b"%d" % n for n in range(30)]
    assert bench.ended(order).exit_code == 3


def test_a_stop_reaches_the_whole_group(bench: Bench) -> None:
    order = bench.start("sleep 300 & sleep 300 & echo up; wait")
    until(lambda: len(processes_of(order.task_dir)) == 3)
    bench.engine.signal(order.ref, "SIGTERM")
    assert bench.ended(order).exit_code == 143
    assert processes_of(order.task_dir) == []
    bench.engine.signal(order.ref, "SIGKILL")  # one that has ended is left alone


def test_what_a_command_leaves_behind_is_ended_with_it(bench: Bench) -> None:
    # one holds the pipe, one has a session and streams of its own
    order = bench.start("sleep 300 & setsid sleep 300 </dev/null >/dev/null 2>&1 & echo done")
    ending = bench.ended(order)
    assert ending.exit_code == 0
    assert bench.text(order) == b"done\n"
    assert processes_of(order.task_dir) == []
    assert "2 processes" in " ".join(ending.notes)


def test_a_killed_shim_is_a_lost_attempt_and_its_command_is_ended(bench: Bench) -> None:
    # the kernel ends the command with its shim; what that has begun goes on, in another session
    order = bench.start('setsid sh -c "echo begun >>$SAID/said; sleep 300" & wait')
    until(bench.said)
    os.kill(bench.shim(order), signal.SIGKILL)
    until(lambda: AttemptFolder(bench.root, order.ref).look().orphaned)
    assert processes_of(order.task_dir), "the test means nothing"
    with pytest.raises(OrphanedError, match="processes of it were still there and were ended"):
        bench.engine.ending(order.ref)
    assert processes_of(order.task_dir) == []
    with pytest.raises(OrphanedError):
        bench.engine.phase(order.ref)
    bench.engine.start(order, print)
    assert bench.said() == ["begun"], "what has begun is never begun again"


def test_a_shim_that_died_before_the_command_began_is_followed_by_another(bench: Bench) -> None:
    order = bench.order('echo begun >>"$SAID/said"')
    folder = AttemptFolder(bench.root, order.ref)
    folder.make(order.labels, order.task_dir)
    claim = {"pid": os.getpid(), "start": "1", "boot": "other"}
    (folder.path / "claim.1").write_bytes(encode(claim))
    assert bench.engine.phase(order.ref) is Phase.CREATED
    bench.engine.start(order, print)
    assert bench.ended(order).exit_code == 0
    assert bench.said() == ["begun"]
    assert folder.look().launches == 2


def test_a_shim_that_is_killed_at_any_moment_begins_nothing_twice(bench: Bench) -> None:
    seed = int(os.environ.get("JOBD_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"JOBD_TEST_SEED={seed}")
    chance = random.Random(seed)
    ends = Counter[str]()
    for number in range(25):
        order = bench.order(f'echo {number} >>"$SAID/said"; sleep 0.03')
        killer = threading.Timer(chance.uniform(0.0, 0.05), chance.choice(KILLS), [order.ref])
        killer.start()
        try:
            bench.engine.start(order, print)
        except EngineUnreachableError:
            killer.join()
            bench.engine.start(order, print)  # it had not begun: as a driver tries again
        killer.join()
        try:
            assert bench.ended(order).exit_code == 0
            ends["whole"] += 1
            assert bench.said().count(str(number)) == 1
        except OrphanedError:
            ends["lost"] += 1
            assert bench.said().count(str(number)) <= 1
    assert len(bench.said()) == len(set(bench.said()))
    assert ends["whole"], ends
    until(lambda: not shims(str(bench.path)))  # neither they nor what they had forked


def shims(place: str) -> list[int]:
    """Every shim whose title names that place, and what it has forked that is no command yet."""
    titles: dict[int, list[bytes]] = {}
    parents: dict[int, int] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = (Path("/proc") / name / "cmdline").read_bytes().split(b"\0")
            stat = (Path("/proc") / name / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        if words[0] == b"jobd-shim":
            titles[int(name)], parents[int(name)] = words, int(stat[1])
    named = {pid for pid, words in titles.items() if any(place.encode() in w for w in words)}
    return sorted(pid for pid in titles if pid in named or parents[pid] in named)


def kill_shims(place: str) -> None:
    """SIGKILL to every shim of a place, however far it is."""
    for pid in shims(place):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_shim_alone(ref: str) -> None:
    """SIGKILL to the shim, and not to what it has forked: the first of them."""
    for pid in sorted(shims(ref))[:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended


KILLS = (kill_shims, kill_shim_alone)


def test_what_was_discarded_in_time_never_begins(bench: Bench) -> None:
    order = bench.order('echo begun >>"$SAID/said"')
    folder = AttemptFolder(bench.root, order.ref)
    folder.make(order.labels, order.task_dir)
    assert folder.close_off(1)
    # a shim on its way, of a daemon that was killed: it finds its claim taken
    launcher = Launcher()
    channel = launcher.launch(folder, 1, order, bench.who, Cage())
    assert (channel.gone, channel.failed) == (True, "")
    channel.close()
    launcher.close()
    assert bench.said() == []
    bench.engine.discard(order.ref)
    assert not folder.exists()


def test_one_that_runs_is_not_discarded(bench: Bench) -> None:
    order = bench.start("sleep 300")
    with pytest.raises(EngineUnreachableError, match="still runs"):
        bench.engine.discard(order.ref)
    assert bench.engine.phase(order.ref) is Phase.RUNNING
    assert bench.engine.ending(order.ref) is None


def test_after_a_new_start_of_the_host_it_was_interrupted(bench: Bench) -> None:
    order = bench.start("sleep 300")
    os.kill(bench.shim(order), signal.SIGKILL)
    folder = bench.root / order.ref
    claim = (folder / "claim.1").read_text().splitlines()
    (folder / "claim.1").write_text("\n".join([*claim[:2], "boot another", "end", ""]))
    (folder / "started").write_bytes(b"")  # the name alone outlives a power cut
    ending = bench.ended(order)
    assert ending.host_fault is True
    assert ending.error == "the host was started anew"
    assert bench.engine.phase(order.ref) is Phase.EXITED


def test_a_flood_is_bounded_and_what_was_cut_is_counted(bench: Bench) -> None:
    order = bench.start("seq 1000000", log_bytes=1 << 18)
    ending = bench.ended(order)
    lines = [int(line.data) for line in bench.output(order)]
    cut = next(i for i, n in enumerate(lines) if i and n != lines[i - 1] + 1)
    assert lines[:cut] == list(range(1, cut + 1))
    assert lines[cut:] == list(range(lines[cut], 1_000_001))
    missing = range(cut + 1, lines[cut])
    assert ending.cut == (len(missing), sum(len(str(n)) + 1 for n in missing))
    kept = sum(p.stat().st_size for p in (bench.root / order.ref).glob("out.*"))
    assert kept <= 1.5 * (1 << 18) + 3 * (80 << 10), "each segment by a frame more at most"
    assert sum(len(str(n)) + 1 for n in lines) >= 1 << 18, "as much as was asked for is kept"


def test_it_starts_with_nothing_of_jobds(bench: Bench) -> None:
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        order = bench.start(
            "ls /proc/$$/fd | wc -w; grep -E '^(Uid|Groups|NoNewPrivs|SigIgn|Max core)' "
            "/proc/$$/status; cat /proc/$$/oom_score_adj; ulimit -c; umask; pwd; env"
        )
    finally:
        os.close(secret)
    rows = bench.text(order).decode().splitlines()
    assert int(rows[0]) <= 4, "its three streams, and what the shell opens to run a script"
    assert "NoNewPrivs:\t1" in rows
    assert f"SigIgn:\t{0:016x}" in rows
    assert rows.count("500") == 1
    assert str(order.task_dir) in rows
    if bench.who.changes:
        assert f"Uid:\t{bench.who.uid}\t{bench.who.uid}\t{bench.who.uid}\t{bench.who.uid}" in rows
        assert "Groups:\t " in rows
    names = {row.partition("=")[0] for row in rows if "=" in row}
    assert names == {"PATH", "LANG", "HOME", "USER", "LOGNAME", "PWD", "TASK_DIR", "SAID"}


def test_memory_is_bounded(bench: Bench) -> None:
    code = "x = bytearray(200 << 20); print(len(x))"
    if bench.who.changes:
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else ""
        if not python:
            pytest.skip("no python that every user can reach")
    else:
        python = sys.executable
    order = bench.start(command=(python, "-c", code), memory=64 << 20)
    ending = bench.ended(order)
    assert ending.exit_code != 0
    assert bench.text(order) == b""
    if Cages().usable():
        assert ending.oom


def test_where_nobody_can_be_given_the_process_none_is_started(bench: Bench) -> None:
    engine = ProcessEngine(bench.root, bench.work, STORE, "there is no user for them")
    order = bench.order("true")
    for call in (engine.connect, lambda: engine.start(order, print)):
        with pytest.raises(EngineUnreachableError, match="no user"):
            call()
    bench.engine.start(order, print)
    assert bench.ended(order, engine).exit_code == 0, "what runs is looked after all the same"

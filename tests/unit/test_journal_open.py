"""Opening, closing, threads and refusals on the real file system."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobd.errors import AlreadyRunningError, ConfigError, QueueDamagedError
from jobd.journal import MAX_PAYLOAD, MAX_RECORDS, Fs, Journal, RecordIn, record_cost
from jobd.journal.live import LiveSegment
from jobd.journal.segment import Header


def open_at(path: Path, **options: int) -> Journal:
    return Journal.open(path, **{"segment_bytes": 1 << 20, "reserve_bytes": 1 << 16, **options})


def rec(number: int, body: bytes = b"body") -> RecordIn:
    return RecordIn(1, 2, number, 1, body)


def test_a_new_queue(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    assert list(journal.replay()) == []
    assert len(journal.store) == 16
    assert journal.report.clean
    assert journal.stats().lsn == 0
    assert not journal.idle()
    journal.write([rec(1)])
    assert journal.stats().lsn == journal.stats().syncs == 1
    assert journal.idle()
    assert not journal.idle()
    assert journal.write([]) == []
    store = journal.store
    journal.close()
    journal.close()
    journal = open_at(tmp_path / "q")
    assert journal.store == store
    assert [r.lsn for r in journal.replay()] == [1]
    journal.close()
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "q").iterdir()} == {0o600}
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700


def test_an_idle_queue_writes_little(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "q")
    for _ in range(20):
        journal.spare()
    written = sum(p.stat().st_size for p in (tmp_path / "q").glob("*") if p.name != "reserve")
    assert written <= (2 << 20) + 4096
    assert journal.room() > 100 << 20
    journal.close()
    left = {p.name for p in (tmp_path / "q").iterdir()}
    assert left == {"LOCK", "reserve", "seg-00000000000000000001.log"}
    # the space behind the data is given back
    assert (tmp_path / "q" / "seg-00000000000000000001.log").stat().st_blocks * 512 <= 16384


def test_the_report_of_an_unclean_end(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    journal.write([rec(1)])
    journal.close(clean=False)
    lines: list[str] = []
    (path,) = (tmp_path / "q").glob("seg-*.log")
    size = len(path.read_bytes().rstrip(b"\0"))
    size += -size % 8
    with path.open("r+b") as file:
        file.seek(size)
        file.write(b"JBAT and then the power went")
    journal = Journal.open(tmp_path / "q", segment_bytes=1 << 20, log=lines.append)
    report = journal.report
    assert not report.clean
    assert (report.torn_file, report.torn_offset, report.torn_bytes) == (str(path), size, 28)
    assert report.quarantine is not None
    assert Path(report.quarantine).read_bytes() == b"JBAT and then the power went"
    assert lines == list(report.lines)
    assert str(size) in lines[0]
    assert path.stat().st_size == size
    assert [r.id for r in journal.replay()] == [1]
    journal.close()


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    code = (
        "import sys; from jobd.journal import Journal; from jobd.errors import JobdError\n"
        "try: Journal.open(sys.argv[1])\n"
        "except JobdError as error: print(error.status, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "q"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("73 ")
    assert f"pid {os.getpid()}" in run.stdout
    with pytest.raises(AlreadyRunningError) as caught:
        open_at(tmp_path / "q")
    assert caught.value.details["pid"] == os.getpid()
    journal.write([rec(1)])
    journal.close()
    open_at(tmp_path / "q").close()


def test_a_lock_that_a_dead_daemons_child_still_holds_is_waited_for(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from jobd.journal import Journal\n"
        "journal = Journal.open(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    print('forked', flush=True); time.sleep(0.3); os._exit(0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "q"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.wait() == -9
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"forked\n"
        open_at(tmp_path / "q").close()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "q").mkdir()
    (tmp_path / "q").chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        open_at(tmp_path / "q")
    assert list((tmp_path / "q").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q").mkdir(mode=0o700)
    os.chown(tmp_path / "q", 65534, 65534)
    with pytest.raises(ConfigError, match="uid 65534"):
        open_at(tmp_path / "q")


def test_a_missing_parent_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        open_at(tmp_path / "no" / "q")


def test_a_link_in_the_place_of_a_segment_is_refused(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    journal.close()
    (path,) = (tmp_path / "q").glob("seg-*.log")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QueueDamagedError, match="symbolic links"):
        open_at(tmp_path / "q")


def test_limits_of_a_batch(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    with pytest.raises(ValueError, match="at most"):
        journal.write([rec(1)] * (MAX_RECORDS + 1))
    with pytest.raises(ValueError, match="at most"):
        journal.write([rec(1, bytes(MAX_PAYLOAD))])
    largest = bytes(MAX_PAYLOAD - record_cost(0))
    (where,) = journal.write([rec(2, largest)])
    places = journal.write([rec(number, b"") for number in range(MAX_RECORDS)])
    assert journal.read(where) == largest
    assert journal.read(places[-1]) == b""
    assert sum(1 for _ in journal.replay()) == MAX_RECORDS + 1
    journal.close()


def test_places_that_were_never_given(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "q")
    (where,) = journal.write([rec(1)])
    assert journal.read(where) == b"body"
    for wrong in (-1, 0, where + (1 << 40), where + 4096):
        with pytest.raises(ValueError, match="no record at"):
            journal.read(wrong)
    with pytest.raises(QueueDamagedError):
        journal.read(where + 4)
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.write([rec(2)])
    with pytest.raises(ValueError, match="closed"):
        journal.read(where)
    journal.spare()  # a background thread may come late


def test_reading_from_more_segments_than_are_kept_open(tmp_path: Path) -> None:
    places = []
    for number in range(40):
        journal = open_at(tmp_path / "q", reserve_bytes=0)
        journal.write([rec(number, b"%d" % number)])
        journal.close()
    journal = open_at(tmp_path / "q")
    places = [(r.id, r.where) for r in journal.replay()]
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert all(journal.read(where) == b"%d" % number for number, where in places)
    assert len(os.listdir("/proc/self/fd")) <= before + 32
    journal.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_filling_ahead_and_reading_beside_the_writer(tmp_path: Path) -> None:
    """The zeroes of the background thread never hit a batch; readers get what was written."""
    journal = open_at(tmp_path / "q", segment_bytes=3 << 20)
    bodies: list[tuple[int, bytes]] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def background(work: threading.Event) -> None:
        try:
            while not stop.is_set():
                journal.spare()
                for where, body in bodies[-20:]:
                    assert journal.read(where) == body
                work.wait(0.0005)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=background, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(500):
        body = os.urandom(100) + bytes([number % 256]) * (number * 37 % 60_000)
        (where,) = journal.write([rec(number, body)])
        bodies.append((where, body))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(journal.read(where) == body for where, body in bodies)
    journal.close(clean=False)
    journal = open_at(tmp_path / "q")
    assert [r.body for r in journal.replay()] == [body for _, body in bodies]
    assert not journal.report.torn_bytes
    journal.close()


class Slow(Fs):
    """Calls `meanwhile` in the middle of the first fill."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile: Callable[[], None] | None = meanwhile

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.meanwhile is not None and len(data) == 1 << 20:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().pwrite(fd, data, offset)


@pytest.mark.parametrize("second", ["claim", "fill"])
def test_nobody_enters_a_fill_that_is_under_way(tmp_path: Path, second: str) -> None:
    """A batch or another fill waits for its end; else zeroes could be written over a batch."""
    (tmp_path / "segment").touch()
    header = Header(bytes(16), 1, 1, 0, None)
    segment = LiveSegment(0, str(tmp_path / "segment"), header, 4096)
    segment.capacity, segment.filled = 8 << 20, 1 << 20
    order: list[str] = []

    def other() -> None:
        if second == "claim":
            segment.claim((1 << 20) + 100)
        else:
            segment.fill(Fs())
        order.append(second)

    thread = threading.Thread(target=other)

    def meanwhile() -> None:
        segment.claim(1 << 20)  # what ends before the fill need not wait
        thread.start()
        thread.join(0.2)  # gives a wrong one the time to get in; a right one is still waiting
        order.append("fill")

    segment.fill(Slow(meanwhile))
    thread.join()
    assert order == ["fill", second]
    assert segment.filled == (2 << 20 if second == "claim" else 3 << 20)


def test_an_empty_last_segment_is_replaced(tmp_path: Path) -> None:
    """Starts that write nothing and end uncleanly do not pile up files."""
    journal = open_at(tmp_path / "q")
    journal.write([rec(1)])
    journal.close()
    for _ in range(5):
        open_at(tmp_path / "q").close(clean=False)
    assert len(list((tmp_path / "q").glob("seg-*.log"))) == 2
    journal = open_at(tmp_path / "q")
    assert journal.stats().segments == 2
    journal.write([rec(2)])
    assert [r.id for r in journal.replay()] == [1, 2]
    journal.close()


def test_a_slow_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    journal = Journal.open(tmp_path / "q", segment_bytes=1 << 20, log=lines.append)
    journal.write([rec(1)])
    assert lines == []
    monkeypatch.setattr("jobd.journal.writer.SLOW_SYNC", -1.0)
    journal.write([rec(2)])
    assert "the disk is slow" in lines[0]
    journal.close()

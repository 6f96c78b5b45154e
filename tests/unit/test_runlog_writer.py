"""Log files: their form, their limit, and that no line is lost or doubled over any stop."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.engine.base import Line, Stream
from jobd.runlog.folder import LogFolder
from jobd.runlog.lines import MAX_DATA, MAX_LINE, encode, parse, stamp, time_of
from jobd.runlog.survey import overlap, survey
from jobd.runlog.tail import TailRing
from jobd.runlog.writer import LogWriter
from tests.support.attempt_rig import file_size_limit

T0 = 1_764_000_000_123_456_789


def lines(count: int, start: int = 0, step_ns: int = 1000) -> list[Line]:
    return [
        Line(T0 + i * step_ns, Stream.STDERR if i % 3 == 2 else Stream.STDOUT, b"line %d" % i)
        for i in range(start, start + count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> LogFolder:
    return LogFolder(tmp_path / "log")


def content(tmp_path: Path, name: str = "1.1.log") -> bytes:
    return (tmp_path / "log" / "job" / name).read_bytes()


def data_of(text: bytes, stream: str | None = None) -> list[bytes]:
    entries = [parse(line) for line in text.split(b"\n")[:-1]]
    assert all(entries)
    return [e.data for e in entries if e and (e.stream == stream if stream else e.stream != "jobd")]


def test_form(folder: LogFolder, tmp_path: Path) -> None:
    batch = [
        Line(0, Stream.STDOUT, b"first"),
        Line(T0, Stream.STDERR, b"\xff\x00 x", partial=True),
        Line(T0 + 1, Stream.STDERR, b""),
    ]
    with folder.writer("job", 1, 1) as log:
        assert log.resume() == 0
        assert log.append(batch) == 3
        log.note("two\nwords")
        log.finish()
        assert (log.log_bytes, log.truncated) == (6 + 4 + 1, False)
        assert log.last_words() == b"first\n\xff\x00 x\n"
    assert content(tmp_path) == (
        b"1970-01-01T00:00:00.000000000Z stdout F first\n"
        b"2025-11-24T16:00:00.123456789Z stderr P \xff\x00 x\n"
        b"2025-11-24T16:00:00.123456790Z stderr F \n"
        b"2025-11-24T16:00:00.123456790Z jobd F two words\n"
    )


def test_modes_and_links(folder: LogFolder, tmp_path: Path) -> None:
    folder.writer("job", 1, 1).close()
    assert stat.S_IMODE(os.stat(tmp_path / "log").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "log/job").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "log/job/1.1.log").st_mode) == 0o600
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "log/job/2.1.log").symlink_to(tmp_path / "other")
    with folder.writer("job", 2, 1) as log:
        assert log.stalled
        log.resume()
        log.append(lines(1))
        log.finish()
    with pytest.raises(OSError, match="symbolic"):
        folder.read("job", 2, 1, 0, 100)
    (tmp_path / "log/linked").symlink_to(tmp_path / "log/job")
    with pytest.raises(OSError, match="directory"):
        folder.read("linked", 1, 1, 0, 100)
    assert (tmp_path / "other").read_bytes() == b"precious"
    for name in ("", ".", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError, match="no name"):
            folder.writer(name, 1, 1)


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_stamp_and_back(time_ns: int) -> None:
    assert time_of(stamp(time_ns) + b" stdout F x") == time_ns


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"2025-11-24T16:00:00.123456789Z",
        b"2025-11-24T16:00:00.123456789Z stdin F x",
        b"2025-11-24T16:00:00.123456789Z stdout X x",
        b"2025-13-24T16:00:00.123456789Z stdout F x",
        b"2025-11-24T16:00:00.12345678 Z stdout F x",
        b"2025-11-24T16:00:00.+23456789Z stdout F x",
        b"\0" * 60,
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    assert parse(line) is None


@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=6), st.integers(0, 2))
def test_whatever_an_engine_hands_over(rows: list[tuple[bytes, bool]], long: int) -> None:
    batch = [Line(T0 + i, Stream.STDOUT, data, part) for i, (data, part) in enumerate(rows)]
    if long:
        batch.append(Line(T0 + 99, Stream.STDERR, b"y" * (MAX_DATA * long + 5)))
    encoded = encode(batch)
    assert all(len(line) <= MAX_LINE and line.count(b"\n") == 1 for line in encoded)
    entries = [parse(line[:-1]) for line in encoded]
    text = b"".join(e.data + (b"" if e.partial else b"\n") for e in entries if e)
    assert text == b"".join(line.data + (b"" if line.partial else b"\n") for line in batch)


def reopened(folder: LogFolder, batch: list[Line]) -> None:
    """A daemon that starts anew and reads the engine's output again."""
    with folder.writer("job", 1, 1) as log:
        since = log.resume()
        log.append([line for line in batch if line.time_ns >= since])


def test_cut_at_every_byte(folder: LogFolder, tmp_path: Path) -> None:
    batch = lines(7)
    # alike to the last byte, twice; and a little out of order
    batch[3] = batch[4] = Line(batch[4].time_ns, Stream.STDOUT, b"same")
    batch[5] = Line(batch[5].time_ns - 10_000, Stream.STDERR, b"late", partial=True)
    reopened(folder, batch)
    whole = content(tmp_path)
    path = tmp_path / "log/job/1.1.log"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        reopened(folder, batch)
        assert content(tmp_path) == whole, size
        path.write_bytes(whole[:size] + b"\0" * 5000)
        reopened(folder, batch)
        assert content(tmp_path) == whole, size


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.binary(max_size=3)), max_size=60),
    st.integers(0, 60),
    st.sampled_from([1, 1_000_000, 700_000_000]),
)
def test_read_again_from_any_line(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, bool, bytes]],
    stop: int,
    step_ns: int,
) -> None:
    time_ns, batch = T0, []
    for wait, stderr, data in rows:
        time_ns += wait * step_ns
        data = data.replace(b"\n", b"")
        batch.append(Line(time_ns, Stream.STDERR if stderr else Stream.STDOUT, data))
    root = tmp_path_factory.mktemp("log")
    folder = LogFolder(root)
    with folder.writer("job", 1, 1) as log:
        log.resume()
        log.append(batch[:stop])
        assert log.unmatched == 0
        # the stream breaks, and one that brings the end comes after one that does not
        for end in (stop, len(batch)):
            since = log.resume()
            log.append([line for line in batch[:end] if line.time_ns >= since])
        kept = log.log_bytes
    assert (root / "job/1.1.log").read_bytes() == b"".join(encode(batch))
    assert kept == sum(len(line.data) + 1 for line in batch)
    folder.close()


def test_flood_overlap_is_bounded(folder: LogFolder, tmp_path: Path) -> None:
    batch = lines(1000)
    reopened(folder, batch)
    fd = os.open(tmp_path / "log/job/1.1.log", os.O_RDONLY)
    found = overlap(fd, os.fstat(fd).st_size, limit=100)
    os.close(fd)
    assert len(found.seen) == 100
    assert batch[900].time_ns < found.since_ns < batch[-1].time_ns


def test_survey_is_not_fooled(folder: LogFolder, tmp_path: Path) -> None:
    fake = stamp(T0) + b" jobd F full: you wish"
    batch = [
        Line(T0, Stream.STDOUT, fake),
        Line(T0, Stream.STDOUT, b"Z stdout P Z jobd F full: "),
        Line(T0, Stream.STDERR, b"part", partial=True),
    ]
    reopened(folder, batch)
    fd = os.open(tmp_path / "log/job/1.1.log", os.O_RDONLY)
    found = survey(fd, os.fstat(fd).st_size)
    os.close(fd)
    assert found.full_at is None
    assert (found.lines, found.output_bytes) == (3, len(fake) + 1 + 27 + 4)


def run_flood(log: LogWriter, batch: list[Line], step: int = 10) -> None:
    """What a driver does with a flood, over again in an ended attempt."""
    since = log.resume()
    for at in range(0, len(batch), step):
        log.append([line for line in batch[at : at + step] if line.time_ns >= since])
        if log.full:
            break
    log.last_pass()
    since = log.resume()
    for at in range(0, len(batch), step):
        log.append([line for line in batch[at : at + step] if line.time_ns >= since])


@pytest.mark.parametrize("count", [10, 70, 100, 150, 1000])
def test_head_and_tail(folder: LogFolder, tmp_path: Path, count: int) -> None:
    batch = [Line(T0 + i, Stream.STDOUT, b"%09d" % i) for i in range(count)]
    with folder.writer("job", 1, 1, limit=5000) as log:
        run_flood(log, batch)
        log.finish()
        text = content(tmp_path)
        kept = data_of(text)
        notes = data_of(text, "jobd")
        assert log.log_bytes == 10 * count
        assert log.last_words(25) == b"".join(b"%09d\n" % i for i in range(count))[-25:]
        assert log.truncated == (count > 100)
    # lines take 50 bytes, so there are 50 in a half; of a ring that ran over, 49 are whole
    everything = [b"%09d" % i for i in range(count)]
    if count <= 50:
        assert (kept, notes) == (everything, [])
    elif count <= 100:
        assert kept == everything
        assert len(notes) == 1
    else:
        assert kept == everything[:50] + everything[-49:]
        left_out = count - 99
        assert notes[0].startswith(b"full: ")
        assert notes[1].startswith(b"cut: %d lines, %d bytes " % (left_out, 10 * left_out))
    assert len(text) < 5000 + 400


def test_engine_that_dropped_the_middle(folder: LogFolder, tmp_path: Path) -> None:
    batch = [Line(T0 + i, Stream.STDOUT, b"%09d" % i) for i in range(1000)]
    with folder.writer("job", 1, 1, limit=5000) as log:
        log.resume()
        log.append(batch)
        assert log.full
        log.last_pass()
        log.resume()
        log.append(batch[970:])
        log.finish()
        assert log.truncated
    kept = data_of(content(tmp_path))
    assert kept == [b"%09d" % i for i in [*range(50), *range(970, 1000)]]
    assert b"dropped" in data_of(content(tmp_path), "jobd")[1]


def test_stopped_while_the_tail_was_copied(folder: LogFolder, tmp_path: Path) -> None:
    batch = [Line(T0 + i, Stream.STDOUT, b"%09d" % i) for i in range(1000)]
    with folder.writer("job", 1, 1, limit=5000) as log:
        run_flood(log, batch)
        log.finish()
    whole = content(tmp_path)
    head = whole.index(b"full: ")
    path = tmp_path / "log/job/1.1.log"
    for size in range(head, len(whole), 97):
        path.write_bytes(whole[:size])
        with folder.writer("job", 1, 1, limit=5000) as log:
            run_flood(log, batch)
            log.finish()
            assert log.log_bytes == 10_000
        assert content(tmp_path) == whole


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 100), st.integers(1, 9))
def test_ring_keeps_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], room: int, step: int
) -> None:
    rows = [bytes([97 + i % 26]) * (size - 1) + b"\n" for i, size in enumerate(sizes)]
    folder = os.open(tmp_path_factory.getbasetemp(), os.O_RDONLY | os.O_DIRECTORY)
    ring = TailRing(folder, "ring", room)
    for at in range(0, len(rows), step):
        ring.add(rows[at : at + step])
    begin, kept, left_out = ring.kept()
    text = b"".join(ring.chunks(begin))
    ring.close()
    assert os.listdir(folder).count("ring") == 0
    os.close(folder)
    wanted: list[bytes] = []
    for row in reversed(rows):
        # where bytes were overwritten, the first whole line begins behind a newline that is left
        full = sum(map(len, rows)) > room
        if sum(map(len, wanted)) + len(row) + full > room:
            break
        wanted.insert(0, row)
    assert text == b"".join(wanted)
    assert (kept, left_out) == (len(wanted), len(rows) - len(wanted))


def test_full_disk_then_room(folder: LogFolder, tmp_path: Path) -> None:
    batch = lines(100)
    with folder.writer("job", 1, 1) as log:
        with file_size_limit(1234):
            log.resume()
            for line in batch[:60]:
                log.append([line])
            assert log.stalled
            assert "large" in log.trouble
            assert log.last_words(8) == b"line 59\n"
            assert content(tmp_path).endswith(b"\n")
        since = log.resume()
        assert not log.stalled
        log.append([line for line in batch if line.time_ns >= since])
        log.finish()
        assert not log.truncated
        assert log.last_words(8) == b"line 99\n"
        assert log.log_bytes == sum(len(line.data) + 1 for line in batch)
    assert data_of(content(tmp_path)) == [line.data for line in batch]
    assert [note.split(b":")[0] for note in data_of(content(tmp_path), "jobd")] == [b"gap"]


def test_full_disk_to_the_end(folder: LogFolder, tmp_path: Path) -> None:
    batch = lines(100)
    with folder.writer("job", 1, 1) as log:
        with file_size_limit(1234):
            log.resume()
            log.append(batch)
            log.last_pass()
            log.resume()
            for line in batch:
                log.append([line])
            log.finish()
        assert log.truncated
        assert log.log_bytes == sum(len(line.data) + 1 for line in batch)
        assert log.last_words(16) == b"line 98\nline 99\n"
    kept = data_of(content(tmp_path))
    assert kept == [line.data for line in batch[: len(kept)]]


def test_full_disk_for_the_tail(folder: LogFolder, tmp_path: Path) -> None:
    batch = [Line(T0 + i, Stream.STDOUT, b"%09d" % i) for i in range(1000)]
    with folder.writer("job", 1, 1, limit=5000) as log:
        with file_size_limit(3000):
            run_flood(log, batch)
            log.finish()
        assert log.truncated
        assert log.last_words(20) == b"000000998\n000000999\n"


def test_no_folder_to_write_to(folder: LogFolder, tmp_path: Path) -> None:
    (tmp_path / "log/job").write_text("in the way")
    with folder.writer("job", 1, 1) as log:
        assert log.stalled
        log.resume()
        log.append(lines(3))
        assert log.last_words() == b"line 0\nline 1\nline 2\n"
        (tmp_path / "log/job").unlink()
        log.resume()
        log.append(lines(3))
        log.finish()
        assert not log.truncated
    assert data_of(content(tmp_path)) == [b"line 0", b"line 1", b"line 2"]

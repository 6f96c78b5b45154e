"""Reading log files: whole lines, from any offset, tail or time, however the file behaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.engine.base import Line, Stream
from jobd.runlog.folder import LogFolder
from jobd.runlog.lines import MAX_DATA, encode, encode_note, stamp
from jobd.runlog.reader import read, start_of_tail, start_of_time

T0 = 1_764_000_000_000_000_000
rows = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from(["F", "P"]), st.booleans(), st.integers(0, 90)),
    max_size=40,
)


def made(some: list[tuple[int, str, bool, int]]) -> tuple[list[Line], list[bytes]]:
    time_ns, batch = T0, []
    for wait_ms, flag, stderr, size in some:
        time_ns += wait_ms * 1_000_000
        stream = Stream.STDERR if stderr else Stream.STDOUT
        batch.append(Line(time_ns, stream, b"x" * size, flag == "P"))
    return batch, encode(batch)


class Opened:
    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        path.write_bytes(data)
        self.fd = os.open(path, os.O_RDONLY)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    one = Opened(tmp_path / "log", b"")
    yield one
    os.close(one.fd)


@settings(deadline=None, max_examples=50)
@given(rows, st.integers(1, 300))
def test_all_of_it_in_pieces(
    tmp_path_factory: pytest.TempPathFactory, some: list[tuple[int, str, bool, int]], limit: int
) -> None:
    _, encoded = made(some)
    whole = b"".join(encoded)
    one = Opened(tmp_path_factory.getbasetemp() / "pieces", whole + b"2025-11-24T16:00:0")
    offset, got = 0, b""
    while True:
        data, after = read(one.fd, offset, limit)
        assert len(data) <= max(limit, max(map(len, encoded), default=0))
        if not data:
            assert after == offset
            break
        assert data.endswith(b"\n")
        assert after == offset + len(data)
        got, offset = got + data, after
    assert got == whole
    # from inside a line: the next one
    for at in range(len(whole) + 1):
        data, after = read(one.fd, at, 1 << 20)
        assert whole[len(whole) - len(data) :] == data
        assert at == 0 or not data or whole[len(whole) - len(data) - 1] == 0x0A
        assert after - len(data) >= at
    os.close(one.fd)


def test_growing_and_cut(opened: Opened) -> None:
    _, encoded = made([(1, "F", False, 10)] * 4)
    assert read(opened.fd, 0, 100) == (b"", 0)
    with opened.path.open("ab") as file:
        file.write(encoded[0] + encoded[1][:5])
        file.flush()
        data, offset = read(opened.fd, 0, 1000)
        assert data == encoded[0]
        assert read(opened.fd, offset, 1000) == (b"", offset)
        file.write(encoded[1][5:] + encoded[2])
    data, offset = read(opened.fd, offset, 1000)
    assert data == encoded[1] + encoded[2]
    # the last line is cut away and written anew: what was read is not read again
    os.truncate(opened.path, offset - len(encoded[2]))
    assert read(opened.fd, offset, 1000) == (b"", offset)
    with opened.path.open("ab") as file:
        file.write(encoded[2] + encoded[3])
    assert read(opened.fd, offset, 1000) == (encoded[3], offset + len(encoded[3]))


def test_long_lines_do_not_stall(opened: Opened) -> None:
    long = encode([Line(T0, Stream.STDOUT, b"y" * MAX_DATA)])[0]
    monster = stamp(T0) + b" stdout F " + b"z" * 3_000_000 + b"\n"
    opened.path.write_bytes(long + monster + long + monster[:-1])
    data, offset = read(opened.fd, 0, 10)
    assert data == long
    note, offset = read(opened.fd, offset, 10)
    assert note.startswith(stamp(T0) + b" jobd F left out: 3000041 bytes ")
    data, offset = read(opened.fd, offset, 10)
    assert data == long
    # it may yet end: a line of the future
    assert read(opened.fd, offset, 10) == (b"", offset)


def naive_tail(batch: list[Line], count: int) -> int:
    """The index from which the last `count` lines follow, parts counted as the line they make."""
    ends = dict.fromkeys(Stream, False)
    found, begin = 0, len(batch)
    for index in range(len(batch) - 1, -1, -1):
        line = batch[index]
        later = any(one.stream is line.stream for one in batch[index + 1 :])
        if not line.partial or not later:
            if found == count:
                break
            found += 1
        ends[line.stream] = True
        begin = index
    return begin


@settings(deadline=None, max_examples=100)
@given(rows, st.integers(0, 45))
def test_tail(
    tmp_path_factory: pytest.TempPathFactory, some: list[tuple[int, str, bool, int]], count: int
) -> None:
    batch, encoded = made(some)
    one = Opened(tmp_path_factory.getbasetemp() / "tail", b"".join(encoded) + b"torn")
    wanted = len(b"".join(encoded[: naive_tail(batch, count)])) if count else None
    if wanted is None:
        wanted = len(b"".join(encoded))
    assert start_of_tail(one.fd, count) == wanted
    os.close(one.fd)


def test_tail_does_not_count_notes(opened: Opened) -> None:
    _, encoded = made([(1, "F", False, 10)] * 3)
    note = encode_note(stamp(T0), "gap: something")
    opened.path.write_bytes(encoded[0] + encoded[1] + note + encoded[2] + note)
    assert start_of_tail(opened.fd, 2) == len(encoded[0])
    assert start_of_tail(opened.fd, 99) == 0


@settings(deadline=None, max_examples=50)
@given(rows, st.integers(-10, 50), st.integers(1, 40))
def test_time(
    tmp_path_factory: pytest.TempPathFactory,
    some: list[tuple[int, str, bool, int]],
    index: int,
    times: int,
) -> None:
    batch, encoded = made(some * times)
    one = Opened(tmp_path_factory.getbasetemp() / "time", b"".join(encoded))
    if not batch:
        wanted = T0 // 1_000_000
    else:
        wanted = batch[min(max(index, 0), len(batch) - 1)].time_ns // 1_000_000 + (index < 0)
    expected = 0
    for line, text in zip(batch, encoded, strict=True):
        if line.time_ns >= wanted * 1_000_000:
            break
        expected += len(text)
    assert start_of_time(one.fd, wanted) == expected
    os.close(one.fd)


def test_time_in_a_long_file(opened: Opened) -> None:
    batch, encoded = made([(7, "F", bool(i % 2), 50) for i in range(20_000)])
    opened.path.write_bytes(b"".join(encoded))
    size = len(encoded[0])
    for index in (0, 1, 9_999, 19_999):
        assert start_of_time(opened.fd, batch[index].time_ns // 1_000_000) == index * size
    assert start_of_time(opened.fd, 0) == 0
    assert start_of_time(opened.fd, batch[-1].time_ns // 1_000_000 + 1) == 20_000 * size


def test_no_log_yet(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    assert folder.read("job", 1, 1, 7, 100) == (b"", 7)
    assert folder.start_of_tail("job", 1, 1, 5) == 0
    folder.writer("job", 1, 1).close()
    assert folder.start_of_time("job", 1, 1, 5) == 0
    assert folder.read("job", 2, 1, 0, 100) == (b"", 0)
    folder.close()

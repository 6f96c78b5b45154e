"""The raw log of a process attempt: what a shim writes, a reader gets, from any time on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.engine.base import Line, Stream
from jobd.engine.rawlog import RawLog
from jobd.engine.shim.log import HEADER, PART, WORDS, Log
from jobd.engine.shim.records import RESERVED, encode

chunks = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\0\xff", b"x" * 9000])).map(b"".join),
    ),
    max_size=20,
)


def read(folder: Path, since_ns: int = 0) -> list[Line]:
    log = RawLog(folder, since_ns)
    try:
        return [line for batch in log.batches() for line in batch]
    finally:
        log.close()


def text(lines: list[Line], stream: Stream) -> bytes:
    return b"".join(
        line.data + (b"" if line.partial else b"\n") for line in lines if line.stream is stream
    )


@given(chunks)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_however_it_was_cut(given_: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        fd = os.open(folder, os.O_RDONLY)
        log = Log(fd, 1 << 30)
        reader = RawLog(folder, 0)
        live: list[Line] = []
        for stream, data in given_:
            log.take(stream, data)
            live += [line for batch in reader.batches() for line in batch]
        log.finish()
        live += [line for batch in reader.batches() for line in batch]
        reader.close()
        os.close(fd)
        for stream, word in ((1, Stream.STDOUT), (2, Stream.STDERR)):
            wrote = b"".join(data for number, data in given_ if number == stream)
            assert text(live, word) == wrote
        assert read(folder) == live, "read again, it is the same to the last byte and time"
        times = [line.time_ns for line in live]
        assert times == sorted(times)
        for time in times[:: max(1, len(times) // 3)]:
            assert read(folder, time) == [line for line in live if line.time_ns >= time]
        assert all(len(line.data) <= PART for line in live if line.partial)


def test_half_a_frame_is_not_there_yet(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    log = Log(fd, 1 << 20)
    log.take(1, b"one\n")
    whole = (tmp_path / "out.0").read_bytes()
    log.take(1, b"two\n")
    both = (tmp_path / "out.0").read_bytes()
    for end in range(len(both)):
        (tmp_path / "out.0").write_bytes(both[:end])
        assert [line.data for line in read(tmp_path)] == ([b"one"] if end >= len(whole) else [])
    os.close(fd)


def test_a_full_disk_cuts_and_counts_and_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    log = Log(fd, 1 << 20)
    log.take(1, b"one\n")
    real = os.writev

    def full(file: int, parts: list[bytes]) -> int:
        if parts[1].startswith(b"lost"):
            os.write(file, b"half of it")
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(file, parts)

    monkeypatch.setattr(os, "writev", full)
    log.take(1, b"lost\nlost\n")
    log.take(2, b"two\n")
    assert [line.data for line in read(tmp_path)] == [b"one", b"two"]
    assert log.cut == [2, 10]
    os.close(fd)


def test_what_a_full_disk_did_not_take_of_the_end_is_behind_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    log = Log(fd, 1 << 20)
    log.take(1, b"one\n")
    monkeypatch.setattr(os, "writev", refuse)
    for number in range(5000):
        log.take(1, b"%05d\n" % number)
    log.take(2, b"two")
    words = log.finish()
    os.close(fd)
    assert len(words) <= 2 * WORDS
    record = encode({"code": 0, "words": len(words)}).ljust(RESERVED, b"\0")
    (tmp_path / "exit").write_bytes((record + words).ljust(RESERVED + 2 * WORDS, b"\0"))
    lines = last_words(tmp_path)
    assert (lines[-1].data, lines[-1].partial, lines[-1].stream) == (b"two", True, Stream.STDERR)
    first = int(lines[0].data)
    assert [int(line.data) for line in lines[:-1]] == list(range(first, 5000))
    # a header a line: fewer would be more headers than words
    assert len(lines) == WORDS // HEADER
    assert log.cut == [first, first * 6]
    assert last_words(tmp_path, lines[-1].time_ns + 1) == []
    assert [line.data for line in read(tmp_path)] == [b"one"]
    for end in range(RESERVED, RESERVED + len(words), 997):
        (tmp_path / "exit").write_bytes((record + words)[:end])
        assert last_words(tmp_path) == lines[: len(last_words(tmp_path))]
    (tmp_path / "exit").write_bytes(bytes(RESERVED + 2 * WORDS))
    assert last_words(tmp_path) == []


def refuse(file: int, parts: list[bytes]) -> int:
    raise OSError(errno.ENOSPC, "no space left on device")


def last_words(folder: Path, since_ns: int = 0) -> list[Line]:
    return RawLog(folder, since_ns).last_words()

"""Output of real containers: each line once, as it was written, however often it is asked for."""

from __future__ import annotations

import hashlib
import time

import pytest

from jobd.engine.base import Line, Stream
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import ended, run, silent, text

NUMBERED = (
    'BEGIN { for (i = 1; i <= %d; i++) printf "%%06d and some words to fill the line\\n", i }'
)


def numbers(lines: list[Line]) -> list[int]:
    return [int(line.data[:6]) for line in lines]


def test_twenty_thousand_lines_once_each_over_five_interruptions(engine, order):
    total = 20_000
    one = order("awk", NUMBERED % total)
    engine.start(one, silent)
    got: list[Line] = []
    for stop_at in (1, 1_500, 4_000, 9_000, 15_000, total):
        # as the daemon does after a restart: from the last time on, without what was had of it
        since = got[-1].time_ns if got else 0
        skip = sum(line.time_ns == since for line in got)
        stream = engine.output(one.ref, since)
        for batch in stream:
            fresh = batch[skip:]
            skip = max(0, skip - len(batch))
            got += fresh
            if len(got) >= stop_at:
                break
        stream.close()
    got += [line for batch in engine.output(one.ref, got[-1].time_ns + 1) for line in batch]
    assert numbers(got) == list(range(1, total + 1))
    assert all(not line.partial for line in got)


def test_silences_neither_lose_nor_double(engine, order, url):
    # read time-outs of 0.2 s, and lines that come just about then, on both streams
    other = DockerEngine(url, bytes.fromhex(engine.store), idle_s=0.2)
    script = (
        "i=0; while [ $i -lt 25 ]; do i=$((i+1)); echo out $i; echo err $i >&2; "
        "usleep $((150000 + (i % 4) * 40000)); done; printf end"
    )
    one = order("sh", "-c", script)
    other.start(one, silent)
    batches = list(other.output(one.ref, 0))
    lines = [line for batch in batches for line in batch]
    assert [] in batches, "no silence was seen: the test tests nothing"
    wanted = [f"out {number}" for number in range(1, 26)]
    assert text(lines) == "\n".join(wanted) + "\nend"
    assert text(lines, Stream.STDERR).splitlines() == [f"err {number}" for number in range(1, 26)]
    other.close()


def test_a_silent_attempt_gives_signs_of_life(engine, order, url):
    other = DockerEngine(url, bytes.fromhex(engine.store), idle_s=0.1)
    one = order("sleep", "30")
    other.start(one, silent)
    stream = other.output(one.ref, 0)
    assert [next(stream) for _ in range(5)] == [[]] * 5
    other.signal(one.ref, "SIGTERM")
    assert all(batch == [] for batch in stream)
    assert ended(other, one.ref).exit_code == 143
    other.close()


def test_a_long_line_goes_on_after_a_silence(engine, order, url):
    # its parts all bear the time of the first, and other lines come in between
    other = DockerEngine(url, bytes.fromhex(engine.store), idle_s=0.2)
    script = (
        "head -c 40000 /dev/zero | tr '\\0' a; echo note >&2; sleep 1;"
        " head -c 40000 /dev/zero | tr '\\0' b; echo; echo after"
    )
    one = order("sh", "-c", script)
    other.start(one, silent)
    lines = [line for batch in other.output(one.ref, 0) for line in batch]
    assert text(lines) == "a" * 40_000 + "b" * 40_000 + "\nafter\n"
    assert text(lines, Stream.STDERR) == "note\n"
    other.close()


def test_a_megabyte_without_newline(engine, order):
    _, lines = run(engine, order("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo"))
    assert all(line.partial for line in lines[:-1])
    assert not lines[-1].partial
    assert text(lines) == "x" * 1_000_000 + "\n"


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 32_768, 50_000])
def test_long_lines_have_their_newline(engine, order, size):
    # the driver `local` drops the newline of a line that came in parts
    script = "for c in x y; do head -c $0 /dev/zero | tr '\\0' $c; echo; echo next; done"
    _, lines = run(engine, order("sh", "-c", script, str(size)))
    assert text(lines) == "x" * size + "\nnext\n" + "y" * size + "\nnext\n"


def test_binary_output_is_kept(engine, order, tmp_path):
    # every byte but newlines meeting a 16 KiB boundary, which the driver `local` is known to lose
    data = bytes(range(256)) * 300
    (tmp_path / "data").write_bytes(data)
    _, lines = run(engine, order("cat", "/job/data"))
    parts = [line.data + (b"" if line.partial else b"\n") for line in lines]
    assert hashlib.sha256(b"".join(parts)).digest() == hashlib.sha256(data).digest()


def test_from_a_time_on(engine, order):
    one = order("sh", "-c", "echo a; usleep 2000; echo b; usleep 2000; echo c")
    _, lines = run(engine, one)
    since = lines[1].time_ns
    again = [line for batch in engine.output(one.ref, since) for line in batch]
    assert again == lines[1:]
    assert [line for batch in engine.output(one.ref, since + 1) for line in batch] == lines[2:]
    assert list(engine.output(one.ref, time.time_ns())) == []


def test_no_output_at_all(engine, order):
    ending, lines = run(engine, order("true"))
    assert (ending.exit_code, lines) == (0, [])


def test_empty_lines_and_carriage_returns(engine, order):
    _, lines = run(engine, order("printf", "\\n\\n a\\r\\n\\r\\033[1m\\n"))
    assert [line.data for line in lines] == [b"", b"", b" a\r", b"\r\033[1m"]

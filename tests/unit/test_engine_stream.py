"""Frames in pieces of any size become lines once each, with exact times."""

from __future__ import annotations

import datetime
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.engine.base import Line, Stream
from jobd.engine.stream import (
    MAX_FRAME,
    BrokenStreamError,
    FrameParser,
    LineEnds,
    Resumer,
    parse_time,
)

NUMBERS = {Stream.STDOUT: 1, Stream.STDERR: 2}
T0 = 1_795_496_391_000_000_000


def stamp(time_ns: int) -> str:
    second, nanos = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def frame(line: Line) -> bytes:
    payload = f"{stamp(line.time_ns)} ".encode() + line.data + (b"" if line.partial else b"\n")
    return struct.pack(">BxxxI", NUMBERS[line.stream], len(payload)) + payload


def out(time_ns: int, data: bytes = b"x", *, partial: bool = False) -> Line:
    return Line(T0 + time_ns, Stream.STDOUT, data, partial)


def err(time_ns: int, data: bytes = b"x", *, partial: bool = False) -> Line:
    return Line(T0 + time_ns, Stream.STDERR, data, partial)


lines = st.builds(
    Line,
    st.integers(0, 4_000_000_000_000_000_000),
    st.sampled_from(Stream),
    st.binary(max_size=80).filter(lambda data: not data.endswith(b"\n")),
    st.booleans(),
)


@given(st.lists(lines, max_size=12), st.lists(st.integers(1, 200), min_size=1))
def test_any_cutting_gives_the_same_lines(wanted, cuts):
    data = b"".join(frame(line) for line in wanted)
    parser, got, at, turn = FrameParser(), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        got += parser.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert got == wanted


def test_podmans_times_are_whole_seconds():
    payload = b"2026-11-24T06:46:31+02:00 words\n"
    lines = FrameParser().feed(struct.pack(">BxxxI", 2, len(payload)) + payload)
    assert lines == [Line(1_795_495_591_000_000_000, Stream.STDERR, b"words")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2026-11-24T04:46:31.123456789Z", 1_795_495_591_123_456_789),
        ("2026-11-24T04:46:31.5Z", 1_795_495_591_500_000_000),
        ("2026-11-24T04:46:31.25-01:30", 1_795_500_991_250_000_000),
        ("2262-04-11T23:47:16.854775807Z", (1 << 63) - 1),
    ],
)
def test_times_are_exact(text, wanted):
    assert parse_time(text.encode()) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2026-11-24",
        "2026-11-24T04:46:31",
        "2026-11-24T04:46:31.Z",
        "2026-13-24T04:46:31Z",
        "2026-11-24T04:46:31.1234567890Z",
        "2026-11-24T04:46:31+0200",
        "2026-11-24T04:46:31.12x",
    ],
)
def test_no_times(text):
    with pytest.raises(BrokenStreamError):
        parse_time(text.encode())


@given(st.binary(max_size=60))
def test_rubbish_is_told_and_never_hangs(data):
    parser = FrameParser()
    try:
        got = parser.feed(data)
    except BrokenStreamError:
        return
    assert sum(len(line.data) for line in got) <= len(data)


def test_a_frame_too_large_to_believe_is_told_at_once():
    with pytest.raises(BrokenStreamError, match="frame of"):
        FrameParser().feed(struct.pack(">BxxxI", 1, MAX_FRAME + 1))
    with pytest.raises(BrokenStreamError):
        FrameParser().feed(struct.pack(">BxxxI", 1, MAX_FRAME + 1) + bytes(100))


def test_the_engines_own_error_in_the_stream_is_told():
    text = b"Error grabbing logs: unexpected EOF\n\n"
    with pytest.raises(BrokenStreamError, match="unexpected EOF"):
        FrameParser().feed(struct.pack(">BxxxI", 3, len(text)) + text)


# --- going on where it was


class Log:
    """What an engine's log holds; `since` is inclusive, and `tail` the last so many."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def since(self, time_ns: int, upto: int) -> list[Line]:
        return [line for line in self.lines[:upto] if line.time_ns >= time_ns]

    def tail(self, number: int, upto: int) -> list[Line]:
        return self.lines[:upto][-number:]


@st.composite
def logs(draw):
    """Two streams: times rise within one and cross by less than 1 s, parts of a line share one."""
    made: list[Line] = []
    at, last = 0, dict.fromkeys(Stream, Line(T0, Stream.STDOUT, b""))
    for number in range(draw(st.integers(0, 30))):
        stream = draw(st.sampled_from(Stream))
        at += draw(st.sampled_from([0, 1, 1000, 900_000_000, 5_000_000_000]))
        time_ns = max(last[stream].time_ns + 1, T0 + at - draw(st.integers(0, 900_000_000)))
        if last[stream].partial and draw(st.booleans()):
            time_ns = last[stream].time_ns
        last[stream] = Line(time_ns, stream, b"%d" % number, draw(st.booleans()))
        made.append(last[stream])
    return made


@given(logs(), st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(1, 8))))
def test_resumed_anywhere_gives_each_line_once(log, breaks):
    held, resumer, got = Log(log), Resumer(0), []
    seen = 0
    for upto, with_tail, number in [*breaks, (len(log), False, 1)]:
        # the log only grows, and what was given was in it
        seen = max(seen, min(upto, len(log)))
        answer = held.tail(number, seen) if with_tail else held.since(resumer.since_ns, seen)
        if with_tail and (not answer or not resumer.misses_nothing(answer[0])):
            answer = held.since(resumer.since_ns, seen)
        got += resumer.fresh(answer)
        resumer.again()
    assert got == log


def test_the_rest_of_a_long_line_is_asked_for_from_its_beginning():
    resumer = Resumer(0)
    parts = [out(0, b"a" * 16384, partial=True), err(60_000_000_000)]
    assert resumer.fresh(parts) == parts
    assert resumer.since_ns == T0
    resumer.again()
    assert not resumer.misses_nothing(err(50_000_000_000))
    more = [*parts, out(0, b"b", partial=True), out(0, b"c", partial=True)]
    assert resumer.fresh(more) == more[2:]


def test_a_clock_that_was_set_back_loses_nothing_in_an_unbroken_stream():
    resumer = Resumer(0)
    both = [out(5_000_000_000), out(0), out(1)]
    assert resumer.fresh(both) == both


def test_nothing_before_the_time_that_was_asked_for():
    resumer = Resumer(T0 + 5)
    assert resumer.fresh([out(4), out(5), err(4), err(6)]) == [out(5), err(6)]


# --- newlines that the driver `local` drops


def test_the_short_part_ends_a_long_line():
    long = b"a" * 16384
    given_ = [
        out(0, long, partial=True),
        err(1, b"between"),
        out(0, long, partial=True),
        out(0, b"end", partial=True),
        out(2, b"last words", partial=True),
    ]
    ends = LineEnds()
    got = [line for one in given_ for line in ends.mend([one])]
    assert [line.partial for line in got] == [True, False, True, False, True]


def test_a_line_of_exactly_two_parts_is_ended_by_an_empty_one():
    given_ = [out(0, b"a" * 16384, partial=True), out(0, b"", partial=True), out(1, b"next")]
    assert [line.partial for line in LineEnds().mend(given_)] == [True, False, False]

"""What a peer says is the same in whatever pieces it comes; what is no ZMTP ends the talk."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.codec import MAX_FRAME
from jobd.errors import UsageError
from jobd.server.zmtp import GREETING, READY, ProtocolError, Talk, frame
from tests.support.rawpeer import long_frame, ready

HELLO = GREETING + ready()


def said(data: bytes, pieces: list[int], most: int = 1000) -> tuple[list[object], Talk]:
    """All messages of `data`, fed in pieces of these lengths (the last of them again and again)."""
    talk, found, at = Talk(), [], 0
    lengths = iter(pieces)
    size = 1
    while at < len(data):
        size = next(lengths, size)
        found += talk.messages(data[at : at + size], most)
        at += size
        while talk.more:
            found += talk.messages(b"", most)
    return [each if isinstance(each, bytes) else str(each) for each in found], talk


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=700), st.integers(2, 4)), max_size=8),
    st.lists(st.integers(1, 900), min_size=1, max_size=40),
    st.integers(1, 5),
)
def test_messages_do_not_depend_on_the_pieces_they_come_in(parts, pieces, most):
    """An integer stands for a message of so many parts, which is refused once and not kept."""
    data, expected = HELLO, []
    for part in parts:
        if isinstance(part, bytes):
            data += frame(part)
            expected.append(part)
        else:
            data += long_frame(b"x", more=True) * (part - 1) + long_frame(b"y")
            expected.append("message has several parts; a request is one frame")
    found, talk = said(data, pieces, most)
    assert found == expected
    assert talk.ready
    assert not talk.midway


def test_the_handshake_says_who_we_are_and_heartbeats_are_answered():
    talk = Talk()
    assert talk.to_send == GREETING
    talk.messages(GREETING[:11], 9)
    assert talk.to_send == GREETING
    talk.messages(GREETING[11:], 9)
    assert talk.to_send == GREETING + READY
    talk.to_send.clear()
    talk.messages(ready(), 9)
    talk.messages(b"\x04\x09\x04PING\x00\x0aab", 9)
    assert talk.to_send == b"\x04\x07\x04PONGab"


def test_what_is_too_long_is_told_and_not_kept():
    talk = Talk()
    talk.messages(HELLO, 9)
    (problem,) = talk.messages(b"\x02" + struct.pack(">Q", MAX_FRAME + 1), 9)
    assert isinstance(problem, UsageError)
    assert str(MAX_FRAME) in str(problem)
    for _ in range(16):
        assert talk.messages(bytes(MAX_FRAME // 16), 9) == []
        assert talk.held == 0
    assert talk.midway
    assert talk.messages(b"z" + frame(b"after"), 9) == [b"after"]


def test_parts_without_end_take_no_memory():
    talk = Talk()
    talk.messages(HELLO, 9)
    endless = long_frame(bytes(1000), more=True)
    assert len(talk.messages(endless, 9)) == 1
    for _ in range(100):
        assert talk.messages(endless, 9) == []
        assert talk.held == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" + bytes(9),
        GREETING[:10] + b"\x01" + GREETING[11:],
        GREETING[:12] + b"CURVE".ljust(20, b"\0") + GREETING[32:],
        GREETING + ready(b"SUB"),
        GREETING + frame(b"too early"),
        GREETING + b"\x04\x06\x05HELLO",
        GREETING + b"\x04\x00",
        GREETING + b"\x06" + struct.pack(">Q", 1 << 20),
        GREETING + b"\x04\x08\x05READY\x05S",
        HELLO + b"\x08\x00",
        HELLO + b"\x04\x07\x06CANCEL",
        HELLO + b"\x02" + struct.pack(">Q", 1 << 40),
        HELLO + b"\x02" + b"\xff" * 8,
    ],
)
def test_what_is_no_zmtp_ends_the_talk(data):
    with pytest.raises(ProtocolError):
        said(data, [7])


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", GREETING[:11], GREETING, HELLO]))
def test_garbage_raises_one_error_and_is_not_kept_for_ever(data, before):
    talk = Talk()
    try:
        for piece in (before, data, bytes(2000)):
            talk.messages(piece, 1 << 30)
    except ProtocolError:
        return
    assert talk.held <= MAX_FRAME + 2300

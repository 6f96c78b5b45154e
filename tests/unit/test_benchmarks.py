"""The bench's clients say what the servers read, and know a whole answer from a part of one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobd.server.zmtp import READY, Talk
from jobd.wire import envelope

sys.path.insert(0, str(Path(__file__).parents[2] / "contrib"))
try:
    from benchmarks import report, rig, wires
finally:
    sys.path.pop(0)


@pytest.mark.parametrize("size", [0, 300, 4096])
def test_jobd_reads_what_its_client_says(size: int) -> None:
    client = wires.Jobd("/nowhere", b"p" * size)
    talk = Talk()
    talk.messages(wires._GREETING, 1)
    talk.messages(bytes((4, len(wires._READY))) + wires._READY, 1)
    assert talk.ready
    keys = set()
    for _ in range(3):
        (message,) = talk.messages(client.request(), 9)
        assert isinstance(message, bytes)
        number, verb, arguments, key = envelope.read_request(message)
        assert (number, verb) == (1, "run.queue")
        assert arguments == {"job": "bench", "payload": b"p" * size}
        keys.add(key)
    assert len(keys) == 3
    assert READY[1] == len(READY) - 2


def test_jobd_of_many() -> None:
    client = wires.Jobd("/nowhere", b"p", count=1000)
    body = wires.zmtp_body(client.request())
    assert body is not None
    _, _, arguments, _ = envelope.read_request(body)
    assert arguments == {"job": "bench", "payloads": [b"p"] * 1000}


def test_a_reply_of_jobd_is_whole_or_not_or_a_refusal() -> None:
    client = wires.Jobd("/nowhere", b"")
    good = wires.zmtp_frame(envelope.result(1, {"runs": [[7, False]], "warnings": ["x" * 300]}))
    assert client.reply(good)
    assert not any(client.reply(good[:cut]) for cut in range(len(good)))
    with pytest.raises(RuntimeError, match="refused"):
        client.reply(wires.zmtp_frame(b"\x94\x01\x01\x02refused"))


def test_replies_of_redis_are_counted_whole() -> None:
    one = b"+OK\r\n+QUEUED\r\n*2\r\n:1\r\n$3\r\nab\n\r\n:5\r\n"
    assert wires._complete(one) == 4
    client = wires.Redis("/nowhere", b"", replies=4)
    assert client.reply(one)
    assert not any(client.reply(one[:cut]) for cut in range(len(one)))
    with pytest.raises(RuntimeError):
        client.reply(b"+OK\r\n-ERR no\r\n")


def test_recorded_commands_get_a_new_id_each_time() -> None:
    client = wires.Redis("/nowhere", b"", wires.resp(b"SET", b"job:" + wires.MARK, b"v"))
    first, second = client.request(), client.request()
    assert first != second
    assert len(first) == len(second)
    assert wires.MARK not in first


def test_rounds_end_when_their_time_is_over() -> None:
    assert list(rig.rounds(3, 60)) == [0, 1, 2]
    assert list(rig.rounds(3, 0)) == [0]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0204, "0.0204"), (12345.6, "12346"), ("x", "x"), (7, "7")]
)
def test_cells(value: object, text: str) -> None:
    assert report.shown(value) == text

"""What a real engine does with a payload on standard input."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.daemon.stdin import PayloadInput
from jobd.engine.base import Order
from tests.support.engine_support import ended, silent, text


@pytest.fixture
def feed(order, tmp_path):
    """Makes orders with a payload on standard input: `feed(payload, *command)`."""

    def make(payload: bytes, *command: str) -> Order:
        made = order(*command)
        folder: Path = tmp_path / made.ref
        (folder / "job").mkdir(parents=True)
        (folder / "job" / "payload").write_bytes(payload)
        return replace(made, stdin=PayloadInput(folder))

    return make


def output(engine, one: Order) -> str:
    engine.start(one, silent)
    return text([line for batch in engine.output(one.ref, 0) for line in batch])


@pytest.mark.parametrize("size", [0, 5, 8 << 20])
def test_it_is_read_whole_and_has_an_end(engine, feed, size):
    one = feed(b"x" * size, "sh", "-c", "sleep 0.3; wc -c")
    assert output(engine, one) == f"{size}\n"
    assert ended(engine, one.ref).exit_code == 0
    assert not one.stdin.is_owed()


def test_who_does_not_read_it_ends_all_the_same(engine, feed):
    one = feed(b"x" * (8 << 20), "true")
    engine.start(one, silent)
    assert ended(engine, one.ref).exit_code == 0
    one.stdin.end()


def test_a_container_whose_input_was_attached_before_is_made_anew(engine, feed, sdk):
    """Else it would read nothing and believe that it was all."""
    one = feed(b"all of it", "cat")
    before = start_is_cut_short(engine, one)
    again = replace(one, stdin=PayloadInput(one.stdin._folder))
    assert output(engine, again) == "all of it"
    assert sdk.inspect_container(one.ref)["Id"] != before


def start_is_cut_short(engine, one: Order) -> str:
    """The container was made, its input attached, and the process that did it was killed."""
    starter, made = engine._starter, []

    def start_now(order: Order, engine_id: str) -> None:
        made.append(engine_id)
        raise KeyboardInterrupt

    starter._start_now = start_now
    with pytest.raises(KeyboardInterrupt):
        engine.start(one, silent)
    del starter._start_now
    return made[0]


def test_a_stream_that_breaks_while_it_runs_is_told(engine, feed, monkeypatch):
    monkeypatch.setattr("jobd.daemon.stdin.GRACE_S", 0.2)
    one = feed(b"x" * (8 << 20), "sleep", "60")
    broke = []
    one.stdin.on_break(lambda: broke.append(True))
    streams = []
    attach = engine._api.attach_stdin
    monkeypatch.setattr(
        engine._api, "attach_stdin", lambda name: streams.append(attach(name)) or streams[-1]
    )
    engine.start(one, silent)
    streams[0].sock.shutdown(2)
    give_up = time.monotonic() + 20
    while not broke:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert one.stdin.is_owed()
    engine.signal(one.ref, "SIGKILL")
    assert ended(engine, one.ref).exit_code == 137

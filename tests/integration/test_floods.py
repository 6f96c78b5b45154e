"""Clients that ask for too much at once: what the daemon keeps stays bounded, and others go on.

Each of these made it keep gigabytes, or left everybody else waiting for many seconds.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import msgpack
import pytest

from jobctl.client import Client
from jobd.errors import RefusedError, UsageError
from jobd.server.zmtp import frame
from jobd.wire import envelope
from tests.integration.test_bad_clients import rss
from tests.support.fakehost import ENVIRONMENT, FakeHost
from tests.support.rawpeer import RawPeer, long_frame

#: by how much the daemon may ever grow meanwhile, in bytes
PEAK = 160 << 20

#: another client, in a process of its own; says a line for each answer
OTHER = """
import sys
from jobctl.client import Client
with Client(home=sys.argv[1]) as client:
    while True:
        client.ping()
        print(flush=True)
"""


@pytest.fixture
def watched(host: FakeHost, client: Client) -> Iterator[Callable[[int], None]]:
    """Watches the memory; gives what waits until another client had so many more answers."""
    client.ping()
    before = rss(host)
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], rss(host))

    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(host.home)], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    thread = threading.Thread(target=watch)
    thread.start()
    assert other.stdout is not None
    assert other.stdout.readline() == b"\n"

    def answered(number: int) -> None:
        assert other.stdout is not None
        for _ in range(number):
            assert other.stdout.readline() == b"\n", "the other client failed"

    yield answered
    answered(3)
    other.kill()
    other.wait(20)
    other.stdout.close()
    stop.set()
    thread.join(20)
    assert peak[0] - before < PEAK


def peers(host: FakeHost, stack: ExitStack, number: int) -> list[RawPeer]:
    made = [RawPeer(host.home / "run" / "jobd.sock") for _ in range(number)]
    for one in made:
        stack.callback(one.close)
    return made


def pour(peer: RawPeer, data: bytes) -> None:
    """As much as goes in at once."""
    peer.socket.setblocking(False)
    with suppress(OSError):
        rest = memoryview(data)
        while rest:
            rest = rest[peer.socket.send(rest) :]


def requests(number: int, verb: str, arguments: dict[str, object]) -> bytes:
    return b"".join(frame(envelope.request(each, verb, arguments, None)) for each in range(number))


@pytest.mark.parametrize(
    "flood",
    [
        requests(4000, "ping", {}),
        b"\x01\0" * 60_000,
        b"\x04\x07\x04PING\0\0" * 12_000,
        b"\0\0" * 60_000,
    ],
    ids=["requests", "parts", "heartbeats", "empty"],
)
def test_many_who_talk_without_end(host, watched, flood):
    with ExitStack() as stack:
        for one in peers(host, stack, 40):
            pour(one, flood)
        watched(20)


def test_requests_that_are_large_as_objects(host, watched):
    """A million empty lists are a megabyte on the wire, and were 64 of memory, each."""
    many = b"\xdd" + struct.pack(">I", 1_000_000) + b"\x90" * 1_000_000
    plain = msgpack.packb([1, 1, "ping", {"x": 1}, None])
    request = long_frame(plain.replace(b"\xa1x\x01", b"\xa1x" + many))
    with ExitStack() as stack:
        made = peers(host, stack, 30)
        for one in made:
            one.send(request[:-1])
        for one in made:
            one.send(request[-1:])
        for one in made:
            _, kind, error = one.reply()
            assert kind == 2
            assert "maps and arrays" in str(error)
        watched(5)


def test_small_requests_for_large_answers(host, job, watched):
    """Sixty ask for half a megabyte 250 times each, and read nothing."""
    with host.client() as good:
        run = good.queue(job, bytes(450_000))["runs"][0]["id"]
    with ExitStack() as stack:
        for one in peers(host, stack, 60):
            pour(one, requests(250, "run.payload", {"run": str(run)}))
        until = time.monotonic() + 2
        while time.monotonic() < until:
            watched(5)


def test_lists_of_everything_for_nobody(host, job, watched):
    with host.client() as good:
        good.queue(job, count=5_000)
    with ExitStack() as stack:
        for one in peers(host, stack, 40):
            pour(one, requests(250, "run.list", {"all": True}))
        watched(20)


def test_waiting_for_very_many_runs(host, job, watched):
    """256 requests of a few bytes, each of which names tens of thousands of runs."""
    with host.client() as good:
        ids = [good.queue(job, count=10_000)["runs"][0]["id"] for _ in range(3)]
        with ExitStack() as stack:
            (one,) = peers(host, stack, 1)
            named = [f"{ids[0]}-{ids[0] + 29_999}"]
            one.send(requests(256, "run.wait", {"runs": named, "hold": 20_000}))
            watched(20)


def test_one_request_names_so_many_runs_and_no_more(host, job, watched, client):
    """Words that each name many, by the thousand, were hours of work."""
    first = client.queue(job, count=10_000)["runs"][0]["id"]
    words = [f"{first}-{first + 9_999 - n}" for n in range(1000)]
    with ExitStack() as stack:
        (one,) = peers(host, stack, 1)
        one.ask(1, "run.wait", {"runs": words, "hold": 0})
        _, kind, error = one.reply()
        assert kind == 2
        assert isinstance(error, UsageError)
        assert "at most" in str(error)
        one.ask(2, "run.wait", {"runs": [words[0]] * 1000, "hold": 0})
        assert one.reply()[:2] == (2, 0)


def test_too_many_that_wait_are_told(host, job, watched, client):
    """Who waits for events is asked again with each: so many of a user may, the rest is told."""
    nothing_yet = {"hold": 20_000, "after": 1 << 40}
    with ExitStack() as stack:
        two = peers(host, stack, 2)
        two[0].send(requests(200, "events.read", nothing_yet))
        watched(5)
        two[1].send(requests(200, "events.read", nothing_yet))
        refused = 0
        while refused < 400 - 256:
            # mostly of the second, as most of the first were there before
            for one in two:
                while one.speaks(0.02):
                    _, kind, error = one.reply()
                    assert kind == 2
                    assert isinstance(error, RefusedError)
                    assert "wait for new events" in str(error)
                    refused += 1
        assert refused == 400 - 256
        client.queue(job)
        watched(5)
        for one in two:
            one.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                one.reply()  # all others are held


def test_six_hundred_clients_that_wait(host, job, client):
    """Each holds a connection to the health socket too, whose end would mean the daemon's."""
    run = client.queue(job)["runs"][0]["id"]
    with ExitStack() as stack:
        path = str(host.home / "run" / "jobd.sock.health")
        for _ in range(600):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(20)
            one.connect(path)
        one.sendall(b"ping\n")
        assert b"running" in one.recv(4096)
        with host.client() as good:
            answer = []
            thread = threading.Thread(target=lambda: answer.append(good.wait(run)))
            thread.start()
            time.sleep(0.5)  # it holds its own connection to the health socket by now
            client.cancel(run)
            thread.join(20)
            assert answer

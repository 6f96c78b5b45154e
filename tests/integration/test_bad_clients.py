"""Clients that mean harm, or are broken: told so, alone, while the daemon's memory stays and others
are answered."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgpack
import pytest

from jobctl.client import Client
from jobd.errors import JobdError, UsageError, VersionError
from jobd.server.zmtp import GREETING
from tests.support.fakehost import FakeHost
from tests.support.rawpeer import RawPeer, long_frame, raw_peer, ready

#: by how much the daemon may grow over all that a test does to it, in bytes
GROWTH = 48 << 20


def rss(host: FakeHost) -> int:
    return int(Path(f"/proc/{host.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(host: FakeHost) -> int:
    return len(os.listdir(f"/proc/{host.pid}/fd"))


def settled(number: Callable[[], int], expected: int) -> None:
    """Wait until `number` is not above `expected`."""
    until = time.monotonic() + 20
    while number() > expected:
        assert time.monotonic() < until, f"{number()} after 20 s, {expected} before"
        time.sleep(0.02)


@pytest.fixture
def unharmed(host: FakeHost, client: Client) -> Iterator[None]:
    """Another client is answered before, meanwhile and after; memory and descriptors come back."""
    client.ping()
    memory, files = rss(host), descriptors(host)
    answered, stop, problems = [0], threading.Event(), []

    def go_on() -> None:
        try:
            with host.client() as other:
                while not stop.wait(0.01):
                    other.ping()
                    answered[0] += 1
        except JobdError as error:
            problems.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    # the other one still gets its answers after all that was done
    until, seen = time.monotonic() + 20, answered[0]
    while answered[0] < seen + 3 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not problems
    assert answered[0] >= seen + 3
    assert rss(host) - memory < GROWTH
    # two for what the daemon opens once, when it is first asked for a payload
    settled(lambda: descriptors(host), files + 2)


@contextmanager
def peer(host: FakeHost, **options: bool) -> Iterator[RawPeer]:
    with raw_peer(host.home / "run" / "jobd.sock", **options) as one:
        yield one


def deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (os.urandom(300), ""),
        (b"\x94\x01\x02", "msgpack"),
        (deep(17), "nested"),
        (deep(900_000), ""),
        (b"\xdd\xff\xff\xff\xff", "msgpack"),
        (b"\xc6\xff\xff\xff\xff", "msgpack"),
        (msgpack.packb([1, 1, "ping", {}, b"short"]), "request key"),
        (msgpack.packb([1, 1, "ping", [], None]), "form"),
        (msgpack.packb([1, "x", "ping", {}, None]), "form"),
        (msgpack.packb([1, 1, 5, {}, None]), "form"),
        (msgpack.packb([1, 1, "no.verb", {}, None]), "no such verb"),
        (msgpack.packb([1, 1, "ping", {"surplus": 1}, None]), "surplus"),
        (msgpack.packb([1, 1, "run.list", {"limit": "many"}, None]), "limit"),
        (msgpack.packb([1, 1, "run.show", {}, None]), "runs"),
        (msgpack.packb([1, 1, "ping", {1: 2}, None]), ""),
        (msgpack.packb([1, 1, "ping", {"x": msgpack.ExtType(5, b"x")}, None]), "ext"),
        (msgpack.packb([1, 1, "ping", {}, None]) + b"\0", "msgpack"),
        (msgpack.packb([2**64 - 1, 1, "ping", {}, None]), "version"),
    ],
)
def test_a_bad_request_is_refused_and_the_next_is_answered(host, unharmed, frame, says):
    with peer(host) as bad:
        bad.send(long_frame(frame))
        _, kind, error = bad.reply()
        assert kind == 2
        assert isinstance(error, UsageError | VersionError)
        assert says in str(error)
        bad.ask(7, "ping")
        assert bad.reply()[:2] == (7, 0)


def test_parts_without_end_are_told_once_and_never_kept(host, unharmed):
    with peer(host) as bad:
        bad.send(long_frame(b"x" * 512, more=True))
        _, kind, error = bad.reply()
        assert kind == 2
        assert "several parts" in str(error)
        part = long_frame(bytes(512 << 10), more=True)
        for _ in range(300):  # 150 MiB
            bad.send(part)
        bad.send(long_frame(b"the last"))
        bad.ask(8, "ping")
        assert bad.reply()[:2] == (8, 0)


def test_an_oversized_frame_is_told_and_read_over(host, unharmed):
    with peer(host) as bad:
        bad.send(long_frame(bytes(40 << 20)))
        _, kind, error = bad.reply()
        assert kind == 2
        assert "at most" in str(error)
        bad.ask(9, "ping")
        assert bad.reply()[:2] == (9, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: jobd\r\n\r\n",
        os.urandom(4096),
        GREETING + ready(b"PUB"),
        GREETING + ready() + b"\x02" + b"\xff" * 8,
        GREETING[:12] + b"PLAIN".ljust(20, b"\0") + GREETING[32:],
    ],
)
def test_what_is_no_zeromq_loses_its_connection(host, unharmed, data):
    with peer(host, shaken=False) as bad:
        bad.send(data)
        assert bad.ended()


def test_who_begins_and_stops_is_let_go(host, unharmed):
    """Silence, half a greeting, a handshake without its end: gone after five seconds."""
    with ExitStack() as stack:
        idle = [stack.enter_context(peer(host, shaken=False)) for _ in range(3)]
        idle[1].send(GREETING[:20])
        idle[2].send(GREETING + ready()[:5])
        assert all(bad.ended() for bad in idle)


def test_halves_of_requests_are_bounded_over_all_connections(host, unharmed):
    """Each lacks its last byte; together they would be 120 MiB: 64 are kept, the others let go."""
    with ExitStack() as stack:
        half = long_frame(bytes(1 << 20))[:-1]
        halves = [stack.enter_context(peer(host)) for _ in range(120)]
        for bad in halves:
            with suppress(OSError):
                bad.send(half)
        with host.client() as good:
            good.ping()
        assert rss(host) < 150 << 20
        told = 0
        for bad in halves:
            with suppress(OSError, EOFError):
                bad.send(b"\0")
                assert bad.reply()[1] == 2  # whole at last, and no request
                told += 1
        assert 50 <= told <= 64


def test_who_never_reads_loses_the_connection(host, job, unharmed):
    """Asks for a megabyte again and again and takes nothing: what is kept for it is bounded."""
    with host.client() as good:
        run = good.queue(job, bytes(400_000))["runs"][0]["id"]
    with peer(host) as bad:
        bad.socket.settimeout(0.2)
        asked = 0
        try:
            for number in range(2_000):
                bad.ask(number, "run.payload", {"run": str(run)})
                asked += 1
        except OSError:
            pass  # its connection was ended, or its pipe is full
        deadline = time.monotonic() + 20
        while rss(host) > 150 << 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rss(host) < 150 << 20
        assert asked > 20


def test_who_asks_for_more_than_it_takes_is_left_waiting(host, job, unharmed):
    """Thousands of waiting requests on one connection: the daemon reads so many and no more."""
    with host.client() as good:
        run = good.queue(job, b"")["runs"][0]["id"]
        with peer(host) as bad:
            bad.socket.settimeout(0.5)
            sent = 0
            try:
                for number in range(50_000):
                    bad.ask(number, "run.wait", {"runs": [str(run)], "for": "done", "hold": 20_000})
                    sent += 1
            except TimeoutError:
                pass
            assert sent < 50_000
            good.cancel(run)
            bad.socket.settimeout(20)
            assert bad.reply()[1] == 0


def test_five_hundred_at_once(host, unharmed):
    path = host.home / "run" / "jobd.sock"
    with ExitStack() as stack:
        many = [stack.enter_context(raw_peer(path)) for _ in range(500)]
        for number, one in enumerate(many):
            one.ask(number, "ping")
        for number, one in enumerate(many):
            assert one.reply()[:2] == (number, 0)
        with host.client() as other:
            other.ping()


def test_five_hundred_that_only_connect(host, unharmed):
    path = str(host.home / "run" / "jobd.sock")
    with ExitStack() as stack:
        for _ in range(500):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(20)
            one.connect(path)
        with host.client() as good:
            good.ping()

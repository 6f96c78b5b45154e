"""The daemon's socket with its real connections, driven by hand: who gets a turn, and what is
kept."""

from __future__ import annotations

import itertools
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from jobd.core.commands import Caller
from jobd.server import peers
from jobd.server.access import Users
from jobd.server.doors import Doors
from jobd.server.kernel import Request
from jobd.server.listener import MOST_WITHIN, unix_socket
from jobd.server.peers import Peers
from jobd.server.router import Router
from jobd.server.zmtp import GREETING, frame
from jobd.wire import envelope
from tests.support.rawpeer import long_frame, ready

HELLO = GREETING + ready()
PING = frame(envelope.request(1, "ping", {}, None))


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    one = Router(tmp_path / "s", Doors(), Users())
    yield one
    one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def connect(router: Router) -> Iterator[Callable[[bytes], socket.socket]]:
    """A new connection that says something at once; what does not fit into its pipe is left."""
    made = []

    def one(says: bytes) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        made.append(connection)
        connection.connect(str(router.path))
        connection.setblocking(False)
        connection.send(HELLO + says)
        return connection

    yield one
    for connection in made:
        connection.close()


@pytest.fixture
def uids(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Whom the next connections are of."""
    now = [1]
    monkeypatch.setattr(peers, "who", lambda connection: (now[0], 4711))

    def choose(uid: int) -> None:
        now[0] = uid

    return choose


def rounds(router: Router, most: int = 64) -> Iterator[list[Request]]:
    """What is received, again and again; every request is answered at once."""
    while True:
        router.wait(0)
        requests, _ = router.receive(most)
        yield requests
        for request in requests:
            router.send(request, envelope.result(request.number, {}), True, 0)
        router.flush()


def settle(router: Router) -> None:
    for _ in itertools.islice(rounds(router), 8):
        pass


@pytest.mark.parametrize(
    "flood",
    [
        PING * 3000,
        b"\x01\0" * 30_000,  # parts without end
        b"\x04\x07\x04PING\0\0" * 6000,
        b"\0\0" * 30_000,  # empty requests
    ],
)
def test_another_user_passes_a_flood(router, connect, uids, flood):
    """However many connections a user has, and whatever they say, another has the next turn."""
    uids(1)
    many = [connect(flood) for _ in range(30)]
    going = rounds(router)
    next(going)
    for _ in range(3):
        next(going)
    uids(2)
    connect(PING)
    seen = 0
    for requests in itertools.islice(going, 12):
        seen += 1
        if any(request.caller.uid == 2 for request in requests):
            break
    else:
        pytest.fail("its request never came")
    # one pass to be accepted, and one or two to be read
    assert seen <= 4
    assert any(one.fileno() >= 0 for one in many)
    assert next(going) or router.receive(1)[1]  # the flood is not over


def test_a_connection_gives_way_after_a_few_requests(router, connect):
    connect(PING * 500)
    connect(PING * 500)
    going = rounds(router)
    requests = next(itertools.dropwhile(lambda found: len(found) < 32, going))
    turns = [len(list(group)) for _, group in itertools.groupby(r.peer for r in requests)]
    assert len(turns) >= 4
    assert max(turns) <= 8


def test_what_is_under_way_is_bounded_and_goes_on_later(router, connect, uids):
    """Who is not answered is read no further, by connection and by user; a new one still is."""
    uids(1)
    for _ in range(120):
        connect(PING * 400)
    waiting: list[Request] = []
    for _ in range(5000):
        router.wait(0)
        requests, more = router.receive(64)
        waiting += requests
        router.flush()
        if not requests and not more and len(waiting) > 1000:
            break
    by_peer = {
        peer: len(list(of)) for peer, of in itertools.groupby(sorted(r.peer for r in waiting))
    }
    assert max(by_peer.values()) <= 256 + 8
    assert 16_000 <= len(waiting) <= 16_384 + 120 * 8
    connect(PING)  # of the same user
    found = [request for requests in itertools.islice(rounds(router), 8) for request in requests]
    assert len(found) == 1
    for request in waiting:
        router.send(request, envelope.result(1, {}), True, 0)
    router.flush()
    left = 0
    for requests in itertools.islice(rounds(router), 2000):
        left += len(requests)
        if left == 120 * 400 - len(waiting):
            break
    else:
        router._sweep(0)  # what waits for its user is looked at each second
        left += sum(len(requests) for requests in itertools.islice(rounds(router), 2000))
    assert left == 120 * 400 - len(waiting)


def test_the_largest_half_goes_where_a_user_keeps_too_much(router, connect, uids):
    uids(1)
    small = connect(long_frame(bytes(50_000))[:-1])
    settle(router)
    half = long_frame(bytes(1 << 20))[:-1]
    large = []
    for _ in range(70):
        one = connect(b"")
        rest = memoryview(half)
        while rest:
            try:
                rest = rest[one.send(rest) :]
            except BlockingIOError:
                pass
            except OSError:
                break
            router.wait(0)
            router.receive(64)
        large.append(one)
    assert router._peers.users[1].held <= peers.MOST_OF_USER
    ended = [one for one in large if gone(one)]
    assert 5 <= len(ended) <= 8
    assert not gone(small)


def gone(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def test_who_left_while_it_had_to_wait_is_let_go(router, connect):
    """Half of it is gone, the other half would be told of by the kernel for ever."""
    one = connect(PING * 400)
    waiting = []
    for _ in range(100):
        router.wait(0)
        waiting += router.receive(64)[0]
    assert len(waiting) >= 256
    one.close()
    for _ in range(3):
        router.wait(0)
        router.receive(64)
    assert router.gone
    assert not router._by_fd
    router.send(waiting[0], b"", True, 0)  # nobody is there: nothing


def test_no_descriptor_is_left(router, connect):
    """The backlog waits a second and is not told of all the time; then it is taken up again."""
    connect(PING)
    settle(router)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = connect(PING)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    fill = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        with suppress(OSError):
            while True:
                fill.append(socket.socket(socket.AF_UNIX))
        router.wait(0)
        router.receive(64)
        assert router.listeners.paused
        router.wait(0)
        assert router._ready == []
    finally:
        for each in fill:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    router._sweep(max(each.paused_until for each in router.listeners.by_fd.values()))
    requests = [r for found in itertools.islice(rounds(router), 4) for r in found]
    assert len(requests) == 1
    late.close()


def test_a_slow_reader_gets_every_byte_in_order(router, connect):
    one = connect(frame(envelope.request(5, "ping", {}, None)))
    (request,) = next(itertools.dropwhile(lambda found: not found, rounds(router)))
    bodies = [bytes([n]) * (20_000 + n) for n in range(90)]
    for body in bodies:
        router.send(request, body, False, 0)
    expected = b"".join(map(frame, bodies))
    came = bytearray()
    for _ in range(10_000):
        router.flush()
        router.wait(0)
        router.receive(1)
        try:
            came += one.recv(7_777)
        except BlockingIOError:
            break
    assert came.endswith(expected)


def test_the_last_part_of_all_connections_is_shared() -> None:
    """One user's thousands leave places for others, and theirs leave places for a third."""
    these = Peers(64)
    connection = socket.socket(socket.AF_UNIX)
    count = dict.fromkeys((1, 2, 3), 0)
    for uid in (1, 2, 3):
        while these.add(connection, uid, 0, 0.0) is not None:
            count[uid] += 1
    connection.close()
    assert count == {1: 56, 2: 4, 3: 2}


# -- from inside of attempts -----------------------------------------------------------------


@pytest.fixture
def within(router: Router, tmp_path: Path) -> Callable[[int], Path]:
    """The path of a socket of a run's attempt, which is listened to."""

    def one(run: int) -> Path:
        path = tmp_path / f"run{run}"
        listening = unix_socket()
        listening.bind(str(path))
        listening.listen(64)
        caller = Caller(0, "root", 0, f"run:{run}", within=(run, 1))
        router.listeners.open(caller, listening)
        return path

    return one


def asking(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    connection.setblocking(False)
    connection.send(HELLO + PING)
    return connection


def test_who_asks_is_told_by_the_socket(router: Router, within: Callable[[int], Path]) -> None:
    with asking(router.path), asking(within(7)), asking(within(8)):
        found = {request.caller.within: request for request in taken(router, 3)}
    assert set(found) == {None, (7, 1), (8, 1)}
    assert found[7, 1].caller.principal == "run:7"
    assert (found[7, 1].turn, found[8, 1].turn) == (-7, -8), "none takes of root's turns"


def taken(router: Router, count: int) -> list[Request]:
    requests: list[Request] = []
    for _ in range(50):
        router.wait(20)
        requests += router.receive(64)[0]
        if len(requests) >= count:
            break
    return requests


def test_the_connections_of_an_attempt_are_bounded(
    router: Router, within: Callable[[int], Path]
) -> None:
    path = within(7)
    with ExitStack() as open_:
        many = [open_.enter_context(asking(path)) for _ in range(MOST_WITHIN + 8)]
        assert len(taken(router, MOST_WITHIN + 8)) == MOST_WITHIN
        assert router._peers.count(-1) == MOST_WITHIN, "others wait in its backlog"
        with asking(router.path):
            assert len(taken(router, 1)) == 1, "and nobody else does"
        for one in many[:10]:
            one.close()
        late: list[Request] = []
        for _ in range(100):
            router._sweep(max(each.paused_until for each in router.listeners.by_fd.values()))
            router.wait(10)
            late += router.receive(64)[0]
            if len(late) == 8:
                break
        assert len(late) == 8, "there is room again"
        router.shut((7, 1))
        assert not router._peers.of(-1)
        with socket.socket(socket.AF_UNIX) as one, pytest.raises(ConnectionRefusedError):
            one.connect(str(path))

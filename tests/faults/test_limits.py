"""A daemon at the limits of its own process: memory (row 29) and descriptors (row 30)."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobctl.client import Client
from jobd.errors import InternalError, JobdError, OutcomeUnknownError, RefusedError
from tests.support.struck import Asking, StruckHost


def limit(host: StruckHost, what: int, most: int) -> None:
    """Set one of its limits from outside."""
    _, hard = resource.prlimit(host.pid, what)
    resource.prlimit(host.pid, what, (most, hard))


def queued(host: StruckHost) -> int:
    """How many runs there are."""
    count: int = host.json("status")["counts"]["queued"]
    return count


def test_where_memory_runs_out_nothing_promised_is_lost(host: StruckHost) -> None:
    """Row 29: a request fails, or the daemon ends and its next start has all of it."""
    pages = int(Path(f"/proc/{host.pid}/statm").read_text().split()[0])
    limit(host, resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + (6 << 20))
    acked, problem = 1, None
    with host.client() as client:
        while problem is None and acked < 100_000:
            try:
                acked += len(client.queue("job", os.urandom(4000), count=1000)["runs"])
            except JobdError as error:
                problem = error
    assert isinstance(problem, OutcomeUnknownError | InternalError | RefusedError)
    if isinstance(problem, OutcomeUnknownError):
        assert host.ended() not in (0, 65, 74), host.said()
        assert "MemoryError" in host.said()
    else:
        host.end()
    host.start()
    assert queued(host) in (acked, acked + 1000)
    with host.client() as client:
        assert client.payload(1) == b"first"
        client.queue("job", b"goes on")


def test_where_no_descriptor_is_left_all_goes_on(host: StruckHost) -> None:
    """Row 30: the queue keeps its own; who comes waits, and is taken when there is one again."""
    with host.client() as client, ExitStack() as stack:
        client.queue("job", b"second")
        limit(host, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{host.pid}/fd")) + 2)
        for _ in range(20):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            peer.connect(str(host.home / "run" / "jobd.sock"))
        for number in range(3):
            client.queue("job", b"%d" % number, count=1000)
        with pytest.raises(JobdError):
            client.snapshot()
        # a large payload is a file of its own
        with pytest.raises(RefusedError):
            client.queue("job", b"large" * 50_000)
        late = Asking(host, lambda one: one.queue("job", b"late"))
        assert queued_by(client) == 3002
        limit(host, resource.RLIMIT_NOFILE, 1024)
        late.join()
        assert not isinstance(late.result, JobdError), late.result
        client.queue("job", b"large" * 50_000)
        assert client.snapshot()["problem"] is None
    host.restart()
    assert queued(host) == 3004


def queued_by(client: Client) -> int:
    """As `queued`, over a connection that is there."""
    count: int = client.status()["counts"]["queued"]
    return count

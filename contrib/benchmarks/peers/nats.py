"""NATS JetStream, a file stream synced always; a publish is answered when it is stored."""

from __future__ import annotations

import json
import socket

from benchmarks.peers import Peer
from benchmarks.rig import Missing, Rig, wait_for
from benchmarks.wires import loopback

_CONFIG = """
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{folder}", sync_interval: always }}
"""


def start(rig: Rig, payload: int, port: int = 18_312) -> Peer:
    """Start one, with a stream that keeps every message."""
    folder = rig.folder / "nats"
    folder.mkdir()
    (folder / "conf").write_text(_CONFIG.format(port=port, folder=folder / "store"))
    process = rig.start([rig.program("nats-server"), "-c", str(folder / "conf")])
    wait_for(lambda: loopback(port), "nats-server")
    stream = {
        "name": "BENCH", "subjects": ["bench"], "storage": "file", "retention": "workqueue",
        "num_replicas": 1, "max_msgs": -1, "max_bytes": -1, "discard": "old",
    }  # fmt: skip
    with loopback(port) as sock:
        answer = _ask(sock, b"$JS.API.STREAM.CREATE.BENCH", json.dumps(stream).encode())
    if b'"error"' in answer:
        raise Missing(f"nats: {answer[-200:]!r}")
    arguments = {"port": port, "payload": payload}
    return Peer(
        "nats jetstream", "one publish a request, sync_interval always (by strace: one fsync each)",
        lambda n: {"wire": "Nats", "arguments": arguments, "clients": n},
        pid=process.pid,
    )  # fmt: skip


def _ask(sock: socket.socket, subject: bytes, body: bytes) -> bytes:
    sock.recv(65536)
    sock.sendall(
        b"CONNECT {}\r\nSUB _INBOX.x 1\r\nPUB %b _INBOX.x %d\r\n%b\r\n" % (subject, len(body), body)
    )
    data = b""
    while b"MSG _INBOX.x" not in data or not data.endswith(b"}\r\n"):
        more = sock.recv(65536)
        if not more:
            raise Missing(f"nats: closed: {data[-200:]!r}")
        data += more
    return data

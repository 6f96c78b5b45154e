"""Stands between jobd and its engine, and lets a test act at the very request that it waits for.

One connection carries one request, as jobd's client asks for; what is not waited for goes through
untouched, streams included.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

Hook = Callable[[], None]


class Proxy:
    """A unix socket at `path` that passes everything on to the engine's at `target`."""

    def __init__(self, path: Path, target: str) -> None:
        self.socket = f"unix://{path}"
        self._target = target.removeprefix("unix://")
        self._rules: list[tuple[re.Pattern[str], Hook | None, Hook | None, threading.Event]] = []
        self._lock = threading.Lock()
        #: every request line that passed, in order
        self.seen: list[str] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def once(
        self, pattern: str, *, before: Hook | None = None, after: Hook | None = None
    ) -> threading.Event:
        """Act on the next request whose line (`POST /v1.41/containers/create?..`) matches.

        `before` runs before the engine hears of it, `after` when it has answered and jobd has not
        heard yet; either may raise ConnectionError, and the connection is cut there. The event is
        set when that is done.
        """
        done = threading.Event()
        with self._lock:
            self._rules.append((re.compile(pattern), before, after, done))
        return done

    def close(self) -> None:
        """Cut every connection."""
        self._listener.close()
        with self._lock:
            waiting, self._open = self._open, set()
        for each in waiting:
            _cut(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._open |= {client, upstream}
        done = None
        try:
            head = client.recv(1 << 16)
            if not head:
                return
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            self.seen.append(line)
            before, after, done = self._rule(line)
            if before is not None:
                before()
            upstream.connect(self._target)
            upstream.sendall(head)
            back = threading.Thread(target=_pump, args=(client, upstream), daemon=True)
            back.start()
            if after is not None:
                answer = upstream.recv(1 << 16)
                after()
                client.sendall(answer)
            if done is not None:
                done.set()
            _pump(upstream, client)
        except OSError:
            pass
        finally:
            if done is not None:
                done.set()
            with self._lock:
                self._open -= {client, upstream}
            _cut(client)
            _cut(upstream)

    def _rule(self, line: str) -> tuple[Hook | None, Hook | None, threading.Event | None]:
        with self._lock:
            for rule in self._rules:
                if rule[0].search(line):
                    self._rules.remove(rule)
                    return rule[1], rule[2], rule[3]
        return None, None, None


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _cut(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    each.close()

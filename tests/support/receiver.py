"""A receiver of alerts on the loopback that answers, fails, hangs or redirects as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Got(NamedTuple):
    """One request: its path, its headers in small letters, its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Receiver:
    """Listens on a port of its own. `answer` is called with each request's handler once it is
    read; what it raises or leaves out is the other end's trouble."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        #: those of them that were answered with 200
        self.good: list[Got] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = ok
        self.release = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                headers = {key.lower(): value for key, value in self.headers.items()}
                got, answer = Got(self.path, headers, body), receiver.answer
                receiver.got.append(got)
                answer(self)
                if answer is ok:
                    receiver.good.append(got)

            do_GET = do_POST

            def log_message(self, *words: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *words: object) -> None:
                pass  # whoever asked has gone, as the tests want it

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its root."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Ends it, and what hangs in it."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    # -- answers ---------------------------------------------------------------------------

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """No answer, until all is released."""
        self.release.wait(60)
        handler.close_connection = True

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """An answer that never comes to its end, a byte now and then."""
        while not self.release.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()


def ok(handler: BaseHTTPRequestHandler) -> None:
    """All is well."""
    status(200)(handler)


def status(number: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """That status, with nothing more."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(number)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end, as fast as it is read; for a while."""
    handler.send_response(200)
    handler.end_headers()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        handler.wfile.write(b"x" * 65536)

#!/usr/bin/env python3
"""Answers SendGrid's v3 mail/send on loopback as SendGrid does, and keeps what it gets in a file.

sink.py --key KEY --out messages.jsonl [--port N] [--port-file FILE]

202 with an X-Message-Id for a right key and body, 401 for a wrong key, 400 for a body that is not
one message. One JSON line a message. Needs nothing but Python. For demos and tests.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: what SendGrid takes in one request, in bytes
MAX_BODY = 30 << 20


def fault(body: Any) -> str | None:
    """What is wrong with a mail/send body, or None; only the parts that a plain message has."""
    if not isinstance(body, dict):
        return "the body is not an object"
    match body.get("personalizations"):
        case [{"to": [{"email": str() as to}, *_]}, *_] if "@" in to:
            pass
        case _:
            return "personalizations.0.to.0.email is not an address"
    match body.get("from"):
        case {"email": str() as sender} if "@" in sender:
            pass
        case _:
            return "from.email is not an address"
    if not isinstance(body.get("subject"), str) or not body["subject"]:
        return "the subject is missing"
    match body.get("content"):
        case [{"type": str(), "value": str() as value}, *_] if value:
            return None
        case _:
            return "content.0.value is missing"


class Sink(ThreadingHTTPServer):
    """The server with its key and the file that messages go to."""

    daemon_threads = True

    def __init__(self, port: int, key: str, out: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.key = key
        self.out = out


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Sink

    def do_POST(self) -> None:
        """Answer a message."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
            return self._answer(400, "no Content-Length")
        data = self.rfile.read(int(length))
        given = self.headers.get("Authorization", "").encode()
        if self.path != "/v3/mail/send":
            return self._answer(404, "not found")
        if not hmac.compare_digest(given, f"Bearer {self.server.key}".encode()):
            return self._answer(401, "The provided authorization grant is invalid")
        try:
            body = json.loads(data)
        except ValueError as error:
            return self._answer(400, f"Bad Request: {error}")
        if wrong := fault(body):
            return self._answer(400, wrong)
        return self._accept(body)

    def _accept(self, body: Any) -> None:
        number = uuid.uuid4().hex[:22]
        with self.server.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"message_id": number, **body}) + "\n")
        self.send_response(202)
        self.send_header("X-Message-Id", number)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, code: int, message: str) -> None:
        data = json.dumps({"errors": [{"message": message, "field": None, "help": None}]}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="gets the port once it is open")
    parser.add_argument("--key", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sink = Sink(options.port, options.key, options.out)
    print(f"sink: listening on http://127.0.0.1:{sink.server_port}/v3/mail/send", flush=True)
    if options.port_file:
        # whole or not at all: somebody waits for this file
        new = options.port_file.with_suffix(".new")
        new.write_text(f"{sink.server_port}\n")
        os.replace(new, options.port_file)
    try:
        sink.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

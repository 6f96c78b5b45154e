"""Stands where the engine would: takes what the real driver sends, and starts nothing."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

IMAGE_ID = "sha256:" + "1" * 64


class Door:
    """An engine's socket at `path`. `said`: `(method, path and query, body)` of each request."""

    def __init__(self, path: Path) -> None:
        self.said: list[tuple[str, str, Any]] = []
        self.bodies: dict[str, Any] = {}
        self._server = _Server(str(path), _Handler)
        self._server.door = self
        self.url = f"unix://{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def forget(self) -> None:
        """As if nothing had been asked."""
        self.said.clear()
        self.bodies.clear()

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """What a Docker that has every image would say."""
        plain = re.sub(r"^/v[0-9.]+", "", path)
        where, _, query = plain.partition("?")
        if where == "/version":
            return 200, {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        if where == "/info":
            return 200, {"NCPU": 2, "MemTotal": 1 << 30, "CgroupDriver": "cgroupfs"}
        if method == "POST" and where == "/containers/create":
            name = unquote(query.removeprefix("name="))
            self.bodies[name] = body
            return 201, {"Id": name, "Warnings": []}
        if method == "POST" and where.endswith("/start"):
            return 204, None
        if method == "GET" and where.startswith("/containers/"):
            made = self.bodies.get(unquote(where.split("/")[2]))
            if made is None:
                return 404, {"message": "No such container"}
            at = "2026-01-01T00:00:00.000000001Z"
            return 200, {
                "Id": where.split("/")[2],
                "Name": "/" + where.split("/")[2],
                "Image": IMAGE_ID,
                "Config": {"Labels": made["Labels"]},
                "State": {"StartedAt": at, "Status": "running"},
            }
        if method == "POST" and where == "/images/create":
            return 200, {"status": "Image is up to date"}
        if method == "GET" and where.startswith("/images/"):
            return 200, {"Id": IMAGE_ID, "Size": 1, "RepoTags": []}
        return 404, {"message": "page not found"}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    door: Door


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        assert isinstance(self.server, _Server)
        size = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(size)
        body = json.loads(data) if data else None
        self.server.door.said.append((self.command, self.path, body))
        status, answer = self.server.door.answer(self.command, self.path, body)
        text = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _do

    def address_string(self) -> str:
        return "door"

    def log_request(self, *_: Any) -> None:
        """Nothing is logged."""

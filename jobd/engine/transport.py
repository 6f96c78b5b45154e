"""What goes over the engine's connections, below the SDK: streams, answers, the system's errors."""

from __future__ import annotations

import errno
import http.client
import json
import select
import socket
from collections.abc import Iterator
from typing import Any

import requests
import urllib3.exceptions

from jobd.engine.refusals import AnswerError
from jobd.engine.stream import BrokenStreamError

#: bytes read at once
CHUNK = 1 << 16


class StdinStream:
    """A hijacked connection as the SDK gives it: the socket below, and what keeps it open."""

    def __init__(self, given: Any) -> None:
        self._given = given
        # the SDK's own object can only be read from, where it wraps a socket
        self.sock: socket.socket = getattr(given, "_sock", given)

    def close(self) -> None:
        """Close both: the SDK's object alone would leave the connection (docker-py 1507)."""
        self.sock.close()
        if self._given is not self.sock:
            self._given.close()


def pieces(response: requests.Response) -> Iterator[tuple[bytes, bool] | None]:
    """The bytes of an answer as they come, each with whether more is there; None: a silence."""
    raw = response.raw
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    try:
        for chunk in raw.stream(CHUNK, decode_content=False):
            # more may also wait in http.client's buffer: then this says no, and a batch is small
            yield chunk, bool(poll.poll(0))
    except urllib3.exceptions.ReadTimeoutError:
        yield None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise BrokenStreamError(f"log stream: broke off: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, for one request."""

    def __init__(self, path: str, connect_s: float, answer_s: float) -> None:
        super().__init__("localhost", timeout=answer_s)
        self._path, self._connect_s, self._answer_s = path, connect_s, answer_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._connect_s)
        self.sock.connect(self._path)
        self.sock.settimeout(self._answer_s)


def ask(path: str, method: str, target: str, connect_s: float, answer_s: float) -> tuple[int, Any]:
    """Status and JSON (None where there is none) of a request without a body, at a unix socket.

    For the requests that each attempt makes many of: by the SDK one takes 1.2 ms of CPU, so 0.3.
    Raises OSError, also for what is no HTTP.
    """
    connection = _UnixConnection(path, connect_s, answer_s)
    try:
        connection.request(method, target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            data = response.read()
            status = response.status
        return status, json.loads(data) if data else None
    except ConnectionError:
        raise  # also that it hung up before an answer
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(errno.EPROTO, f"answer cannot be read: {type(error).__name__}") from error
    finally:
        connection.close()


def read_message(line: bytes, about: str) -> dict[str, Any]:
    """One line of a pull or build. Raises AnswerError where it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise AnswerError(502, f"not a message of a pull: {line[:80]!r}", about)
    return message


def check_answer(response: requests.Response, about: str) -> None:
    """Raises AnswerError for an answer that is an error, with the engine's own text."""
    if response.status_code < 400:
        return
    text = response.text
    try:
        text = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        # a proxy's page, or an engine that is going down: its text as it is
        pass
    raise AnswerError(response.status_code, text, about)


def probe(url: str, timeout_s: float) -> None:
    """Raise the system's own error where nobody listens on the engine's unix socket.

    30 us well spent: the SDK buries that error, and leaks the socket that it tried with.
    """
    path = socket_path(url)
    if path is not None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(path)


def socket_path(url: str) -> str | None:
    """The path of a unix socket, or None for an engine that is spoken to otherwise."""
    if not url.startswith("unix:"):
        return None
    return "/" + url.removeprefix("unix:").lstrip("/")


def why(error: BaseException, url: str, sdks: bool) -> str:
    """What an error below a call to the engine means, and what to do; `sdks`: the SDK's own."""
    number = system_error(error)
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        return f"no engine answers at {url}; start it"
    if number in (errno.EACCES, errno.EPERM):
        return f"no access to the engine at {url}; join the group of its socket"
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"the engine at {url} did not answer in time; whether it acted is unknown"
    if sdks:
        return " ".join(str(error).split())[:300]
    return f"the engine at {url} broke off: {' '.join(str(error).split())[:200]}"


def system_error(error: BaseException) -> int | None:
    """The system's error number below what requests and the SDK wrapped around it."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno is not None:
            return one.errno
        waiting += [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
    return None

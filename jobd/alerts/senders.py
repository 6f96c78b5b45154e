"""Carries one message to where it goes: by HTTP, to a command, to the journal of systemd.

Runs in `jobd notify` alone, without rights. Each raises DeliveryError saying why not, without the
URL's path, which may be a secret. None takes longer than DEADLINE, whatever the other end does.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jobd.core import urls
from jobd.errors import InvalidError

#: seconds for all of one delivery, and for each step of it
DEADLINE, STEP = 20.0, 10.0
#: of an answer: nothing of it is needed but its status
_READ = 4096
#: where commands find others
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: numbers of the journal's priorities (syslog): error, and notice
_PRIORITY = {"raised": 3, "resolved": 5, "test": 5}


class DeliveryError(Exception):
    """It was not delivered; the sentence says why."""


def send_http(url: str, headers: Mapping[str, str], body: bytes) -> None:
    """POST the body; delivered is what is answered with 2xx. A redirect is not followed: it would
    lead to where the allow-list says nothing of. No proxy of the environment is used."""
    try:
        to = urls.parse(url)
    except InvalidError as error:
        raise DeliveryError(str(error)) from None
    host = to.host.strip("[]")
    made: http.client.HTTPConnection
    if to.scheme == "https":
        context = ssl.create_default_context()
        made = http.client.HTTPSConnection(host, to.port, timeout=STEP, context=context)
    else:
        made = http.client.HTTPConnection(host, to.port, timeout=STEP)
    late = threading.Event()

    def cut() -> None:
        # one that sends a byte now and then would keep each step within its time
        late.set()
        if made.sock is not None:
            try:
                made.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself

    timer = threading.Timer(DEADLINE, cut)
    timer.daemon = True
    timer.start()
    try:
        made.request("POST", to.target, body, dict(headers))
        answer = made.getresponse()
        answer.read(_READ)
        status = answer.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set():
            raise DeliveryError(f"{to.place}: not done within {DEADLINE:g} s") from None
        raise DeliveryError(f"{to.place}: {_said(error)}") from None
    finally:
        timer.cancel()
        made.close()
    if 300 <= status < 400:
        raise DeliveryError(f"{to.place}: answered {status}: redirects are not followed")
    if not 200 <= status < 300:
        raise DeliveryError(f"{to.place}: answered {status}")


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def run_command(command: Sequence[str], fields: Mapping[str, Any], body: bytes) -> None:
    """Run the command, the body on its standard input; delivered is an exit status of 0.

    No shell, an environment of its own, no file of ours but the input; the whole group is killed
    when its time is over.
    """
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }
    env |= {f"ALERT_{key.upper()}": str(value) for key, value in fields.items()}
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=env,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{command[0]}: cannot be run: {_said(error)}") from None
    try:
        process.communicate(body, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        raise DeliveryError(f"{command[0]}: not done within {DEADLINE:g} s") from None
    finally:
        _end_group(process)
    if process.returncode != 0:
        raise DeliveryError(f"{command[0]}: exit status {process.returncode}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing of it is left
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def tell_journal(path: str, fields: Mapping[str, Any]) -> None:
    """Write an entry of the journal, by its own protocol: no text can forge a field or an entry."""
    message = str(fields.get("text", ""))
    entry = {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITY.get(str(fields.get("state")), 5)),
        "SYSLOG_IDENTIFIER": "jobd",
        **{f"JOBD_ALERT_{key.upper()}": str(value) for key, value in fields.items()},
    }
    data = b""
    for name, text in entry.items():
        value = text.encode()
        data += name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.settimeout(STEP)
            to.sendto(data, path)
    except OSError as error:
        raise DeliveryError(f"journal {path}: {_said(error)}") from None

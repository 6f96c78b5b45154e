"""What systemd is told: a datagram to the socket that it names. Nothing where it names none."""

from __future__ import annotations

import os
import socket


def watchdog_s() -> float | None:
    """How often systemd's watchdog has to be fed at least, in seconds; None: it watches not."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def notify(*lines: str) -> None:
    """Send `READY=1`, `STATUS=...` and the like. A lost one is not worth a failure."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall("\n".join(lines).encode())
    except OSError:
        pass  # the unit goes on without: systemd decides by its own time-outs

"""What systemd hears, from a real daemon and a real notify socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path


def test_ready_watchdog_and_stopping_are_told() -> None:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        path = str(Path(folder, "notify"))
        told.bind(path)
        told.settimeout(30)
        env = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        env.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-m", "jobd", "run", "--home", f"{folder}/h", "--engine", "fake"]
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as daemon:
            heard = [told.recv(4096).decode() for _ in range(4)]
            daemon.send_signal(signal.SIGSTOP)
            told.settimeout(0.05)
            while True:
                try:
                    told.recv(4096)
                except TimeoutError:
                    break
            # a daemon that hangs feeds no watchdog
            told.settimeout(1)
            try:
                fed = told.recv(4096)
            except TimeoutError:
                fed = b""
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            told.settimeout(30)
            while "STOPPING=1" not in heard[-1]:
                heard.append(told.recv(4096).decode())
        assert any(text.startswith("READY=1\nSTATUS=serving ") for text in heard)
        assert "WATCHDOG=1" in heard
        assert fed == b""
        assert daemon.returncode == 0

"""The shims' server: loaded once by a daemon, it forks a shim in a millisecond.

Started by engine/launch.py as `python -I -S`. It knows nothing of attempts and has no files: it
ends when its daemon is gone, and the shims it has made go on without it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket

from jobd.engine.shim.command import be_server, be_shim
from jobd.engine.shim.main import main
from jobd.engine.shim.records import FAILED, boot_id

#: bytes of a reason
_LONGEST = 4 << 10


class Title:
    """The words of this process's command line as `ps` shows them, written over."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        #: proc(5): arg_start, arg_end; as many bytes as the words had at the start
        self._start = int(fields[45])
        self._size = int(fields[46]) - self._start

    def write(self, *words: bytes) -> None:
        """Show these words, as far as they fit."""
        # the last byte stays 0: with another there the kernel reads on into the environment
        data = b"\0".join(words)[: self._size - 1]
        ctypes.memmove(self._start, data.ljust(self._size, b"\0"), self._size)


def serve(number: int) -> None:
    """Fork a shim for each channel that comes over the socket `number`, until the other end is
    closed."""
    os.umask(0o077)
    be_server()
    # a host that goes down tells everybody; the commands hear it too and end first
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    # nobody waits for a shim here: who follows it has its channel, or its pid and start
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    title, boot = Title(), boot_id()
    door = socket.socket(fileno=number)
    # what is never collected is never written to, and a fork shares it
    gc.disable()
    gc.freeze()
    while True:
        message, channels, _, _ = socket.recv_fds(door, 1, 1)
        if not message:
            return
        # the command must not have it; recv_fds of python 3.11 takes flags and drops them
        os.set_inheritable(channels[0], False)
        try:
            pid = os.fork()
        except OSError as error:
            os.write(channels[0], FAILED + f"no shim: {error.strerror}".encode())
            pid = -1
        if pid == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_one(channels[0], boot, title)
        os.close(channels[0])


def _be_one(channel: int, boot: str, title: Title) -> None:
    """The life of one shim. Never returns."""
    try:
        os.dup2(1, 2)  # the daemon's, which must not be held open when it is gone
        os.setsid()
        be_shim()
        main(channel, boot, title.write)
    except (OSError, ValueError, LookupError) as error:
        _say(channel, f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)  # no time for python's own clearing up


def _say(channel: int, why: str) -> None:
    try:
        os.write(channel, FAILED + why.encode("utf-8", "replace")[:_LONGEST])
    except OSError:
        pass  # nobody is there to hear it

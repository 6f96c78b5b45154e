"""A payload on an attempt's standard input: given once, and known to have been given whole.

What was written to a pipe cannot be taken back or written again. So an attempt whose input broke
off (jobd or the engine was killed while it was written) reads an early end that it cannot tell from
the true one; it is killed, and its end is the host's fault whatever its exit status says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from jobd.daemon.control import Control
from jobd.engine.base import Input

#: after a break: how long the attempt has to turn out to have ended by itself, in seconds
GRACE_S = 3.0
CUT = "its standard input broke off before the payload was written whole"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PayloadInput:
    """The payload in an attempt's folder as its :class:`~jobd.engine.base.Input`.

    A file `stdin` beside what is mounted, so out of the attempt's reach, tells a later daemon
    that all was written. It needs no sync: a host that goes down takes the attempt along.
    """

    def __init__(self, folder: Path, payload: Path | None = None) -> None:
        """`folder` is the attempt's own (daemon/workdir.py), `payload` the file that is given
        where it is not in there; nothing is touched yet."""
        self._folder = folder
        self._payload = payload or folder / "job" / "payload"
        self._over = threading.Event()
        self._feeding = False
        self._broken = threading.Event()
        self._on_break: Callable[[], None] = lambda: None

    def open(self) -> int:
        """As in the protocol."""
        return os.open(self._payload, _READ)

    def begun(self) -> None:
        """As in the protocol."""
        self._feeding = True

    @property
    def over(self) -> bool:
        """As in the protocol."""
        return self._over.is_set()

    def settled(self, whole: bool) -> None:
        """As in the protocol."""
        if whole:
            try:
                (self._folder / "stdin").touch(0o600)
            except OSError:
                pass  # a disk that is full: after a restart the attempt counts as cut short
            return
        # an engine that goes down with the attempt breaks the stream as well
        if not self._over.wait(GRACE_S):
            self._broken.set()
            self._on_break()

    def end(self) -> None:
        """The attempt has ended: nothing more is written."""
        self._over.set()

    def is_owed(self) -> bool:
        """Whether the attempt runs, was not given all, and nobody is giving it the rest."""
        return self._broken.is_set() or not (self._feeding or (self._folder / "stdin").exists())

    def on_break(self, call: Callable[[], None]) -> None:
        """Have `call` made, from another thread, where the stream breaks while the attempt runs."""
        self._on_break = call
        if self._broken.is_set():
            call()


class InputWatch:
    """Kills an attempt whose input was cut short. `cut` is then true, and its end the host's."""

    def __init__(self, source: Input | None, control: Control) -> None:
        self._source = source if isinstance(source, PayloadInput) else None
        self._control = control
        self.cut = False

    def began(self) -> None:
        """The attempt runs, or has run."""
        if self._source is not None:
            if self._source.is_owed():
                self._cut()
            self._source.on_break(self._cut)

    def ended(self) -> None:
        """The attempt has ended."""
        if self._source is not None:
            self._source.end()

    def _cut(self) -> None:
        self.cut = True
        self._control.kill()

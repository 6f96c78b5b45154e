"""`jobd notify` as a child of the daemon, where no unit of systemd starts it.

It lives while its standard input is open, which ends with the daemon however that ends, and goes by
itself when there has been nothing to deliver for a while.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

_log = logging.getLogger(__name__)

#: the first wait after one that has ended without being asked to, and the longest, in milliseconds
_FIRST, _LONGEST = 1_000, 60_000
#: seconds that it is given to end
_PATIENCE = 2.0
#: what it may know of the daemon's environment
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


class NotifyChild:
    """One child at most, for the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0
        self._wait = _FIRST
        #: whether one was ever started; whether the last one has ended
        self.started = False
        self._lost = False

    def ended(self) -> bool:
        """Whether there was one, and it has ended."""
        return self._lost or (self._process is not None and self._process.poll() is not None)

    def replaced(self) -> None:
        """Somebody else delivers: no other is started for one that has ended."""
        if self._process is None:
            self._lost = False

    def start(self, user: str, now_mono: int) -> None:
        """Start one as `user` (empty: as who we are), unless it is there, or ended just now."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._forget(now_mono)
        if now_mono < self._not_before:
            return
        words = [sys.executable, "-m", "jobd", "notify", "--child", "--socket", str(self._path)]
        try:
            self._process = subprocess.Popen(
                [*words, "--user", user] if user else words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )
            self.started, self._lost = True, False
        except OSError as error:
            _log.error("alerts: jobd notify cannot be started: %s", error.strerror)
            self._forget(now_mono)

    def _forget(self, now_mono: int) -> None:
        process, self._process = self._process, None
        self._lost = True
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if process is not None and process.returncode == 0:
            self._wait, self._not_before = _FIRST, now_mono
            return
        self._not_before = now_mono + self._wait
        self._wait = min(self._wait * 2, _LONGEST)

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""How the engine for processes learns that nothing is written to an attempt's folder any more."""

from __future__ import annotations

import os
import select

from jobd.engine.attemptfolder import AttemptFolder
from jobd.engine.channel import Channel


class Listening:
    """Tells by its channel when an attempt of this daemon's own is over."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def over(self) -> bool:
        """Whether it is over now."""
        self._channel.hear(0)
        return self._channel.over

    def wait(self, seconds: float) -> None:
        """Wait so long that it is over."""
        self._channel.hear(seconds)

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *about: object) -> None:
        """The channel is the engine's."""


class Watch:
    """Tells when the shim that an earlier daemon started is gone, by its pid and start."""

    def __init__(self, folder: AttemptFolder) -> None:
        self._fd = -1
        shim = folder.look().shim
        if shim is not None:
            try:
                self._fd = os.pidfd_open(shim)
            except OSError:
                return  # it ended just now
            if folder.look().shim != shim:
                self.close()  # the number was given to another process meanwhile

    def over(self) -> bool:
        """Whether it is gone now."""
        return self._fd < 0 or self._ended(0)

    def wait(self, seconds: float) -> None:
        """Wait so long that it is gone."""
        self._ended(seconds)

    def _ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

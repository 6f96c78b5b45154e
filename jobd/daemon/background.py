"""What goes on beside the loop: the host is sampled, and space is kept ready for the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from jobd.capacity import probe
from jobd.capacity.gates import Readings
from jobd.daemon.sdnotify import notify
from jobd.errors import DiskFailedError
from jobd.journal import Journal
from jobd.server.health import Pulse

#: seconds between two samples while attempts run, and while none does
SAMPLE_BUSY, SAMPLE_IDLE = 1.0, 5.0
#: seconds between two looks at the queue's spare space
SPARE_EVERY = 0.5
#: seconds that one sync may take before the watchdog is left to bark
SLOWEST_SYNC = 60.0


class Repeating:
    """A thread that does one thing again and again; its death is the daemon's."""

    def __init__(
        self, name: str, work: Callable[[], float], fatal: Callable[[BaseException], None]
    ) -> None:
        """`work` returns after how many seconds it wants to be called again."""
        self._work = work
        self._fatal = fatal
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after what it is at."""
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self._closing.wait(self._work()):
                pass
        except BaseException as error:
            self._fatal(error)
            raise


def sampling(
    used: Callable[[], dict[int, int]],
    took: Callable[[int, float, dict[int, int], Readings], None],
    disks: Sequence[tuple[str, bool]] = (),
) -> Callable[[], float]:
    """The work of the sampler: `took(available memory, used cpu, memory by run, readings)`.

    `disks` are the paths whose file systems are looked at, each with whether it is for images.
    """

    def work() -> float:
        attempts = used()
        readings = Readings(probe.pressure(), probe.load(), probe.disks(disks))
        took(probe.available_memory(), probe.used_cpu(), attempts, readings)
        return SAMPLE_BUSY if attempts else SAMPLE_IDLE

    return work


def watching(pulse: Pulse, limit_s: float) -> Callable[[], float]:
    """The work that feeds systemd's watchdog, `limit_s` being its time, while the loop goes round.

    A disk may be slow for longer than that: a sync under way counts as progress for a minute, then
    the daemon is killed and started anew like one that hangs (DURABILITY W7).
    """

    def work() -> float:
        age = time.monotonic() - pulse.turned
        if pulse.doing == "idle" or age < (SLOWEST_SYNC if pulse.doing == "syncing" else limit_s):
            notify("WATCHDOG=1")
        return limit_s / 3

    return work


def keeping_space(journal: Journal) -> Callable[[], float]:
    """The work that keeps the queue's space ready. A disk that fails shows in the next write."""

    def work() -> float:
        try:
            journal.spare()
        except DiskFailedError:
            pass  # the journal refuses every later call: the loop meets it and tells why
        return SPARE_EVERY

    return work

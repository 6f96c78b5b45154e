"""All drivers of live attempts: the performer of the core's effects on the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from jobd.core.commands import Report
from jobd.daemon.attempt import Assignment, AttemptDriver, discard_patiently
from jobd.daemon.control import Control, guarded
from jobd.daemon.inside import Inside
from jobd.daemon.patience import Timing
from jobd.daemon.threads import Threads
from jobd.daemon.workdir import OUTPUT_LIMIT, Inputs, Workdir
from jobd.engine.base import EngineError, Order
from jobd.engine.sides import Sides
from jobd.journal.bodies import Bodies
from jobd.runlog.folder import LogFolder
from jobd.runlog.writer import DEFAULT_LIMIT, LogWriter


class Drivers:
    """One thread for each live attempt; every method returns at once and is safe from any thread.

    `post(report)`, `progress(run, attempt, text)` and `grew(run)` (its log has more) are called
    from the drivers' threads, `fatal` with an error that must end the daemon. `log_limit` is the
    size of one log file, `output_limit` that of the output files of one attempt, in bytes. `admit`
    looks at each order right before it is started, and raises StartRefusedError for what is not
    allowed. `inside` gives what looks after what an attempt asks from inside.
    """

    def __init__(
        self,
        sides: Sides,
        *,
        logs: LogFolder,
        work: Path,
        bodies: Bodies,
        post: Callable[[Report], None],
        progress: Callable[[int, int, str], None],
        grew: Callable[[int], None] = lambda run: None,
        fatal: Callable[[Exception], None],
        timing: Timing | None = None,
        admit: Callable[[Order], Order] = lambda order: order,
        log_limit: int = DEFAULT_LIMIT,
        output_limit: int = OUTPUT_LIMIT,
        boot_ms: int | None = None,
        inside: Callable[[Order, Path], Inside | None] = lambda order, path: None,
    ) -> None:
        self._sides = sides
        self._logs = logs
        self._work = work
        self._bodies = bodies
        self._post = post
        self._progress = progress
        self._grew = grew
        self._fatal = fatal
        self._timing = timing or Timing()
        self._admit = admit
        self._inside = inside
        #: bytes of output, and of output files, that are kept of an attempt started from now on
        self.log_limit = log_limit
        self.output_limit = output_limit
        self._boot_ms = host_boot_ms() if boot_ms is None else boot_ms
        self._lock = threading.Lock()
        self._drivers: dict[tuple[int, int], AttemptDriver] = {}
        self._controls: dict[tuple[int, int], Control] = {}
        self._threads = Threads()
        self._closing = False

    def workdir(self, run: int, attempt: int) -> Workdir:
        """The folder of an attempt: an order is made with its paths."""
        return Workdir(self._work, run, attempt, self._bodies, self.output_limit)

    def start(self, order: Order, inputs: Inputs) -> None:
        """A claim of this daemon's own: prepare, start, follow, report."""
        self._drive(Assignment(order, inputs))

    def adopt(
        self, order: Order, inputs: Inputs | None, *, started: bool, stopping: bool = False
    ) -> None:
        """A live attempt of an earlier daemon. `started`: the journal has its start.

        `inputs` are needed where it had not started. `stopping`: it was told to stop; the core
        asks for the signal again by :meth:`stop`.
        """
        self._drive(Assignment(order, inputs, started=started, recovered=True, stopping=stopping))

    def _drive(self, assignment: Assignment) -> None:
        order = assignment.order
        key = (order.run, order.attempt)
        workdir = self.workdir(*key)
        driver = AttemptDriver(
            self._sides.of(order.image),
            assignment,
            workdir=workdir,
            open_log=lambda: self._open_log(order),
            post=self._post,
            progress=lambda text: self._progress(*key, text),
            fatal=self._fatal,
            admit=self._admit,
            timing=self._timing,
            boot_ms=self._boot_ms,
            inside=self._inside(order, workdir.path),
        )
        with self._lock:
            if self._closing or key in self._controls:
                return
            self._drivers[key] = driver
            self._spawn(key, driver.control, driver.run)

    def _open_log(self, order: Order) -> LogWriter:
        log = self._logs.writer(order.job, order.run, order.attempt, self.log_limit)
        log.grew = lambda: self._grew(order.run)
        return log

    def _spawn(self, key: tuple[int, int], control: Control, body: Callable[[], None]) -> None:
        def run() -> None:
            try:
                body()
            finally:
                with self._lock:
                    self._drivers.pop(key, None)
                    self._controls.pop(key, None)

        self._controls[key] = control
        self._threads.run(f"attempt {key[0]}.{key[1]}", run)

    def stop(self, run: int, attempt: int, signal: str) -> None:
        """Send `signal` (`SIGTERM`) to an attempt, or keep it from starting."""
        with self._lock:
            driver = self._drivers.get((run, attempt))
        if driver is not None:
            driver.control.stop(signal)

    def discard(self, run: int, attempt: int, ref: str, image: str) -> None:
        """The end of an attempt is durable: remove its container and folder.

        `image` is its job's, empty where it has none. Also for one that no driver has (it ended
        in an earlier daemon's time).
        """
        key = (run, attempt)
        with self._lock:
            driver = self._drivers.get(key)
            if driver is None and key not in self._controls and not self._closing:
                engine = self._sides.of(image)
                control = Control(engine, ref, self._timing, self._fatal)
                workdir = self.workdir(run, attempt)

                def body() -> None:
                    discard_patiently(engine, ref, workdir, control, self._timing)

                self._spawn(key, control, lambda: guarded(body, self._fatal))
        if driver is not None:
            driver.control.discard()

    def nudge(self) -> None:
        """The engine is within reach again: whoever waits for it tries at once."""
        with self._lock:
            controls = list(self._controls.values())
        for control in controls:
            control.nudge()

    def samples(self) -> dict[int, int]:
        """Memory in bytes by run id, of the attempts that run and whose engine tells it."""
        with self._lock:
            alive = [(key, one) for key, one in self._drivers.items() if one.control.alive]
        found: dict[int, int] = {}
        for (run, _), driver in alive:
            try:
                usage = driver.usage()
            except EngineError:
                continue
            memory = usage.memory_peak if usage.memory_now is None else usage.memory_now
            if memory is not None:
                found[run] = memory
        return found

    def __len__(self) -> int:
        """How many attempts are looked after, those that are being discarded included."""
        return len(self._controls)

    def close(self, timeout_s: float) -> bool:
        """The daemon stops: threads end, attempts go on. False where some thread still hangs."""
        with self._lock:
            self._closing = True
            controls = list(self._controls.values())
        for control in controls:
            control.close()
        return self._threads.close(time.monotonic() + timeout_s)


def boot_id() -> str:
    """What names this boot of the host; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def host_boot_ms() -> int:
    """When the host was started, in milliseconds UTC by today's clock."""
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) * 1000)

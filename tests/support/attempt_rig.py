"""What the tests of attempts share: drivers on a fake engine, with waits of milliseconds."""

from __future__ import annotations

import queue
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from jobd.core.commands import Report
from jobd.daemon.drivers import Drivers
from jobd.daemon.patience import Timing
from jobd.daemon.workdir import Inputs
from jobd.engine.base import Order
from jobd.engine.fake import FakeEngine
from jobd.engine.sides import Absent, Sides
from jobd.journal.bodies import Bodies
from jobd.runlog.folder import LogFolder
from jobd.runlog.lines import Entry, parse
from tests.support import waiting

FAST = Timing(
    backoff_first=0.002,
    backoff_longest=0.01,
    poll=0.01,
    gone_apart=0.03,
    fault_window=0.2,
    notice=0.02,
    log_patience=0.3,
    result_patience=0.1,
)
#: how long a test waits for what must come; long, as the machine may be busy
PATIENCE = 30.0

T = TypeVar("T")


class Rig:
    """One daemon's worth of drivers; `restart` is a daemon that stops and one that begins."""

    def __init__(
        self,
        path: Path,
        engine: FakeEngine | None = None,
        *,
        log_limit: int = 1 << 20,
        timing: Timing = FAST,
    ) -> None:
        self.path = path
        self.engine = engine or FakeEngine(heartbeat_s=0.01)
        self.bodies = Bodies(path / "bodies")
        self.logs = LogFolder(path / "log")
        self.log_limit = log_limit
        self.timing = timing
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.fatal: queue.SimpleQueue[Exception] = queue.SimpleQueue()
        self.said: list[str] = []
        self.drivers = self._drivers()

    def _drivers(self, boot_ms: int = 0) -> Drivers:
        return Drivers(
            Sides(self.engine, Absent("no processes here")),
            logs=self.logs,
            work=self.path / "work",
            bodies=self.bodies,
            post=self.reports.put,
            progress=lambda run, attempt, text: self.said.append(text),
            fatal=self.fatal.put,
            timing=self.timing,
            log_limit=self.log_limit,
            boot_ms=boot_ms,
        )

    def restart(self, boot_ms: int = 0) -> None:
        """The daemon stops and another begins; the engine and its attempts go on."""
        assert self.drivers.close(PATIENCE)
        self.drivers = self._drivers(boot_ms)

    def close(self) -> None:
        self.engine.set_reachable(True)
        assert self.drivers.close(PATIENCE)
        self.engine.close()
        self.logs.close()
        self.bodies.close()

    def order(self, *command: str, run: int = 1, attempt: int = 1, image: str = "image") -> Order:
        return Order(
            ref=f"jobd-00000000-{run}-{attempt}",
            labels={"jobd.run": str(run)},
            run=run,
            attempt=attempt,
            job="job",
            image=image,
            image_id=None,
            pull="missing",
            command=command,
            env={"NAME": "value"},
            user=None,
            network="none",
            mounts=(),
            cpus=1.0,
            memory=1 << 20,
            pids=10,
            stop_signal="SIGTERM",
            task_dir=self.drivers.workdir(run, attempt).task_dir,
            log_bytes=1 << 26,
        )

    def start(self, *command: str, inputs: Inputs | None = None, image: str = "image") -> Order:
        order = self.order(*command, image=image)
        self.drivers.start(order, inputs or Inputs(b"the payload\n"))
        return order

    def expect(self, kind: type[T], of: queue.SimpleQueue[Report] | None = None) -> T:
        """The next report, which must be of that kind."""
        try:
            report = (of or self.reports).get(timeout=PATIENCE)
        except queue.Empty:
            fatal = [] if self.fatal.empty() else [self.fatal.get()]
            raise AssertionError(f"no {kind.__name__} came; fatal: {fatal}") from None
        assert isinstance(report, kind), report
        return report

    def log(self, run: int = 1, attempt: int = 1) -> list[Entry]:
        data, _ = self.logs.read("job", run, attempt, 0, 1 << 26)
        entries = [parse(line) for line in data.split(b"\n")[:-1]]
        assert all(entries), data
        return [entry for entry in entries if entry]

    def output(self, run: int = 1, attempt: int = 1) -> list[bytes]:
        return [entry.data for entry in self.log(run, attempt) if entry.stream != "jobd"]

    def notes(self, run: int = 1, attempt: int = 1) -> list[str]:
        return [entry.data.decode() for entry in self.log(run, attempt) if entry.stream == "jobd"]

    def finish(self, order: Order) -> None:
        """The core says that the end is durable; waits until all of the attempt is gone."""
        self.drivers.discard(order.run, order.attempt, order.ref, order.image)
        until(lambda: len(self.drivers) == 0)


#: as it is everywhere, and looks more often
until = partial(waiting.until, patience_s=PATIENCE, look_s=0.002)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: a real EFBIG, after a partial write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

"""What tests of process attempts share: an engine as root's or a person's daemon has it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobd.daemon.workdir import Inputs, Workdir
from jobd.engine import orphans
from jobd.engine.account import Account, account
from jobd.engine.base import Ending, EngineUnreachableError, Line, Order, Stream
from jobd.engine.process import ProcessEngine
from jobd.journal.bodies import Bodies
from tests.support.waiting import until

#: of its own each time: cgroups are named by it, and another run of the tests may be under way
STORE = os.urandom(16)
PATIENCE = 60.0


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can get to: pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="jp", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Bench:
    """Engines over one folder, as many as there are daemons one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "state" / "process"
        self.work = path / "state" / "work"
        #: nobody where this is root, else the user of the tests
        self.who: Account = account("nobody")
        self.owner = (self.who.uid, self.who.gid) if self.who.changes else None
        self._bodies = Bodies(path / "bodies")
        self._engines: list[ProcessEngine] = []
        self._runs: list[Order] = []
        (path / "said").mkdir()
        (path / "said").chmod(0o777)
        self.engine = self.another()

    def another(self) -> ProcessEngine:
        """A further daemon's engine."""
        engine = ProcessEngine(self.root, self.work, STORE, self.who)
        engine.connect()
        self._engines.append(engine)
        return engine

    def order(
        self,
        script: str = "",
        *,
        command: tuple[str, ...] = (),
        memory: int = 64 << 20,
        log_bytes: int = 1 << 20,
        pids: int = 100,
    ) -> Order:
        """An attempt that runs a shell script, its folder laid out."""
        run = len(self._runs) + 1
        work = Workdir(self.work, run, 1, self._bodies)
        work.prepare(Inputs(b"payload\n", in_place=True, owner=self.owner))
        order = Order(
            ref=f"jobd-{STORE.hex()[:8]}-{run}-1",
            labels={
                "jobd.store": STORE.hex(),
                "jobd.job": "job",
                "jobd.run": str(run),
                "jobd.attempt": "1",
            },
            run=run,
            attempt=1,
            job="job",
            image="",
            image_id=None,
            pull="missing",
            command=command or ("sh", "-c", script),
            env={"TASK_DIR": str(work.task_dir), "SAID": str(self.path / "said")},
            user=None,
            network="bridge",
            mounts=(),
            cpus=1.0,
            memory=memory,
            pids=pids,
            stop_signal="SIGTERM",
            task_dir=work.task_dir,
            log_bytes=log_bytes,
        )
        self._runs.append(order)
        return order

    def start(self, script: str = "", **more: object) -> Order:
        """Start an attempt."""
        order = self.order(script, **more)  # type: ignore[arg-type]
        self.engine.start(order, print)
        return order

    def ended(self, order: Order, engine: ProcessEngine | None = None) -> Ending:
        """How it ended, once it has."""
        found: list[Ending] = []

        def look() -> bool:
            ending = (engine or self.engine).ending(order.ref)
            found.extend([ending] if ending else [])
            return ending is not None

        until(look)
        return found[0]

    def output(self, order: Order, since_ns: int = 0) -> list[Line]:
        """All its output; waits until it has ended."""
        return [line for batch in self.engine.output(order.ref, since_ns) for line in batch]

    def text(self, order: Order, stream: Stream = Stream.STDOUT) -> bytes:
        """What it wrote to one stream."""
        lines = [line for line in self.output(order) if line.stream is stream]
        return b"".join(line.data + (b"" if line.partial else b"\n") for line in lines)

    def said(self, name: str = "said") -> list[str]:
        """The lines that attempts appended to a file."""
        path = self.path / "said" / name
        return path.read_text().splitlines() if path.exists() else []

    def shim(self, order: Order) -> int:
        """The pid of its shim."""
        text = (self.root / order.ref / "claim.1").read_text()
        return int(text.split()[1])

    def close(self) -> None:
        """End everything that was started, and remove it."""
        for order in self._runs:
            for pid in processes_of(order.task_dir):
                os.kill(pid, signal.SIGKILL)
            until(lambda order=order: gone(self.engine, order.ref))  # type: ignore[misc]
        for engine in self._engines:
            engine.close()
        self._bodies.close()


def gone(engine: ProcessEngine, ref: str) -> bool:
    """Discard it; whether that has come to pass."""
    try:
        engine.discard(ref)
    except EngineUnreachableError:
        return False
    return True


def processes_of(task_dir: Path) -> list[int]:
    """The living processes that have the attempt's TASK_DIR in their environment."""
    return orphans.find(task_dir, set())

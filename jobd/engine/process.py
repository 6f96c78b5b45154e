"""Attempts as processes of the host, not isolated: for jobs without an image.

Each has a shim (engine/shim) that outlives jobd; PROCESS.md tells how they stay one attempt over
every crash of either. See :class:`jobd.engine.base.Engine` for the calls.
"""

from __future__ import annotations

import os
import select
import signal as signals
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from jobd.engine import orphans
from jobd.engine.account import Account, closed_folder, open_way
from jobd.engine.attemptfolder import AttemptFolder, View, folders, is_same, sweep
from jobd.engine.base import (
    Ending,
    EngineInfo,
    EngineUnreachableError,
    Found,
    GoneError,
    Line,
    Order,
    OrphanedError,
    Phase,
    Progress,
    Started,
    StartRefusedError,
    Usage,
)
from jobd.engine.cage import Cage, Cages
from jobd.engine.launch import PATIENCE, last_words, launch
from jobd.engine.rawlog import RawLog
from jobd.engine.usage import usage_of

_MILLI = 1_000_000
#: how often a running attempt's output is looked at, in seconds: at first, and when it is silent
_LOOK_FIRST, _LOOK_LAST = 0.01, 0.25
#: an empty batch is given at least so often
_SIGN_OF_LIFE = 5.0


class ProcessEngine:
    """Attempts as processes. `root` holds their folders, `work` those that they find their
    files in. `who` they run as; a text says why none can be started, and those that an earlier
    daemon has started are looked after all the same."""

    def __init__(
        self,
        root: Path,
        work: Path,
        store: bytes,
        who: Account | str,
        cages: Cages | None = None,
    ) -> None:
        self._root = root.absolute()
        self._work = work.absolute()
        self._store = store.hex()
        self._who = who
        self._cages = cages or Cages()
        self._lock = threading.Lock()
        self._shims: list[subprocess.Popen[bytes]] = []
        self._swept = False

    def connect(self) -> EngineInfo:
        """As in the protocol: whether processes can be started here, and as whom."""
        who = self._account()
        try:
            open_way(self._work, who)
            closed = closed_folder(self._work, who)
            self._sweep()
        except OSError as error:
            raise EngineUnreachableError(f"{error.filename}: {error.strerror}") from None
        if closed is not None:
            raise EngineUnreachableError(
                f"folder {closed} is closed to {who.name}, and processes have theirs below it: "
                f"chmod o+x {closed}"
            )
        limits = "cgroups" if self._cages.usable() else "limits of each process: approximate"
        return EngineInfo(
            name="process",
            version=os.uname().release,
            cpus=float(os.cpu_count() or 1),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            notes=("processes of the host, not isolated", f"run as {who.name}", f"by {limits}"),
        )

    def _sweep(self) -> None:
        """Remove what crashes left, once, and before anything is started: later the new looks as
        old as that (an attempt's cgroup is empty until its command is in it). Raises OSError."""
        with self._lock:
            if self._swept:
                return
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(self._root)
            prefix = f"jobd-{self._store[:8]}-"
            self._cages.sweep(prefix, {one.ref for one in folders(self._root)})
            self._swept = True

    def _account(self) -> Account:
        if isinstance(self._who, str):
            raise EngineUnreachableError(self._who)
        return self._who

    # -- starting ----------------------------------------------------------------------------

    def start(self, order: Order, progress: Progress) -> Started:
        """As in the protocol. Never starts what `started` on the disk tells of."""
        folder = AttemptFolder(self._root, order.ref)
        until = time.monotonic() + PATIENCE
        launched = False
        who = self._account()
        try:
            self._sweep()
            folder.make(order.labels, order.task_dir)
            while True:
                view = folder.look()
                if view.begun or view.end is not None:
                    return _started(view)
                if view.shim is None:
                    if launched:
                        raise EngineUnreachableError(
                            f"{order.ref}: its shim ended before the command began: "
                            f"{last_words(folder)}"
                        )
                    launched = True
                    if order.stdin is not None:
                        # a file that the command reads by itself: nothing that could break off
                        order.stdin.begun()
                        order.stdin.settled(True)
                    self._keep(launch(folder, view.launches + 1, order, who, self._cage(order)))
                elif time.monotonic() > until:
                    raise EngineUnreachableError(f"{order.ref}: its shim does not get ahead")
                else:
                    time.sleep(0.01)  # another shim has it, of a jobd that was killed meanwhile
        except FileNotFoundError:
            raise GoneError(f"{order.ref}: its folder was removed by somebody") from None
        except OSError as error:
            raise EngineUnreachableError(f"{order.ref}: {error}") from None

    def _cage(self, order: Order) -> Cage:
        return self._cages.make(order.ref, order.cpus, order.memory, order.pids)

    def _keep(self, shim: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._shims.append(shim)

    # -- looking -----------------------------------------------------------------------------

    def _look(self, ref: str) -> tuple[AttemptFolder, View]:
        """The attempt's folder and what it tells. Raises GoneError, OrphanedError."""
        self._reap()
        folder = AttemptFolder(self._root, ref)
        try:
            view = folder.look()
        except FileNotFoundError:
            raise GoneError(f"{ref}: no such process attempt") from None
        except OSError as error:
            raise EngineUnreachableError(f"{ref}: {error}") from None
        if view.orphaned and view.this_boot:
            count = self._end_orphans(folder)
            left = f"; {count} processes of it were still there and were ended" if count else ""
            raise OrphanedError(f"its shim was killed, and nobody else can tell how it ended{left}")
        return folder, view

    def _end_orphans(self, folder: AttemptFolder) -> int:
        task_dir = folder.task_dir()
        return orphans.end(task_dir, self._cages.pids(folder.ref)) if task_dir else 0

    def phase(self, ref: str) -> Phase:
        """As in the protocol; OrphanedError where the shim is gone."""
        _, view = self._look(ref)
        if view.end is not None or view.orphaned:
            return Phase.EXITED
        if view.begun:
            return Phase.RUNNING
        return Phase.CREATED if view.shim is None else Phase.UNCLEAR

    def output(self, ref: str, since_ns: int) -> Iterator[list[Line]]:
        """As in the protocol; the times are the shim's and rise over both streams."""
        folder = AttemptFolder(self._root, ref)
        if not folder.exists():
            raise GoneError(f"{ref}: no such process attempt")
        log = RawLog(folder.path, since_ns)
        pause, said = _LOOK_FIRST, time.monotonic()
        try:
            with _Watch(folder) as watch:
                while True:
                    # looked at before the read: what is written before the end is then read
                    over = watch.over()
                    for batch in log.batches():
                        pause, said = _LOOK_FIRST, time.monotonic()
                        yield batch
                    if over:
                        return
                    if time.monotonic() - said > _SIGN_OF_LIFE:
                        said = time.monotonic()
                        yield []
                    watch.wait(pause)
                    pause = min(pause * 1.5, _LOOK_LAST)
        except FileNotFoundError:
            raise GoneError(f"{ref}: removed by somebody") from None
        except OSError as error:
            raise EngineUnreachableError(f"{ref}: its output: {error}") from None
        finally:
            log.close()

    def ending(self, ref: str) -> Ending | None:
        """As in the protocol; OrphanedError where the shim is gone."""
        _, view = self._look(ref)
        if view.orphaned:
            # another boot: all that ran on the host ended with it
            began = int(view.start.get("at", "0")) // _MILLI
            return Ending(137, began, began, error="the host was started anew", host_fault=True)
        if view.end is None:
            return None
        end = view.end
        reading = self._cages.read(ref)
        usage = usage_of(reading, None)
        if usage.memory_peak is None:
            usage = Usage(
                float(end["cpu"]), int(end["peak"]) or None, "rusage", cpu_source="rusage"
            )
        return Ending(
            exit_code=int(end["code"]),
            started_at=int(end["began"]) // _MILLI,
            finished_at=int(end["ended"]) // _MILLI,
            oom=bool(reading and reading.oom_kills),
            error=end.get("refused"),
            usage=usage,
            cut=(int(end["cut_lines"]), int(end["cut_bytes"])),
            # it ended while the host went on: whoever ended it, it was not the host's going down
            host_fault=False,
            notes=tuple(end[key] for key in sorted(end) if key.startswith("note.")),
        )

    def usage(self, ref: str) -> Usage:
        """As in the protocol; without a cgroup of the command's own process alone."""
        usage = usage_of(self._cages.read(ref, alive=True), None)
        if usage.memory_peak is not None:
            return usage
        _, view = self._look(ref)
        return Usage(memory_peak=_peak_of(view.start.get("pid", "")), memory_peak_source="sampled")

    # -- stopping ----------------------------------------------------------------------------

    def signal(self, ref: str, signal: str) -> None:
        """As in the protocol: to the command's whole process group. Raises GoneError."""
        _, view = self._look(ref)
        if view.end is not None or view.shim is None or not view.start:
            return
        pid = int(view.start["pid"])
        if not is_same(pid, view.start["start"]):
            return  # it has ended; what it left behind its shim ends
        try:
            os.killpg(pid, signals.Signals[signal])
        except ProcessLookupError:
            pass  # it ended between the two lines
        except PermissionError as error:
            raise EngineUnreachableError(f"{ref}: {signal} was refused: {error}") from None

    def discard(self, ref: str) -> None:
        """As in the protocol. Waits (EngineUnreachableError) for one that still runs."""
        self._reap()
        folder = AttemptFolder(self._root, ref)
        try:
            view = folder.look()
            if view.end is None:
                if not view.begun and not folder.close_off(view.launches + 1):
                    raise EngineUnreachableError(f"{ref}: is just being started")
                if view.shim is not None:
                    raise EngineUnreachableError(f"{ref}: still runs")
                self._end_orphans(folder)
            folder.remove()
        except FileNotFoundError:
            pass  # it was discarded before
        except OSError as error:
            raise EngineUnreachableError(f"{ref}: not removed: {error}") from None
        self._cages.remove(ref)

    def found(self) -> list[Found]:
        """As in the protocol."""
        try:
            return [one for each in folders(self._root) if (one := _found(each)) is not None]
        except OSError as error:
            raise EngineUnreachableError(f"{self._root}: {error}") from None

    def close(self) -> None:
        """As in the protocol: the shims go on, and are init's children."""
        self._reap()
        with self._lock:
            for shim in self._shims:
                shim.returncode = 0  # else it complains that they still run, which is their point
            self._shims.clear()

    def _reap(self) -> None:
        """Let those go that have ended: they are this process's children."""
        with self._lock:
            self._shims = [shim for shim in self._shims if shim.poll() is None]


class _Watch:
    """Tells when an attempt's shim is gone: then nothing is written any more."""

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
        return self._fd < 0 or self._ended(0)

    def wait(self, seconds: float) -> None:
        self._ended(seconds)

    def _ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


def _started(view: View) -> Started:
    """Raises StartRefusedError where the record says that it could not be started."""
    end = view.end
    if end is not None and "refused" in end:
        raise StartRefusedError(end["refused"], int(end["code"]))
    at = view.start.get("at") or (end["began"] if end is not None else "0")
    return Started(f"process {view.start.get('pid', '?')}", "", int(at) // _MILLI)


def _found(folder: AttemptFolder) -> Found | None:
    labels = folder.labels()
    if labels is None:
        return None
    view = folder.look()
    if view.end is not None:
        phase = Phase.EXITED
    elif view.begun:
        phase = Phase.RUNNING if view.shim is not None else Phase.UNCLEAR
    else:
        phase = Phase.CREATED
    return Found(folder.ref, labels, f"process {view.start.get('pid', '?')}", phase)


def _peak_of(pid: str) -> int | None:
    try:
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return None

"""Attempts as processes of the host, not isolated: for jobs without an image.

Each has a shim (engine/shim) that outlives jobd; PROCESS.md tells how they stay one attempt over
every crash of either. See :class:`jobd.engine.base.Engine` for the calls.
"""

from __future__ import annotations

import os
import signal as signals
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from jobd.engine import orphans
from jobd.engine.account import Account, closed_folder, open_way
from jobd.engine.attemptfolder import UNTOUCHED, AttemptFolder, View, folders, is_same, sweep
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
from jobd.engine.cage import Cages
from jobd.engine.channel import Channel
from jobd.engine.launch import PATIENCE, Launcher
from jobd.engine.rawlog import RawLog
from jobd.engine.spreading import spread
from jobd.engine.usage import usage_of
from jobd.engine.watching import Listening, Watch

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
        self._launcher = Launcher()
        #: of the attempts that this daemon has started, and whose shims say how they fare
        self._channels: dict[str, Channel] = {}
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
            spread(self._root)
            spread(self._work)
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
        who = self._account()
        try:
            self._sweep()
            return self._start(AttemptFolder(self._root, order.ref), order, who)
        except FileNotFoundError:
            raise GoneError(f"{order.ref}: its folder was removed by somebody") from None
        except OSError as error:
            raise EngineUnreachableError(f"{order.ref}: {error}") from None

    def _start(self, folder: AttemptFolder, order: Order, who: Account) -> Started:
        until = time.monotonic() + PATIENCE
        view = UNTOUCHED if folder.make(order.labels, order.task_dir) else folder.look()
        failed: str | None = None
        while not view.begun and view.end is None:
            if view.shim is None and failed is None:
                started, failed = self._launch(folder, view.launches + 1, order, who)
                if started is not None:
                    return started
            elif view.shim is None:
                raise EngineUnreachableError(
                    f"{order.ref}: its shim ended before the command began: "
                    f"{failed or 'it said nothing'}"
                )
            elif time.monotonic() > until:
                raise EngineUnreachableError(f"{order.ref}: its shim does not get ahead")
            else:
                time.sleep(0.01)  # another shim has it, of a jobd that was killed meanwhile
            view = folder.look()
        return _started(view.start, view.end)

    def _launch(
        self, folder: AttemptFolder, number: int, order: Order, who: Account
    ) -> tuple[Started | None, str]:
        """What the shim says of the start; where it says nothing of one, why not."""
        if order.stdin is not None:
            # a file that the command reads by itself: nothing that could break off
            order.stdin.begun()
            order.stdin.settled(True)
        cage = self._cages.make(order.ref, order.cpus, order.memory, order.pids)
        channel = self._launcher.launch(folder, number, order, who, cage)
        if channel.start is None and channel.end is None:
            channel.close()
            return None, channel.failed
        with self._lock:
            before = self._channels.pop(order.ref, None)
            self._channels[order.ref] = channel
        if before is not None:
            before.close()
        return _started(channel.start or {}, channel.end), ""

    # -- looking -----------------------------------------------------------------------------

    def _look(self, ref: str) -> tuple[AttemptFolder, View]:
        """The attempt's folder and what it tells. Raises GoneError, OrphanedError."""
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

    def _followed(self, ref: str) -> Channel | None:
        """The attempt's channel, where it tells of all that is known."""
        channel = self._channels.get(ref)
        if channel is not None:
            channel.hear(0)
            if channel.gone and channel.end is None:
                return None  # the folder tells what became of it
        return channel

    def phase(self, ref: str) -> Phase:
        """As in the protocol; OrphanedError where the shim is gone."""
        channel = self._followed(ref)
        if channel is not None:
            return Phase.RUNNING if channel.end is None else Phase.EXITED
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
            with self._watch(folder) as watch:
                while True:
                    # looked at before the read: what is written before the end is then read
                    over = watch.over()
                    for batch in log.batches():
                        pause, said = _LOOK_FIRST, time.monotonic()
                        yield batch
                    if over:
                        words = log.last_words()
                        if words:
                            yield words
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

    def _watch(self, folder: AttemptFolder) -> Watch | Listening:
        channel = self._followed(folder.ref)
        return Watch(folder) if channel is None else Listening(channel)

    def ending(self, ref: str) -> Ending | None:
        """As in the protocol; OrphanedError where the shim is gone."""
        channel = self._followed(ref)
        if channel is not None:
            return self._ending(ref, channel.end)
        _, view = self._look(ref)
        if view.orphaned:
            # another boot: all that ran on the host ended with it
            began = int(view.start.get("at", "0")) // _MILLI
            return Ending(137, began, began, error="the host was started anew", host_fault=True)
        return self._ending(ref, view.end)

    def _ending(self, ref: str, end: dict[str, str] | None) -> Ending | None:
        if end is None:
            return None
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
        pid = self._begun(ref).get("pid", "")
        return Usage(memory_peak=_peak_of(pid), memory_peak_source="sampled")

    def _begun(self, ref: str) -> dict[str, str]:
        """The record of its start while it runs, else nothing. Raises GoneError, OrphanedError."""
        channel = self._channels.get(ref)
        if channel is not None and not channel.over:
            return channel.start or {}
        _, view = self._look(ref)
        return {} if view.end is not None or view.shim is None else view.start

    # -- stopping ----------------------------------------------------------------------------

    def signal(self, ref: str, signal: str) -> None:
        """As in the protocol: to the command's whole process group. Raises GoneError."""
        start = self._begun(ref)
        if not start or not is_same(pid := int(start["pid"]), start["start"]):
            return  # it has ended; what it left behind its shim ends
        try:
            os.killpg(pid, signals.Signals[signal])
        except ProcessLookupError:
            pass  # it ended between the two lines
        except PermissionError as error:
            raise EngineUnreachableError(f"{ref}: {signal} was refused: {error}") from None

    def discard(self, ref: str) -> None:
        """As in the protocol. Waits (EngineUnreachableError) for one that still runs."""
        folder = AttemptFolder(self._root, ref)
        channel = self._followed(ref)
        try:
            if channel is None or channel.end is None:
                self._check_over(folder)
            with self._lock:
                self._channels.pop(ref, None)
            if channel is not None:
                self._launcher.release(channel)
            folder.remove()
        except FileNotFoundError:
            pass  # it was discarded before
        except OSError as error:
            raise EngineUnreachableError(f"{ref}: not removed: {error}") from None
        self._cages.remove(ref)

    def _check_over(self, folder: AttemptFolder) -> None:
        """Nothing of it runs, and nothing will. Raises EngineUnreachableError, OSError."""
        view = folder.look()
        if view.end is None:
            if not view.begun and not folder.close_off(view.launches + 1):
                raise EngineUnreachableError(f"{folder.ref}: is just being started")
            if view.shim is not None:
                raise EngineUnreachableError(f"{folder.ref}: still runs")
            self._end_orphans(folder)

    def found(self) -> list[Found]:
        """As in the protocol."""
        try:
            return [one for each in folders(self._root) if (one := _found(each)) is not None]
        except OSError as error:
            raise EngineUnreachableError(f"{self._root}: {error}") from None

    def close(self) -> None:
        """As in the protocol: the shims go on, and are init's children."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.close()
        self._launcher.close()


def _started(start: dict[str, str], end: dict[str, str] | None) -> Started:
    """Raises StartRefusedError where the record says that it could not be started."""
    if end is not None and "refused" in end:
        raise StartRefusedError(end["refused"], int(end["code"]))
    at = start.get("at") or (end["began"] if end is not None else "0")
    return Started(f"process {start.get('pid', '?')}", "", int(at) // _MILLI)


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

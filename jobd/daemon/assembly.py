"""Puts one daemon together, and takes it apart again. The order matters: lock, replay, socket,
ready; the engine is met in the background (DURABILITY, rulings on R13 and R14)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jobd import VERSION
from jobd.capacity.gates import Readings
from jobd.capacity.ledger import Ledger, Sample
from jobd.core.commands import Report, ReportStarted
from jobd.core.decision import held_as
from jobd.core.model import Reason
from jobd.core.salvage import SUSPECT
from jobd.core.state import State
from jobd.core.states import Kind
from jobd.daemon.alertduty import AlertDuty
from jobd.daemon.arrivals import begin
from jobd.daemon.background import Repeating, keeping_space, sampling, watching
from jobd.daemon.backup import HALF
from jobd.daemon.builds import Builds
from jobd.daemon.config import Config
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.daemon.doctor import examine
from jobd.daemon.drivers import Drivers, boot_id, host_boot_ms
from jobd.daemon.engines import Engines, make_sides
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.historic import make_history
from jobd.daemon.imagegc import ImageCollector, needs
from jobd.daemon.imagetable import ImageTable
from jobd.daemon.inforce import InForce
from jobd.daemon.inside import Insides
from jobd.daemon.kernel import DaemonKernel
from jobd.daemon.orders import admitted
from jobd.daemon.performer import EffectPerformer
from jobd.daemon.places import Places, refuse_open_parents
from jobd.daemon.reconcile import reconcile, warnings
from jobd.daemon.reloading import Reloader
from jobd.daemon.sdnotify import notify, watchdog_s
from jobd.daemon.settings import Settings
from jobd.daemon.snapshots import Snapshots
from jobd.daemon.workdir import sweep_workdirs
from jobd.engine.base import Found
from jobd.engine.sides import Sides
from jobd.errors import ConfigError, DiskFailedError
from jobd.intake.spool import Spool
from jobd.journal import Journal
from jobd.journal.bodies import Bodies
from jobd.runlog.folder import LogFolder
from jobd.server.access import Users
from jobd.server.desk import Desk
from jobd.server.doors import Doors
from jobd.server.health import HealthServer, Pulse
from jobd.server.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobd.engine.imagestore import ImageStore

_log = logging.getLogger(__name__)

#: seconds that a clean stop waits for threads; attempts go on whatever they do
_STOP_PATIENCE = 3.0


class Daemon:
    """One daemon, from :meth:`start` to :meth:`close`."""

    def __init__(self, settings: Settings, places: Places, read: Callable[[], Settings]) -> None:
        """`read` reads the configuration anew, for :meth:`reload`."""
        self.config = settings.config
        self.places = places
        self._jobs = settings.jobs
        self._read = read
        self._say: Callable[[str], None] = _log.info
        self._closers: list[Callable[[], object]] = []
        self._clean = True
        self.pulse = Pulse(VERSION)

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until told to stop. `ready` is called with one line once requests are taken, and
        with one for each configuration that was taken later.

        Raises AlreadyRunningError, QueueDamagedError, ConfigError, DiskFailedError.
        """
        self._say = ready
        try:
            self._start()
            notify("READY=1", f"STATUS=serving {self.places.socket}")
            ready(f"jobd {VERSION}: ready, socket {self.places.socket}")
            self.loop.run(self._router)
            self.pulse.phase = "stopping"
            notify("STOPPING=1")
        except DiskFailedError as error:
            self._clean = False
            self.pulse.phase = "failed"
            notify(f"STATUS=stopped: {error}")
            raise
        except BaseException:
            self._clean = False
            raise
        finally:
            self._close()

    def stop(self) -> None:
        """Have :meth:`run` end. Safe in a signal handler, also before it has begun to serve."""
        self._told_to_stop = True
        loop = getattr(self, "loop", None)
        if loop is not None:
            loop.stop()

    _told_to_stop = False
    _images: ImageTable | None = None
    _collector: ImageCollector | None = None

    def reload(self) -> None:
        """Read the configuration anew: taken whole, or not at all. Safe in a signal handler."""
        reloader = getattr(self, "_reloader", None)
        if reloader is not None:
            self.loop.post(reloader.ask)

    # -- starting ----------------------------------------------------------------------------

    def _start(self) -> None:
        places, config = self.places, self.config
        refuse_half(places.state.parent)
        own = (places.state, places.socket.parent, places.logs, places.secrets, places.spool)
        for folder in own:
            refuse_open_parents(folder)
        make_folder(places.state)
        make_folder(places.socket.parent)
        doors = Doors(config.socket_mode, config.socket_group)
        doors.open_way(places.socket.parent)
        journal = Journal.open(
            places.state, known_types=KNOWN_TYPES, log=lambda line: _log.warning("%s", line)
        )
        self._closers.append(lambda: journal.close(clean=self._clean))
        health = HealthServer(
            places.socket.with_name(places.socket.name + ".health"), doors, self.pulse
        )
        self._closers.append(health.close)
        state = fold(journal.replay())
        for note in state.notes:
            _log.warning("%s", note)
        bodies = Bodies(places.state / "bodies")
        self._closers.append(bodies.close)
        logs = LogFolder(places.logs)
        self._closers.append(logs.close)
        self.loop = CoreLoop(
            journal,
            state,
            Ledger(self.config.host, self.config.pace),
            self.config.rules,
            self.pulse,
        )
        self._router = Router(places.socket, doors, Users())
        self._closers.append(self._router.close)
        self._connect_engine(journal, bodies, logs)
        self._take_configuration()
        self._go_on_beside(journal)
        spool = Spool(places.spool, doors.gid)
        self._closers.append(begin(spool, self.loop, self._kernel, bodies))
        self.loop.started(boot_id(), host_boot_ms())
        self.loop.garbage.loaded()
        self.pulse.phase = "running"
        if self._told_to_stop:
            self.loop.stop()

    def _connect_engine(self, journal: Journal, bodies: Bodies, logs: LogFolder) -> None:
        places, config, loop = self.places, self.config, self.loop
        sides = make_sides(config, journal.store, places.state, lambda: loop.rules)
        self._sides = sides
        self._closers.append(sides.close)
        self._engines = engines = Engines(
            sides,
            config,
            self._engine_is,
            self._reconcile,
            loop.fatal,
            returned=lambda: self._drivers.nudge(),
        )
        store: ImageStore | None = getattr(sides.containers, "images", None)
        builds = Builds(store, bodies, config.context_bytes, loop.fatal)
        self._snapshots = snapshots = Snapshots(
            journal, loop.post, loop.seal, lambda: len(loop.state.runs), config.snapshot_after
        )
        history, keeper = make_history(loop, places.state, logs, bodies)
        self._keeper = keeper
        keeper.window, keeper.keep = config.window, config.keep
        keeper.logs.keep = config.keep_logs
        loop.alerts = duty = AlertDuty(
            loop, journal.store, places.secrets, places.socket, engines.kinds
        )
        self._closers.append(duty.close)
        kernel = DaemonKernel(
            loop, bodies, logs, engines, str(places.state), builds, snapshots, keeper, history, duty
        )
        kernel.uploads.most = config.upload_bytes
        # who waits for a build waits for what no run's number can be
        builds.changed = lambda number: kernel.grew(-number)
        work = places.state / "work"
        sweep_workdirs(work, in_use_by(loop.state))
        self._drive_by(engines.noticed, kernel, journal, bodies)
        self._kernel = loop.kernel = kernel
        loop.performer = self._performer
        loop.desk = Desk(self._router, loop.post, kernel.watched)
        self._closers.append(loop.desk.close)
        self._performer.adopt_all()
        if store is not None:
            self._keep_images(store)
        engines.start()
        self._closers.append(engines.close)

    def _drive_by(
        self, sides: Sides, kernel: DaemonKernel, journal: Journal, bodies: Bodies
    ) -> None:
        places, config, loop = self.places, self.config, self.loop
        self._insides = Insides(loop, self._router, kernel, bodies)
        self._drivers = Drivers(
            sides,
            logs=kernel.logs,
            work=places.state / "work",
            bodies=bodies,
            post=self._report,
            progress=lambda run, attempt, text: kernel.say(run, text),
            grew=kernel.grew,
            fatal=loop.fatal,
            admit=lambda order: admitted(order, loop.rules),
            log_limit=config.log_bytes,
            output_limit=config.output_bytes,
            inside=self._insides.of,
        )
        self._closers.append(lambda: self._drivers.close(_STOP_PATIENCE))
        self._performer = EffectPerformer(
            loop.state,
            kernel,
            self._drivers,
            store=journal.store,
            work=places.state / "work",
            secrets=places.secrets,
            spool=Spool(places.spool),
            owner=process_owner(config),
            log_bytes=config.log_bytes,
            post=self._report,
            fatal=loop.fatal,
        )
        self._closers.append(self._performer.close)

    def _take_configuration(self) -> None:
        """The jobs of the daemon's own job files, and how to come by other settings later."""
        kernel, sides, read = self._kernel, self._sides, self._read
        off = self.config.process if isinstance(self.config.process, str) else None
        in_force = InForce(
            self.config,
            self.loop,
            kernel,
            self._limits_are,
            serving=f"serving {self.places.socket}",
            say=self._say,
        )
        in_force.start(self._jobs)
        kernel.examine_by(
            lambda: examine(self.places, sides, off, read, kernel.configuration["problems"])
        )
        self._reloader = Reloader(read, in_force.read_anew, self.loop.fatal)
        self._closers.append(self._reloader.close)

    def _limits_are(self, config: Config) -> None:
        """What parts beside the loop go by, from now on."""
        self._drivers.log_limit = self._performer.log_bytes = config.log_bytes
        self._drivers.output_limit = config.output_bytes
        self._kernel.builds.context_bytes = config.context_bytes
        self._kernel.uploads.most = config.upload_bytes
        if self._collector is not None:
            self._collector.keep = config.keep_images
        self._snapshots.after = config.snapshot_after
        self._keeper.window, self._keeper.keep = config.window, config.keep
        self._keeper.logs.keep = config.keep_logs

    def _keep_images(self, store: ImageStore) -> None:
        """Remember what is pulled and used; remove what is not needed, where that is wanted."""
        table = ImageTable(self.places.state / "images.json")
        self._closers.append(table.save)
        store.on_pull(lambda name, new, old: table.pulled(name, new, old, time.time()))
        self._images = table
        self._collector = ImageCollector(
            store, table, self.config.keep_images, needs(self.loop.state, self.loop.post)
        )
        self._closers.append(Repeating("images", self._collector.work, self.loop.fatal).close)

    def _go_on_beside(self, journal: Journal) -> None:
        loop = self.loop
        self._closers.append(Repeating("snapshots", self._snapshots.work, loop.fatal).close)
        self._closers.append(self._snapshots.close)
        self._closers.append(self._keeper.end)
        self._closers.append(Repeating("history", self._keeper.work, loop.fatal).close)
        self._closers.append(self._keeper.close)
        self._closers.append(Repeating("inside", self._insides.work, loop.fatal).close)
        self._closers.append(self._insides.close)
        for name, work in (
            ("sampler", sampling(self._drivers.samples, self._sampled, self._disks())),
            ("space", keeping_space(journal)),
        ):
            self._closers.append(Repeating(name, work, loop.fatal).close)
        limit = watchdog_s()
        if limit is not None:
            self._closers.append(
                Repeating("watchdog", watching(self.pulse, limit), loop.fatal).close
            )

    # -- from other threads ------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        if isinstance(report, ReportStarted) and self._images is not None:
            self._images.used(report.image_id, time.time())
        self.loop.post(lambda: self.loop.decide(report, SYSTEM))

    def _engine_is(self, kind: Kind, trouble: Reason | None) -> None:
        def take() -> None:
            engines = self.loop.ledger.engines
            if engines[kind] != trouble:
                engines[kind] = trouble
                self.loop.state.dirty = True

        self.loop.post(take)

    def _reconcile(self, kind: Kind, found: list[Found]) -> None:
        def compare() -> None:
            strangers = reconcile(self.loop.state, found, self._performer.discard)
            self._engines.tell(kind, warnings(strangers))

        self.loop.post(compare)

    def _disks(self) -> list[tuple[str, bool]]:
        """The places whose free room counts: queue and logs, and where images go."""
        own = [(str(self.places.state), False), (str(self.places.logs), False)]
        return [*own, (str(self.config.images_path), True)]

    def _sampled(
        self, available: int, used_cpu: float, used: dict[int, int], readings: Readings
    ) -> None:
        def take() -> None:
            loop = self.loop
            unused = loop.ledger.unused(loop.state.active.values(), used)
            reserved = loop.state.reserved_memory
            loop.ledger.sample = Sample(available, used_cpu, unused, reserved)
            loop.ledger.gates.look(readings)
            # a run that waits for memory may fit now
            loop.state.dirty = True

        self.loop.post(take)

    # -- stopping ----------------------------------------------------------------------------

    def _close(self) -> None:
        for close in reversed(self._closers):
            try:
                close()
            except OSError as error:
                _log.warning("stopping: %s", error)
        self._closers.clear()


def in_use_by(state: State) -> list[tuple[int, int]]:
    """The attempts whose folders are kept: live ones, and those of suspect runs, which may be."""
    runs = list(state.active.values())
    if state.host.salvaged_at is not None:
        runs += [run for run in state.runs.oldest_first() if held_as(run) == SUSPECT]
    return [(run.id, attempt.number) for run in runs for attempt in (run.attempts or [])[-1:]]


def process_owner(config: Config) -> tuple[int, int] | None:
    """User and group of processes of the host, where they are not the daemon's own."""
    who = config.process
    return None if isinstance(who, str) or not who.changes else (who.uid, who.gid)


def refuse_half(home: Path) -> None:
    """Raises ConfigError where the folder holds a backup that did not come to its end."""
    if (home / HALF).exists():
        raise ConfigError(
            f"{home}: holds a backup that was not completed: remove it and make it again"
        )


def make_folder(path: Path) -> None:
    """A folder of the daemon's own, 0700 for what it keeps. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot be written to by this user")

"""The core loop as the server's handlers see it: state, decisions, files, and figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobd import VERSION
from jobd.capacity import probe
from jobd.core.access import is_admin
from jobd.core.commands import Body, Caller, Command
from jobd.core.drops import held_name
from jobd.core.entities import Run
from jobd.core.events import RUN, RunQueued
from jobd.core.inside import lives
from jobd.core.model import Now, Reason
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.statements import end_in, payload_in
from jobd.core.states import AttemptState, Kind
from jobd.core.status import draining, reason
from jobd.daemon.alertduty import AlertDuty
from jobd.daemon.builds import Builds
from jobd.daemon.core_loop import CoreLoop
from jobd.daemon.engines import Engines
from jobd.daemon.past import Past
from jobd.daemon.reports import Reports
from jobd.daemon.snapshots import Snapshots
from jobd.daemon.uploads import Uploads
from jobd.errors import ConflictError, JobdError
from jobd.history.keeper import Keeper
from jobd.history.reader import History
from jobd.journal.bodies import Bodies, upload_key
from jobd.runlog.folder import LogFolder
from jobd.server.access import Refusals
from jobd.server.answers import Answers
from jobd.server.kernel import Request
from jobd.server.recent import Page
from jobd.server.rows import counts

#: reasons that `status` tells, the most frequent first
_REASONS = 10


class DaemonKernel:
    """What :class:`jobd.server.kernel.Kernel` asks for."""

    def __init__(
        self,
        loop: CoreLoop,
        bodies: Bodies,
        logs: LogFolder,
        engines: Engines,
        place: str,
        builds: Builds,
        snapshots: Snapshots,
        keeper: Keeper,
        history: History,
        alerts: AlertDuty,
    ) -> None:
        self._loop = loop
        self._bodies = bodies
        self._refusals = Refusals()
        self.uploads = Uploads()
        self._engines = engines
        self._place = place
        self._examine: Callable[[], list[dict[str, Any]]] = list
        self._started = time.monotonic()
        self._said: dict[int, str] = {}
        self.reports = Reports(
            loop.touch, lambda run, attempt: lives(loop.state.runs.get(run), attempt)
        )
        #: decide and apply; true after the sync. Raises the core's refusals. The loop's own, as
        #: each request comes this way
        self.decide: Callable[[Command, Caller], Any] = loop.decide
        #: raises RefusedError where the disk has no room for so many bytes more
        self.require_room: Callable[[int], None] = loop.room.require
        self.room_for: Callable[[int], int] = loop.room.room_for
        self.take: Callable[[RunQueued], None] = loop.take
        # of alerts; `secret` is safe in any thread
        self.notifier_came: Callable[[Caller], None] = alerts.came
        self.alerts_problem: Callable[[], str | None] = alerts.problem
        self.gave_up: Callable[[int, str], None] = alerts.gave_up
        self.secret: Callable[[str], bytes] = alerts.secret
        self.logs = logs
        #: when the configuration in force was read, and why a later one was not taken
        self.configuration: dict[str, Any] = {"loaded_at": loop.now.wall, "problems": []}
        self.answers = Answers()
        self.builds = builds
        self._snapshots = snapshots
        self._keeper, self.history = keeper, history
        self.recent = loop.recent
        self.ledger = loop.ledger
        self._past = Past(loop.journal)
        #: runs whose log somebody follows: shared with the threads that write logs
        self.watched: set[int] = set()

    @property
    def state(self) -> State:
        """The state, for reading."""
        return self._loop.state

    @property
    def rules(self) -> Rules:
        """What the configuration says now."""
        return self._loop.rules

    @property
    def now(self) -> Now:
        """The moment of the pass under way."""
        return self._loop.now

    def status_store(self) -> str:
        """The id of the queue, in hexadecimal."""
        return self._loop.journal.store.hex()

    def hold_reason(self, kind: Kind) -> Reason | None:
        """What keeps every run of that kind from starting now, or None."""
        return draining(self.state) or self._loop.ledger.closed(kind)

    def never_fits(self, run_job: str) -> Reason | None:
        """Why runs of that job can never start on this host, or None."""
        job = self._loop.state.jobs.get(run_job)
        if job is None:
            return None
        spec, host = job.spec, self.ledger.host
        if spec.cpus <= host.cpus and spec.memory <= host.memory and spec.gpus <= host.gpus:
            return None
        return self.ledger.never(spec.needs)

    def is_admin(self, caller: Caller) -> bool:
        """Whether the caller may do everything."""
        return is_admin(caller, self.rules.access)

    def refused(self, request: Request, error: JobdError) -> None:
        """Take note of a request that was refused."""
        self._refusals.note(request, error)

    def watch_log(self, run: int) -> None:
        """Have parked requests for the run asked again when its log grows."""
        self.watched.add(run)

    def grew(self, run: int) -> None:
        """The run's log has more. Safe in any thread; told on only where somebody follows it."""
        if run in self.watched:
            self._loop.post(lambda: self._loop.touch(run))

    # -- what starting attempts say ---------------------------------------------------------

    def say(self, run: int, text: str) -> None:
        """Take note of what a starting attempt says. Safe in any thread."""
        self._said[run] = text
        self._loop.post(lambda: self._loop.touch(run))

    def progress(self, run: int) -> str | None:
        """What the starting attempt of a run last said."""
        found = self.state.runs.get(run)
        attempt = found.attempt if found is not None else None
        if attempt is None or attempt.state is not AttemptState.CLAIMED:
            self._said.pop(run, None)
            return None
        return self._said.get(run)

    # -- what running attempts say of themselves -----------------------------------------------

    def reported(self, run: int) -> tuple[int | None, str] | None:
        """How far a running attempt of a run said it is."""
        return self.reports.of(run)

    def report(self, within: tuple[int, int], percent: int | None, message: str) -> None:
        """Take note of how far an attempt of a run says it is."""
        self.reports.take(within, percent, message, self.now.mono)

    # -- files; safe in any thread ----------------------------------------------------------

    def keep(self, data: bytes) -> Body:
        """Make a body file of bytes. Raises RefusedError for want of room, DiskFailedError."""
        return self._bodies.put(data)

    def payload_source(self, run: Run) -> bytes | Body:
        """The payload's bytes where they are in the queue, else which body file has them."""
        if run.body is not None:
            return run.body
        name = held_name(run)
        if name is not None:
            raise ConflictError(
                f"run {run.id}: its payload is the dropped file {name!r:.200}, which is not "
                "copied: it is claimed until the run has ended, and lies in failed/ of the job's "
                "folder where it failed: drop it again from there"
            )
        type_, body = self._kept(run.where, run.id)
        return payload_in(type_, run.id, body)

    def last_words(self, run: Run, number: int) -> bytes:
        """The end of an ended attempt's output, as its end record has it."""
        attempt = (run.attempts or [])[number - 1]
        type_, body = self._kept(attempt.where, run.id)
        return end_in(type_, run.id, number, body).log_tail

    def result_source(self, run: Run) -> bytes | Body | None:
        """As `payload_source`, of the result of the run's last ended attempt; or None."""
        for attempt in reversed(run.attempts or []):
            if attempt.end is None:
                continue
            if attempt.end.result is None:
                return None
            type_, body = self._kept(attempt.where, run.id)
            result = end_in(type_, run.id, attempt.number, body).result
            return result if isinstance(result, bytes) else Body(*result)
        return None

    def _kept(self, where: int, run: int) -> tuple[int, bytes]:
        if where < 0:
            return self.history.kept(where)
        return self._loop.journal.kept(where, RUN, run)

    def piece(self, body: Body, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a body file, from `offset` on."""
        return self._bodies.read_at(body, offset, size)

    def events_after(self, after: int, since: int, most: int) -> Page:
        """Events of the queue's files behind `after`, not older than `since` (ms UTC)."""
        return self._past.page(after, since, most)

    def upload(
        self,
        caller: Caller,
        name: bytes,
        offset: int,
        data: bytes,
        last: bool,
        context: bool = False,
    ) -> int:
        """Take a chunk of a large payload, or of a build's context; the size so far.

        Raises RefusedError where its user has uploaded too much that was not used.
        """
        key = upload_key(caller.uid, name)
        limit = self.builds.context_bytes if context else self._loop.rules.max_payload
        if offset + len(data) <= limit:
            self.uploads.require(caller.uid, name, offset + len(data))
        return self._bodies.upload(key, offset, data, last, limit=limit)

    def uploaded(self, caller: Caller, name: bytes) -> Body:
        """A payload that was uploaded whole. Raises NotFoundError."""
        found = self._bodies.uploaded(upload_key(caller.uid, name))
        self.uploads.used(caller.uid, name)
        return found

    def examine_by(self, examine: Callable[[], list[dict[str, Any]]]) -> None:
        """Who is asked by :meth:`findings`."""
        self._examine = examine

    def ask_snapshot(self) -> int:
        """Have a snapshot of the queue made; the number that `finished` reaches with it."""
        return self._snapshots.ask()

    def findings(self) -> list[dict[str, Any]]:
        """What is wrong with the set-up, and what to do about it."""
        return self._examine()

    # -- figures -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The answer of the verb `status`."""
        loop, state = self._loop, self.state
        journal = loop.journal.stats()
        ledger = loop.ledger
        sample = ledger.sample
        return {
            "version": VERSION,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "store": loop.journal.store.hex(),
            "engine": self._engines.row(),
            "process": self._engines.process_row(),
            "capacity": {
                "cpus": ledger.host.cpus,
                "memory": ledger.host.memory,
                "gpus": ledger.host.gpus,
                "reserve_cpus": ledger.host.reserve_cpus,
                "reserve_memory": ledger.host.reserve_memory,
                "reserved_cpus": state.reserved_millicpus / 1000,
                "reserved_memory": state.reserved_memory,
                "reserved_gpus": state.reserved_gpus,
                "used_cpu": sample.used_cpu if sample else None,
                "available_memory": sample.available_memory if sample else None,
                "pressure": probe.pressure(),
            },
            "counts": counts(state, state.active.values()),
            "history": {"in_memory": state.ended, **self._keeper.row()},
            "jobs": len(state.jobs),
            "configuration": self.configuration,
            "draining": state.host.drained_at is not None,
            "drain": {"at": state.host.drained_at, "by": state.host.drained_by}
            if state.host.drained_at is not None
            else None,
            "paused": sorted(job.name for job in state.jobs.values() if job.paused),
            "waiting": self._waiting(),
            "alerts": {
                "open": len(state.alerts.open),
                "undelivered": len(state.alerts.waiting),
                "problem": self.alerts_problem(),
            },
            "journal": {
                "path": self._place,
                "bytes": journal.bytes,
                "segments": journal.segments,
                "last_sync_ms": round(journal.last_sync_ms, 3),
                "snapshot_bytes": journal.snapshot_bytes,
                "snapshot": self._snapshots.row(),
            },
        }

    def _waiting(self) -> list[dict[str, Any]]:
        """Why runs that are due wait, a line for each job that has such runs."""
        found = []
        for job in self.state.jobs.values():
            due = job.waiting - sum(job.parked.values())
            if due > 0:
                head = next((run for run in self._heads(job.name)), None)
                why = None
                if head is not None:
                    why = reason(head, self.now, self.hold_reason(head.spec.kind), self.state)
                if why is not None:
                    found.append({"job": job.name, "runs": due, "reason": why[0], "text": why[1]})
        found.sort(key=lambda row: -int(str(row["runs"])))
        return found[:_REASONS]

    def _heads(self, name: str) -> list[Run]:
        job = self.state.jobs[name]
        heads = [self.state.ready.head(job, priority) for priority in sorted(job.ready)]
        return [run for run in heads if run is not None]

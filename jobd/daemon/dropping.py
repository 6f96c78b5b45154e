"""Dropped files and the loop: who may drop, what is queued, what is told of the end.

A drop enters by the same door as a request: the owner of the file is the caller, and the job's
access rules are asked. Owned by the loop's thread, but for what its threads call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jobd.core import access
from jobd.core.access import Right
from jobd.core.arrivals import Drop, QueueDrop, SettleDrop
from jobd.core.commands import Body, Caller, QueueRun
from jobd.core.drops import drop_of
from jobd.core.entities import Run
from jobd.core.events import RunFinished
from jobd.core.states import Outcome, RunState
from jobd.core.status import status
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.daemon.kernel import DaemonKernel
from jobd.daemon.watching import Watching
from jobd.errors import DiskFailedError, ForbiddenError, InvalidError, JobdError, RefusedError
from jobd.intake.box import Taken
from jobd.intake.dropbox import Dropbox
from jobd.intake.ends import End, Ends
from jobd.intake.loading import Load
from jobd.intake.meta import OVERRIDES
from jobd.intake.spool import Spool
from jobd.journal.bodies import Bodies
from jobd.server.access import Users
from jobd.server.runs import RUN_ROOM

#: bytes of the last words that are told of an attempt that failed
_WORDS = 8 << 10
#: what one end that was told takes of the queue's disk, in bytes
_SETTLED = 64


class Dropping:
    """The intake of dropped files. `look` is called by the loop after each sync."""

    def __init__(self, loop: CoreLoop, kernel: DaemonKernel, bodies: Bodies, spool: Spool) -> None:
        self._loop = loop
        self._kernel = kernel
        self._bodies = bodies
        self._spool = spool
        self._users = Users()
        self._jobs: set[str] = set()
        self._watching = Watching(loop, bodies.put)
        loop.state.drops.over.clear()
        held = {drop.key: drop.held is not None for drop in self._unsettled()}
        self._box = Dropbox(
            spool,
            self._deliver,
            bodies.put,
            bodies.remove,
            lambda: loop.rules.max_payload,
            held,
            loop.fatal,
        )
        self._ends = Ends(spool, self._told, loop.fatal)

    def start(self) -> None:
        """Begin: what an earlier jobd did not get to is taken up."""
        state = self._loop.state
        state.drops.over = [run.id for run in self._runs() if run.state is RunState.DONE]
        state.jobs_changed = True
        self.look()
        self._box.start()

    def close(self) -> None:
        """End the threads."""
        self._box.close()
        self._ends.close()
        self._watching.close()

    def look(self) -> None:
        """Have the ends of drops' runs told, and jobs' folders made, where any are new."""
        state = self._loop.state
        if state.jobs_changed:
            state.jobs_changed = False
            now = set(state.jobs)
            self._folders(now - self._jobs, self._jobs - now)
            self._jobs = now
            self._watching.look()
        if state.drops.over:
            over, state.drops.over = state.drops.over, []
            runs = (state.runs.get(number) for number in over)
            self._ends.tell([end for run in runs if run is not None for end in self._end(run)])

    def _folders(self, added: set[str], gone: set[str]) -> None:
        for job in added:
            if (self._spool.root / job).is_dir():
                continue
            try:
                # here and not beside the loop: who has been told that the job is there may drop
                self._spool.make(job)
            except OSError:
                pass  # the thread tries again, and tells
        self._box.jobs(added, gone)

    def _runs(self) -> Iterator[Run]:
        drops = self._loop.state.drops
        found = (self._loop.state.runs.get(number) for number in drops.runs())
        return (run for run in found if run is not None)

    def _unsettled(self) -> Iterator[Drop]:
        return (drop for run in self._runs() if (drop := drop_of(run)) is not None)

    # -- queueing ----------------------------------------------------------------------------

    def _deliver(self, loads: list[Load]) -> None:
        """In the thread of the drops."""
        self._loop.post(lambda: self._queue(loads))

    def _queue(self, loads: list[Load]) -> None:
        taken: list[Taken] = []
        full: dict[str, str] = {}
        for load in loads:
            if load.job in full:
                # no need to ask for each of thousands
                taken.append(Taken(load.lighter(), later=full[load.job]))
                continue
            try:
                taken.append(Taken(load.lighter(), run=self._queued(load)))
            except RefusedError as error:
                full[load.job] = str(error)
                taken.append(Taken(load.lighter(), later=str(error)))
            except DiskFailedError:
                raise
            except JobdError as error:
                taken.append(Taken(load.lighter(), refused=str(error)))
        self._loop.after_sync(lambda: self._box.taken(taken))

    def _queued(self, load: Load) -> int:
        """The drop's run. Raises what jobd.errors has for a refusal."""
        caller = self._users.caller(load.uid, 0)
        self._check(load, caller)
        settings = dict(load.settings or {})
        delay = settings.pop("delay", None)
        if delay is not None:
            settings["not_before"] = self._loop.now.wall + delay
        one = load.claimed
        name = one.given.decode("utf-8", "backslashreplace")
        run = QueueRun(
            load.job,
            [load.payload],
            "drop",
            caller,
            sources=[(name, None)],
            **settings,
        )
        size = len(load.payload) if isinstance(load.payload, bytes) else 0
        options = sum(4 * len(str(text)) + 16 for text in (*settings.values(), name))
        self._loop.room.require(size + options + RUN_ROOM)
        answer = self._loop.decide(QueueDrop(run, Drop(*one, load.held)), caller)
        assert isinstance(answer, int)
        return answer

    def _check(self, load: Load, caller: Caller) -> None:
        """Refuse who may not. The owner is believed of a plain file with one name (rulings); but
        root's files lie about, and others may have moved one here: so they get no more than the
        right to submit."""
        job = self._loop.state.jobs.get(load.job)
        policy = self._loop.rules.access
        if job is None:
            raise InvalidError(f"job {load.job}: was removed")
        if not access.may(caller, Right.SUBMIT, policy, job.spec.access):
            raise ForbiddenError(access.why_not(caller, Right.SUBMIT, job.name))
        if caller.uid == 0 or not access.is_admin(caller, policy):
            word = access.overridden(OVERRIDES & (load.settings or {}).keys(), job.spec.access)
            if word is not None:
                raise ForbiddenError(
                    f"{word}: job {job.name} does not let submitters set it (access.override)"
                    + ("; a file of root's is no more than a submitter's" * (caller.uid == 0))
                )
        never = self._kernel.never_fits(load.job)
        if never is not None:
            raise InvalidError(f"job {load.job}: can never start here: {never.text}")

    # -- ends --------------------------------------------------------------------------------

    def _end(self, run: Run) -> Iterator[End]:
        drop = drop_of(run)
        if drop is None:
            return
        good = isinstance(run.note, RunFinished) and run.note.outcome == Outcome.SUCCEEDED
        kernel = self._kernel
        if good:
            yield End(run.id, run.job.name, drop, True, lambda: self._result(run))
            return
        text = _failure(run)
        number = next((a.number for a in reversed(run.attempts or []) if a.end is not None), None)

        def pieces() -> Iterable[bytes]:
            yield text
            if number is not None:
                yield kernel.last_words(run, number)[-_WORDS:]

        yield End(run.id, run.job.name, drop, False, pieces)

    def _result(self, run: Run) -> Iterable[bytes]:
        """In the thread of the ends."""
        found = self._kernel.result_source(run)
        if isinstance(found, Body):
            return self._bodies.chunks(found)
        return [found or b""]

    def _told(self, runs: list[int]) -> None:
        """In the thread of the ends."""

        def settle() -> None:
            try:
                self._loop.room.require(_SETTLED * len(runs))
            except RefusedError:
                return  # the disk is full: they are told again at the next start
            for number in runs:
                self._loop.decide(SettleDrop(number), SYSTEM)

        self._loop.post(settle)


def _failure(run: Run) -> bytes:
    """What is told of a run that did not succeed, before its last words."""
    lines = [f"run {run.id} of job {run.job.name}: {status(run)}"]
    if run.note is not None:
        lines.append(run.note.text)
    end: Any = next((a.end for a in reversed(run.attempts or []) if a.end is not None), None)
    if end is not None:
        lines.append(f"attempts: {len(run.attempts or [])}, exit status {end.exit_code}")
        if end.error:
            lines.append(end.error)
        if end.log_bytes:
            lines.append("the last of its output:")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")

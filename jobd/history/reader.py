"""Runs that have left memory, read back from the archive by any thread but the core loop's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeVar

from jobd.codec import unpack
from jobd.core.archiving import Found, Wanted
from jobd.core.entities import Job, Run
from jobd.core.restoring import run_in
from jobd.core.rollups import Rollup
from jobd.core.state import State
from jobd.core.statements import TYPE_OF, RevisionStands, RunStands
from jobd.core.stored import stored
from jobd.errors import NotFoundError, QueueDamagedError, RefusedError, UsageError
from jobd.history.index import Index, IndexBusyError, IndexUnusableError
from jobd.journal.archive import Archive
from jobd.journal.live import NUMBER_SHIFT, OFFSET_MASK
from jobd.journal.lookup import Kept

_T = TypeVar("_T")

#: archived runs that one request may name
MOST = 10_000
_RUN, _REVISION = TYPE_OF[RunStands], TYPE_OF[RevisionStands]
#: definitions that no job in memory has any more, kept for those that ask again
_JOBS = 256


class History:
    """The archive and its index, for reading. The keeper sets `index` once it is whole.

    What is read raises RefusedError while the index is being made anew, NotFoundError for what has
    been removed meanwhile, QueueDamagedError where the archive is damaged there.
    """

    def __init__(self, archive: Archive, state: State) -> None:
        self.archive = archive
        #: of it only jobs are read here, which are never let go of
        self._state = state
        self.index: Index | None = None
        #: why the index cannot be asked, in words; and whether it has to be made anew
        self.trouble = "its index is being read"
        self.unusable = False
        #: the highest id of each job's archived runs, of all, and the jobs with runs that have keys
        self.newest: dict[int, int] = {}
        self.highest = 0
        self.keyed: set[int] = set()
        #: segments that are about to go: nothing in them is shown any more
        self.hidden: set[int] = set()
        self._old_jobs: dict[tuple[int, int, int], Job] = {}
        self._lock = Lock()

    @property
    def any(self) -> bool:
        """Whether there are archived runs at all. Safe in the loop."""
        return bool(self.highest) or (self.index is None and bool(self.archive.numbers()))

    @property
    def ready(self) -> bool:
        """Whether the index can be asked. Safe in the loop."""
        return self.index is not None

    def took_in(self, rows: Sequence[tuple[int, int, bool]]) -> None:
        """Take note of runs that are indexed now: id, job, whether they have a key."""
        for number, job, keyed in rows:
            self.newest[job] = max(self.newest.get(job, 0), number)
            self.highest = max(self.highest, number)
            if keyed:
                self.keyed.add(job)

    # -- reading; in threads ---------------------------------------------------------------

    def runs(self, ids: Sequence[int]) -> dict[int, Run | QueueDamagedError]:
        """Those of the runs that are archived, or what is wrong with one. Raises UsageError for
        more than MOST."""
        found = self._ask(lambda index: index.places(ids))
        if len(found) > MOST:
            raise UsageError(f"{len(found)} archived runs: at most {MOST} can be named at once")
        damaged: dict[int, QueueDamagedError] = {}
        return {**{run.id: run for run in self._read(found, damaged)}, **damaged}

    def page(self, wanted: Wanted, below: int, most: int) -> Found:
        """Up to `most` archived runs that fit, with an id below that, the highest id first."""
        places = self._ask(lambda index: index.page(wanted, below, most))
        damaged: dict[int, QueueDamagedError] = {}
        return Found(self._read(places, damaged), places[-1][0] if places else 0, list(damaged))

    def last(self, jobs: Sequence[int] | None, see: Callable[[Run], bool]) -> Run | None:
        """The newest archived run of the jobs (None: of all) that `see` accepts."""
        below, wanted = 1 << 62, Wanted(jobs=None if jobs is None else tuple(jobs))
        while True:
            page = self.page(wanted, below, 50)
            for run in page.runs:
                if see(run):
                    return run
            below = page.below
            if not below:
                return None

    def by_key(self, job: int, key: str) -> Run | None:
        """The newest archived run of the job that has that idempotency key."""
        found = self._ask(lambda index: index.by_key(job, key))
        damaged: dict[int, QueueDamagedError] = {}
        runs = self._read([found], damaged) if found is not None else []
        for problem in damaged.values():
            raise problem
        return runs[0] if runs else None

    def kept(self, where: int) -> Kept:
        """The record of the run whose `where` (negative) that is."""
        return self.archive.read(-where)

    def rollups(
        self, jobs: Sequence[int] | None, since: int, until: int
    ) -> list[tuple[int, int, Rollup]]:
        """`(job, hour, roll-up)` of what is archived or was: see Index.rollups. The runs that are
        still in memory are not among them: who wants them too takes them in by Rollup.take."""
        return self._ask(lambda index: index.rollups(jobs, since, until))

    # -- inside ----------------------------------------------------------------------------

    def _ask(self, question: Callable[[Index], _T]) -> _T:
        index = self.index
        if index is None:
            raise RefusedError(f"history: {self.trouble}; ask again soon")
        try:
            return question(index)
        except IndexUnusableError as error:
            self.unusable = True
            raise RefusedError(
                f"history: its index cannot be used ({error}) and is made anew; ask again soon"
            ) from None
        except IndexBusyError as error:
            raise RefusedError(
                f"history: its index cannot be read now ({error}); ask again soon"
            ) from None

    def _read(
        self, places: Sequence[tuple[int, int]], damaged: dict[int, QueueDamagedError]
    ) -> list[Run]:
        """The runs there; what is wrong with those that are damaged is added to `damaged`."""
        runs = []
        for number, place in places:
            if place >> NUMBER_SHIFT in self.hidden:
                continue
            try:
                runs.append(self._run(number, place))
            except NotFoundError:
                continue  # its segment went while this was being read
            except QueueDamagedError as error:
                file, offset = error.details.get("file"), error.details.get("offset")
                damaged[number] = QueueDamagedError(
                    f"run {number}: is damaged in the archive (file {file}, offset {offset}); "
                    "stop the daemon and run `jobd fsck`, which names all that is",
                    **error.details,
                )
        return runs

    def _run(self, number: int, place: int) -> Run:
        kept = self.archive.read(place)
        if kept.type != _RUN:
            raise QueueDamagedError(
                f"archive: no run is at {place}, where the index has {number}",
                file=self.archive.path_of(place >> NUMBER_SHIFT),
                offset=place & OFFSET_MASK,
            )
        fields = unpack(kept.body)
        job = self._job(place >> NUMBER_SHIFT, fields[0], fields[1])
        run = run_in(job, number, 0, kept.body)
        run.where = -place
        for attempt in run.attempts or ():
            attempt.where = -place
        return run

    def _job(self, segment: int, number: int, revision: int) -> Job:
        """The job as it is now, where it has that definition; else as the archive has it."""
        job = self._state.jobs_by_id.get(number)
        if job is not None and revision in job.revisions:
            return job
        with self._lock:
            known = self._old_jobs.get((segment, number, revision))
        if known is not None:
            return known
        place = self._ask(lambda index: index.spec(segment, number, revision))
        if place is None:
            raise QueueDamagedError(
                f"archive: job {number} has no definition {revision} there",
                file=self.archive.path_of(segment),
            )
        mapping = unpack(self.archive.read(place).body)[1]
        spec, _ = stored(mapping, mapping["name"])
        made = Job(number, spec.name)
        made.revisions[revision] = spec
        made.revision, made.removed = revision, True
        with self._lock:
            self._old_jobs[segment, number, revision] = made
            while len(self._old_jobs) > _JOBS:
                del self._old_jobs[next(iter(self._old_jobs))]
        return made

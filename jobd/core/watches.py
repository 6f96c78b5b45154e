"""All watched paths as the state holds them: how far the changes of each are dealt with. Pure.

A mark moves in the same batch as the runs of the changes that it stands behind: what changed while
jobd was down is found by it, and what has made its run makes none again.
"""

from __future__ import annotations

from jobd.core.entities import Job
from jobd.core.watching import WatchSpec


class Watch:
    """One watched path of a job, and where it stands."""

    __slots__ = ("job", "mark", "seen", "spec")

    def __init__(self, job: Job, spec: WatchSpec, mark: int, seen: list[int]) -> None:
        self.job = job
        self.spec = spec
        self.mark = mark
        self.seen = seen

    @property
    def key(self) -> tuple[int, str]:
        """The id of its job, and its name."""
        return self.job.id, self.spec.name


class Watches:
    """The watched paths of all jobs."""

    def __init__(self) -> None:
        self._all: dict[tuple[int, str], Watch] = {}

    def __len__(self) -> int:
        return len(self._all)

    def get(self, job: int, name: str) -> Watch | None:
        """A watch, or None."""
        return self._all.get((job, name))

    def of(self, job: Job) -> list[Watch]:
        """Those of a job, by name."""
        if not self._all:
            return []
        found = (each for each in self._all.values() if each.job is job)
        return sorted(found, key=lambda watch: watch.spec.name)

    def every(self) -> list[Watch]:
        """All of them."""
        return list(self._all.values())

    def sync(self, job: Job, specs: tuple[WatchSpec, ...], at: int) -> None:
        """Make them what a new revision of the job says, from `at` (ms UTC) on.

        One that means the same files stands where it stood.
        """
        old = {watch.spec.name: watch for watch in self.of(job)}
        self.drop(job)
        for spec in specs:
            before = old.get(spec.name)
            if before is not None and _same_files(before.spec, spec):
                mark, seen = before.mark, before.seen
            else:
                mark, seen = at * 1_000_000, []
            self._all[job.id, spec.name] = Watch(job, spec, mark, seen)

    def restore(self, job: Job, name: str, mark: int, seen: list[int]) -> None:
        """Take in where one of the job's newest definition is known to stand."""
        for spec in job.spec.watches:
            if spec.name == name:
                self._all[job.id, name] = Watch(job, spec, mark, list(seen))

    def drop(self, job: Job) -> None:
        """The job watches nothing any more."""
        for watch in self.of(job):
            del self._all[watch.key]


def _same_files(one: WatchSpec, other: WatchSpec) -> bool:
    same = ("path", "pattern", "events", "recursive")
    return all(getattr(one, key) == getattr(other, key) for key in same)

"""Who listens to what, which gatherings of several runs stand open, and what was refused. Pure.

Who listens follows from the jobs' newest definitions; the rest is made by events of its own
(core/onevents.py). core/reacting.py decides with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from jobd.core import onevents as o
from jobd.core.entities import Job
from jobd.core.onrun import OnRun
from jobd.core.ontopic import OnTopic
from jobd.core.parents import Children

#: gatherings of one `[[on]]` that stand open at once; the oldest is given up for one more
MOST_JOINS = 1_000


class Refusal(NamedTuple):
    """The last run that a job was to get and did not, and how often that has happened."""

    at: int
    trigger: str
    name: str
    cause: int | None
    text: str
    times: int


class Join:
    """A gathering: the run of each job that has ended so far, with its outcome; since when."""

    __slots__ = ("reached", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.reached: dict[str, tuple[int, str]] = {}


class Reactions:
    """The jobs that listen, by what they listen to."""

    def __init__(self) -> None:
        #: jobs by the name of the job whose runs they wait for; none is empty
        self.by_run: dict[str, dict[int, Job]] = {}
        self._by_topic: dict[str, dict[int, Job]] = {}
        #: what each job is entered under
        self._entered: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        #: job and key of its `[[on]]` -> root -> gathering, oldest first
        self.joins: dict[tuple[int, str], dict[int, Join]] = {}
        self.refused: dict[int, Refusal] = {}
        #: jobs that the end of one run can concern, at most
        self.most = 0

    def of_run(self, name: str) -> list[Job]:
        """The jobs that listen to the runs of the job of that name, oldest first."""
        return [job for _, job in sorted(self.by_run.get(name, {}).items())]

    def of_topic(self, topic: str) -> list[Job]:
        """The jobs that listen to the topic, oldest first."""
        return [job for _, job in sorted(self._by_topic.get(topic, {}).items())]

    def sync(self, job: Job, children: Children) -> None:
        """Have the job listen to what its newest definition says, and to nothing else."""
        on = () if job.removed else job.spec.on
        runs = tuple({name: None for each in on if isinstance(each, OnRun) for name in each.runs})
        topics = tuple({each.topic: None for each in on if isinstance(each, OnTopic)})
        old = self._entered.get(job.id, ((), ()))
        if old != (runs, topics):
            self._enter(job, old, (runs, topics))
        if not self.joins:
            return
        keys = {each.key for each in on if isinstance(each, OnRun)}
        for number, key in list(self.joins):
            if number == job.id and key not in keys:
                for root in list(self.joins[number, key]):
                    self.end_join(number, key, root, children)

    def _enter(self, job: Job, old: Any, new: Any) -> None:
        for index, before, after in zip((self.by_run, self._by_topic), old, new, strict=True):
            for name in before:
                if name not in after:
                    del index[name][job.id]
                    if not index[name]:
                        del index[name]
            for name in after:
                there = index.setdefault(name, {})
                there[job.id] = job
                if index is self.by_run:
                    self.most = max(self.most, len(there))
        if any(new):
            self._entered[job.id] = new
        else:
            self._entered.pop(job.id, None)
        if not self.by_run:
            self.most = 0

    # -- gatherings ------------------------------------------------------------------------

    def reach(self, event: o.JoinReached, children: Children) -> None:
        """Take note of one more end. The run's result is kept for the one that will read it."""
        open_ = self.joins.setdefault((event.job, event.key), {})
        join = open_.get(event.root)
        if join is None:
            join = open_[event.root] = Join(event.at)
        earlier = join.reached.get(event.name)
        if earlier is not None:
            children.free(earlier[0])
        join.reached[event.name] = (event.run, event.outcome)
        children.hold(event.run)

    def end_join(self, job: int, key: str, root: int, children: Children) -> None:
        """Let go of a gathering."""
        open_ = self.joins.get((job, key), {})
        join = open_.pop(root, None)
        if not open_:
            self.joins.pop((job, key), None)
        for run, _ in join.reached.values() if join is not None else ():
            children.free(run)

    def joins_of(self, job: int) -> Iterator[tuple[str, int, Join]]:
        """Those of a job: key, root and gathering."""
        for (number, key), open_ in self.joins.items():
            if number == job:
                for root, join in open_.items():
                    yield key, root, join

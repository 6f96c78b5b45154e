"""Days of mixed work on a host that is as it should be, from one seed: is the order a fair one?

Where tests/support/simulation.py breaks everything that can break, here the engine does its work,
and what is looked at is who starts when: hundreds of jobs, bursts, big and small ones, limits of
every kind, hours in which the host is busy with something else. Invariants are checked at each
start and after each pass, by a reckoning of their own (`true`, `blocked`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from jobd.capacity.gates import Readings
from jobd.capacity.ledger import Host, Ledger
from jobd.core import events as e
from jobd.core.commands import QueueRun, RegisterJob, ReportEnded, ReportStarted, SetGroups
from jobd.core.dispatch import picks, waited
from jobd.core.effects import SignalAttempt
from jobd.core.entities import Run
from jobd.core.limits import Pace
from jobd.core.model import Needs, Now, Reason
from jobd.core.states import AttemptState, Kind, RunState
from jobd.core.status import reason
from jobd.errors import RefusedError
from tests.support.core import ANN, START, SYSTEM, Bench, problems
from tests.support.simlimits import Starts

MIB, SECOND, MINUTE, HOUR = 1 << 20, 1_000, 60_000, 3_600_000
HOST = Host(cpus=8.0, memory=16_384 * MIB, reserve_cpus=0.5, reserve_memory=512 * MIB)
#: what no attempt takes longer than
LONGEST = HOUR
GROUPS = {
    "gpu": {"concurrency": 1},
    "web": {"concurrency": 4, "rate": "30/m", "burst": 10},
    "mail": {"rate": "20/10m"},
}


class UnfairError(AssertionError):
    """An invariant does not hold."""


class Days(Bench):
    """`jobs` jobs and about `runs` runs over some days; `live` goes through them to the end."""

    def __init__(self, seed: int, jobs: int, runs: int) -> None:
        super().__init__(now=START)
        self.rng = Random(seed)
        self.pace = Pace(
            reserve_after=self.rng.choice([0, MINUTE, 10 * MINUTE]),
            age_after=self.rng.choice([10 * MINUTE, HOUR]),
            at_once=self.rng.choice([None, None, 30]),
        )
        self.ledger = Ledger(HOST, self.pace)
        self.ledger.engines = dict.fromkeys(Kind)
        self.starts = Starts()
        self.length: dict[str, float] = {}
        self.failing: dict[str, float] = {}
        #: who are the first that wait for room: since when (monotonic), and beside how many
        self.top: dict[int, tuple[int, int]] = {}
        self.longest_wait = self.started = 0
        self._number = count()
        self._agenda: list[tuple[int, int, str, Any]] = []
        self.do(SetGroups(GROUPS))
        names = [f"job{number}" for number in range(jobs)]
        for name in names:
            self.do(RegisterJob(self._definition(name)))
        self._plan(names, runs)

    def _definition(self, name: str) -> dict[str, Any]:
        rng = self.rng
        big = rng.random() < 0.1
        self.length[name] = rng.choice([2, 20, 120, 600]) * SECOND
        self.failing[name] = rng.choice([0.0, 0.0, 0.1, 0.8])
        return {
            "name": name,
            "image": "busybox",
            "priority": rng.choice([-5, 0, 0, 0, 1, 5]),
            "timeout": "30m",
            "stop_grace": "10s",
            "overlap": rng.choice(["allow"] * 8 + ["queue", "skip"]),
            "resources": {
                "cpus": rng.choice([4, 7.5, 8]) if big else rng.choice([0.1, 0.5, 1, 2]),
                "memory": f"{rng.choice([8192, 15000] if big else [64, 256, 1024])}M",
            },
            "limits": {
                "concurrency": rng.choice([None, None, 1, 3]),
                "rate": rng.choice([None, None, None, "10/m", "20/h"]),
                "burst": rng.choice([None, 1, 5]),
                "group": rng.choice([None, None, None, *GROUPS]),
                "mutex": rng.choice([None, None, None, None, "{label.who}"]),
            },
            "breaker": {"failures": rng.choice([None, None, 3]), "probe_after": "5m"},
            "retry": {"attempts": rng.choice([1, 2, 4]), "delay": "30s"},
        }

    def _plan(self, names: list[str], runs: int) -> None:
        """Who comes when: singly all day long, and in bursts; and when the host is busy."""
        rng = self.rng
        # a short time is a full host, a long one has quiet hours
        whole = rng.choice([2, 6, 48, 96]) * HOUR
        left = runs
        while left > 0:
            many = rng.choice([1, 1, 1, 5, 40])
            left -= many
            at = START.mono + rng.randrange(whole)
            self._at(at, "queue", (rng.choice(names), many, rng.choice("abc")))
        for _ in range(3):
            at = START.mono + rng.randrange(whole)
            self._at(at, "host", 0.9)
            self._at(at + rng.randrange(3 * HOUR), "host", 0.0)

    def _at(self, mono: int, what: str, about: Any) -> None:
        heapq.heappush(self._agenda, (mono, next(self._number), what, about))

    # -- going on --------------------------------------------------------------------------

    def live(self) -> None:
        """Go through it all."""
        passes = 0
        while self._agenda or self.state.waiting or self.state.active:
            self._sleep()
            while self._agenda and self._agenda[0][0] <= self.now.mono:
                _, _, what, about = heapq.heappop(self._agenda)
                getattr(self, f"_{what}")(about)
            self.due()
            if self.state.dirty and self.state.waiting:
                self._dispatch()
            self._signals()
            passes += 1
            self._check(passes)
        for problem in problems(self.state):
            raise UnfairError(problem)

    def _sleep(self) -> None:
        wait = self.timers.wait_ms(self.now, self.state.look_at)
        if self._agenda:
            ahead = max(0, self._agenda[0][0] - self.now.mono)
            wait = ahead if wait is None else min(wait, ahead)
        if wait is None:
            waiting = [(r.id, self._why(r)) for r in self.state.live_runs()]
            raise UnfairError(f"nothing will ever happen, and there are {waiting[:5]}")
        self.now = Now(self.now.wall + wait, self.now.mono + wait)

    def _queue(self, about: tuple[str, int, str]) -> None:
        name, many, who = about
        try:
            self.do(QueueRun(name, [b""] * many, "cli", ANN, labels={"who": who}))
        except RefusedError:
            pass  # its queue is full

    def _host(self, pressure: float) -> None:
        if self.ledger.gates.look(Readings({"memory": pressure})):
            self.state.dirty = True

    def _ends(self, about: tuple[int, int, int]) -> None:
        id_, number, exit_code = about
        attempt = self.run(id_).attempt
        if attempt is None or attempt.number != number or attempt.state is AttemptState.ENDED:
            return
        self.do(ReportEnded(id_, number, exit_code, self.now.wall), SYSTEM)

    def _dispatch(self) -> None:
        for run in picks(self.state, self.ledger, self.now, self.pace):
            self._look_at_claim(run)
            number = len(run.attempts or ()) + 1
            self.apply(e.AttemptClaimed(run.id, number, self.now.wall))
            self.do(ReportStarted(run.id, number, "e", "i", self.now.wall), SYSTEM)
            name = run.job.name
            takes = min(LONGEST, int(self.rng.lognormvariate(0, 0.6) * self.length[name]))
            exit_code = int(self.rng.random() < self.failing[name])
            self._at(self.now.mono + takes, "ends", (run.id, number, exit_code))

    def _signals(self) -> None:
        for effect in self.effects:
            if isinstance(effect, SignalAttempt):
                at = self.now.mono + self.rng.choice([0, 5 * SECOND])
                self._at(at, "ends", (effect.run, effect.number, 143))
        self.effects.clear()

    # -- what must hold --------------------------------------------------------------------

    def _look_at_claim(self, run: Run) -> None:
        for what in self.starts.broken(self.state, run, self.now):
            raise UnfairError(f"run {run.id}: {what}")
        if self.ledger.closed(run.spec.kind) is not None:
            raise UnfairError(f"run {run.id}: starts while the host is busy")
        self.started += 1
        if not run.attempts:
            self.longest_wait = max(self.longest_wait, waited(run, self.now))
        heads = self._heads()
        for other in heads:
            before = self._rank(other) > self._rank(run) and self._fits(other)
            if before and next(self._blocked(other), None) is None and not self._kept(other):
                raise UnfairError(f"run {run.id}: starts before run {other.id}")
        # whom one of their rank, or a higher one, goes before, begin to wait anew
        for id_ in [id_ for id_ in self.top if self._rank(self.run(id_)) <= self._rank(run)]:
            del self.top[id_]
        late = [other for other in self._late(heads) if self._rank(other) > self._rank(run)]
        if late and not any(self._beside(run, other) for other in late):
            raise UnfairError(f"run {run.id}: takes what is kept for {[o.id for o in late]}")

    def _check(self, passes: int) -> None:
        state = self.state
        if state.reserved_millicpus > HOST.cpus * 1000 or state.reserved_memory > HOST.memory:
            raise UnfairError(f"reserved {state.reserved_millicpus, state.reserved_memory}")
        if len(state.active) > 1:
            free = HOST.memory - HOST.reserve_memory
            if state.reserved_memory > free:
                raise UnfairError(f"the reserve is taken: {state.reserved_memory} of {free}")
        if passes % 50 == 0:
            for problem in problems(state):
                raise UnfairError(problem)
        best: dict[int, Run] = {}
        for run in self._heads():
            if run.job.id not in best or self._rank(run) > self._rank(best[run.job.id]):
                best[run.job.id] = run
        for run in best.values():
            told = self._why(run)
            if told is None or not self._true(run, told):
                raise UnfairError(f"run {run.id} waits: it is not true that {told}")
        self._look_at_top(list(best.values()))

    def _late(self, heads: list[Run]) -> list[Run]:
        """Those that room is kept for: they want nothing else, have waited, and are the first."""
        if self.ledger.closed(Kind.CONTAINER) is not None:
            return []
        short = [run for run in heads if next(self._blocked(run), None) is None]
        short = [run for run in short if not self._fits(run)]
        late = [run for run in short if waited(run, self.now) >= self.pace.reserve_after]
        first = max(map(self._rank, late), default=0)
        return [run for run in late if self._rank(run) == first]

    def _look_at_top(self, heads: list[Run]) -> None:
        """Who is among the first that want nothing but room has it when as many have had it."""
        late = {run.id: run for run in self._late(heads)}
        for id_ in set(self.top) - set(late):
            del self.top[id_]
        for id_ in late:
            since, most = self.top.get(id_, (self.now.mono, 0))
            self.top[id_] = (since, max(most, len(late)))
            if self.now.mono - since > (LONGEST + MINUTE) * max(most, len(late)):
                raise UnfairError(f"run {id_} starves: first since {self.now.mono - since} ms")

    def _heads(self) -> list[Run]:
        ready = self.state.ready
        return [run for priority in ready.priorities() for run in ready.heads(priority)]

    def _rank(self, run: Run) -> int:
        assert self.pace.age_after is not None
        return run.priority + waited(run, self.now) // self.pace.age_after

    def _why(self, run: Run) -> Reason | None:
        return reason(run, self.now, self.ledger.closed(run.spec.kind), self.state)

    def _fits(self, run: Run) -> bool:
        state = self.state
        held = Needs(state.reserved_millicpus / 1000, state.reserved_memory)
        return self.ledger.shortfall(run.needs, held, len(state.active)) is None

    def _beside(self, run: Run, other: Run) -> bool:
        """Whether one fits beside another that does not yet."""
        state, needs = self.state, other.needs
        held = Needs(
            state.reserved_millicpus / 1000 + needs.cpus, state.reserved_memory + needs.memory
        )
        return self.ledger.shortfall(run.needs, held, len(state.active) + 1) is None

    def _kept(self, run: Run) -> bool:
        """Whether it is told that room is kept for another."""
        told = run.job.reason
        return told is not None and "is kept for run" in told.text

    def _blocked(self, run: Run) -> Iterator[str]:
        """The limits that keep the run, reckoned anew, by their reasons' words."""
        rule, state, wall = run.ruling, self.state, self.now.wall
        limit = rule.concurrency if rule.overlap == "allow" else 1
        group = state.groups.named[rule.group] if rule.group else None
        shared = group.limits if group is not None else None
        full = [
            limit is not None and run.job.active >= limit,
            self.pace.at_once is not None and len(state.active) >= self.pace.at_once,
            run.option("mutex") is not None and run.option("mutex") in state.mutexes.holders,
        ]
        if group is not None and shared is not None and shared.concurrency is not None:
            full.append(len(group.active) >= shared.concurrency)
        if any(full):
            yield "limits"
        bucket = state.buckets.get(run.job.id)
        if rule.rate is not None and bucket and bucket.wait(rule.rate, rule.burst, wall):
            yield "rate"
        of_group = shared.rate if shared is not None else None
        if group is not None and of_group and group.bucket.wait(of_group, shared.burst, wall):
            yield "rate"
        kept = state.breakers.get(run.job.id)
        if kept is not None and kept.until is not None and (wall < kept.until or run.job.active):
            yield "breaker"

    def _true(self, run: Run, told: Reason) -> bool:
        """Whether what the run is told is so."""
        if told == self.ledger.closed(run.spec.kind):
            return True
        if told.code == "capacity":
            return self._kept(run) or not self._fits(run)
        return told.code in list(self._blocked(run))

    def all_over(self) -> bool:
        """Whether every run has ended."""
        return all(run.state is RunState.DONE for run in self.state.runs.oldest_first())

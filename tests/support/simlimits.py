"""What the simulation knows of limits by itself: the starts that were, and what is active."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jobd.capacity.ledger import Host
from jobd.core.entities import Run
from jobd.core.model import Now
from jobd.core.rates import Rate
from jobd.core.state import State

MIB = 1 << 20
HOST = Host(cpus=4.0, memory=4096 * MIB, reserve_cpus=0.25, reserve_memory=512 * MIB)
#: ways of setting the wall's clock, in milliseconds
JUMPS = (-30 * 86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 30 * 86_400_000)


class Starts:
    """Starts by job or group, with the rate that they were held to."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[object, list[int]]] = {}

    def clear(self) -> None:
        """The clock was set, or starts were lost with a pass."""
        self._known.clear()

    def within(self, rate: Rate | None, burst: int | None, whose: object, now: Now) -> bool:
        """Whether one more start keeps to the rate, by the starts that were since it was set."""
        known = self._known.get(whose)
        if rate is None:
            self._known.pop(whose, None)
            return True
        if known is None or known[0] != (rate, burst):
            known = self._known[whose] = ((rate, burst), [])
        times, wall = known[1], now.wall
        times.append(wall)
        each, most = rate.period / rate.number, burst or rate.number
        counts = ((len(times) - i, wall - at) for i, at in enumerate(times))
        return all(number <= most + passed / each + 0.01 for number, passed in counts)

    def broken(self, state: State, run: Run, now: Now) -> Iterator[str]:
        """What a claim of the run goes beyond."""
        rule = run.ruling
        limit = rule.concurrency if (run.option("overlap") or rule.overlap) == "allow" else 1
        if limit is not None and run.job.active >= limit:
            yield "starts beyond its job's limit"
        kept = state.breakers.get(run.job.id)
        if kept is not None and kept.until is not None and rule.breaker_failures is not None:
            if run.job.active:
                yield "starts beside the one that is tried"
            if kept.opened_at <= now.wall < kept.until:
                yield "starts while its breaker is open"
        if not self.within(rule.rate, rule.burst, run.job.id, now):
            yield "starts beyond its job's rate"
        if run.option("mutex") in keys(state.active.values()):
            yield "starts while its key is held"
        if rule.group is None:
            return
        group = state.groups.named.get(rule.group)
        if group is None or group.limits is None:
            yield "starts without its group"
            return
        limits = group.limits
        if limits.concurrency is not None and len(group.active) >= limits.concurrency:
            yield "starts beyond its group"
        if not self.within(limits.rate, limits.burst, rule.group, now):
            yield "starts beyond its group's rate"


def keys(runs: Iterable[Run]) -> set[str]:
    """The keys of the runs."""
    return {run.option("mutex") for run in runs} - {None}

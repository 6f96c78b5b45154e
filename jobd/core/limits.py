"""What a waiting run has to get past beside capacity: limits of its job, group, key and host.

Each check is one small function: dispatch takes the first that is not met, `why` shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jobd.core.breaker import broken
from jobd.core.entities import Run
from jobd.core.model import Now, Reason
from jobd.core.moves import Moves
from jobd.core.rates import Bucket, Rate, rate_text
from jobd.core.states import Kind
from jobd.units import duration_text


class Pace(NamedTuple):
    """How the host takes runs on: jobd.toml's `[order]`, and how many at once. Milliseconds."""

    #: how long a run may be passed by smaller ones
    reserve_after: int = 60_000
    #: each so long of waiting counts as one priority more; None: never
    age_after: int | None = 600_000
    #: runs active at once: in all, and of each kind; None: no limit
    at_once: int | None = None
    containers: int | None = None
    processes: int | None = None


#: where nothing is said
PLAIN = Pace()


class Limit(NamedTuple):
    """One thing that a run has to get past. `again`: milliseconds until time alone may meet it."""

    name: str
    ok: bool
    code: str
    text: str
    numbers: dict[str, Any]
    again: int | None = None


def blocking(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    """The first limit that keeps the run from starting, or None."""
    for check in _CHECKS:
        found = check(state, run, now, pace)
        if found is not None and not found.ok:
            return found
    return None


def limits(state: Moves, run: Run, now: Now, pace: Pace) -> Iterator[Limit]:
    """Every limit that there is for the run, met or not."""
    for check in _CHECKS:
        found = check(state, run, now, pace)
        if found is not None:
            yield found


def concurrency(run: Run) -> int | None:
    """How many runs of the run's job may be active at once, or None."""
    return run.ruling.concurrency if overlap(run) == "allow" else 1


def overlap(run: Run) -> str:
    """What counts for the run: its schedule's word, else its job's."""
    own: str | None = run.option("overlap")
    return own or run.ruling.overlap


def _breaker(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    if run.ruling.breaker_failures is None:
        return None
    found = broken(state, run.job, now)
    kept = state.breakers.get(run.job.id)
    numbers = {"failures": 0 if kept is None else kept.failures, "until": kept and kept.until}
    if found is None:
        text = f"{numbers['failures']} failures in a row of {run.ruling.breaker_failures}"
        return Limit("breaker", True, "breaker", text, numbers)
    return Limit("breaker", False, "breaker", found.text, numbers, found.left or None)


def _concurrency(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    limit, job = concurrency(run), run.job
    if limit is None:
        return None
    text = f"job {job.name} has {job.active} of {limit} runs at once"
    how = overlap(run)
    if how != "allow":
        text += f", overlap = {how}"
    if job.active >= limit and limit == 1:
        text += _held_by(run.id for run in state.active.values() if run.job is job)
    numbers = {"active": job.active, "limit": limit}
    return Limit("concurrency", job.active < limit, "limits", text, numbers)


def _rate(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    rule = run.ruling
    if rule.rate is None:
        return None
    bucket = state.buckets.get(run.job.id) or Bucket()
    return _of_rate("rate", f"job {run.job.name}", rule.rate, rule.burst, bucket, now)


def _of_rate(
    name: str, whose: str, rate: Rate, burst: int | None, bucket: Bucket, now: Now
) -> Limit:
    wait = bucket.wait(rate, burst, now.wall)
    left = bucket.left(rate, burst, now.wall)
    text = f"{whose} may start {rate_text(rate)}: {left} of {burst or rate.number} left"
    if wait:
        text = f"{whose} may start {rate_text(rate)}: the next one in {_seconds(wait)}"
    numbers = {"rate": rate_text(rate), "left": left, "wait_ms": wait}
    return Limit(name, wait == 0, "rate", text, numbers, wait or None)


def _group(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    name = run.ruling.group
    if name is None:
        return None
    group = state.groups.named.get(name)
    if group is None or group.limits is None:
        text = f"group {name} is not in jobd.toml: add [groups.{name}], or change limits.group"
        return Limit("group", False, "limits", text, {"group": name})
    active, limit = len(group.active), group.limits.concurrency
    numbers: dict[str, Any] = {"group": name, "active": active, "limit": limit}
    if limit is None:
        return Limit("group", True, "limits", f"group {name} has no limit at once", numbers)
    text = f"group {name} has {active} of {limit} runs at once"
    if active >= limit:
        text += _held_by(sorted(group.active))
        numbers["held_by"] = sorted(group.active)[:10]
    return Limit("group", active < limit, "limits", text, numbers)


def _group_rate(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    name = run.ruling.group
    group = state.groups.named.get(name) if name is not None else None
    if group is None or group.limits is None or group.limits.rate is None:
        return None
    rate, burst = group.limits.rate, group.limits.burst
    return _of_rate("group-rate", f"group {name}", rate, burst, group.bucket, now)


def _mutex(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    key = run.option("mutex")
    if key is None:
        return None
    holder = state.mutexes.holders.get(key)
    if holder is None:
        return Limit("mutex", True, "limits", f"nobody holds {key!r}", {"mutex": key})
    text = f"run {holder} holds {key!r}"
    return Limit("mutex", False, "limits", text, {"mutex": key, "held_by": [holder]})


def _host(state: Moves, run: Run, now: Now, pace: Pace) -> Limit | None:
    if pace.at_once is not None and len(state.active) >= pace.at_once:
        return _at_once("the host", len(state.active), pace.at_once, "capacity.concurrency")
    kind = run.spec.kind
    most = pace.processes if kind is Kind.PROCESS else pace.containers
    if most is not None and state.active_of[kind] >= most:
        key = "process" if kind is Kind.PROCESS else "engine"
        return _at_once(f"{kind} runs", state.active_of[kind], most, f"{key}.concurrency")
    if pace.at_once is None and most is None:
        return None
    numbers = {"active": len(state.active), "limit": pace.at_once}
    return Limit("at-once", True, "limits", f"{len(state.active)} runs are active", numbers)


def _at_once(what: str, active: int, limit: int, key: str) -> Limit:
    text = f"{active} of {limit} at once: {what} ({key})"
    return Limit("at-once", False, "limits", text, {"active": active, "limit": limit})


_CHECKS: tuple[Callable[[Moves, Run, Now, Pace], Limit | None], ...] = (
    _breaker,
    _concurrency,
    _rate,
    _group,
    _group_rate,
    _mutex,
    _host,
)


def waits_for_key(state: Moves, run: Run) -> Reason | None:
    """Why a run that is set aside waits: who holds its key; None where it is not set aside."""
    if run.id not in state.mutexes:
        return None
    key = run.option("mutex")
    holder = state.mutexes.holders.get(key)
    return Reason("limits", f"run {holder} holds {key!r}" if holder else f"{key!r} was held")


def _held_by(runs: Any) -> str:
    named = [f"run {number}" for number, _ in zip(runs, range(3), strict=False)]
    return f" ({', '.join(named)})" if named else ""


def _seconds(ms: int) -> str:
    return duration_text((ms + 999) // 1000 * 1000) if ms >= 1000 else duration_text(ms)

"""What a job should be given, by what its last attempts really used. Pure.

Memory: the peak that 19 of 20 attempts stayed below, and a quarter of headroom. Processors: what 19
of 20 used on average, and a fifth. Timeout: three times what 19 of 20 took. Where attempts were cut
short by a limit nobody knows what they would have used: then more than the limit is proposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jobd.core.entities import Attempt, Job, Run
from jobd.core.model import JobSpec
from jobd.core.policy import Rules
from jobd.core.states import Outcome
from jobd.units import duration_text, size_text

#: attempts that are looked at, the newest; below FEW little can be said
MOST, FEW = 200, 5
_HEADROOM, _CPU_ROOM, _TIMES = 1.25, 1.2, 3
#: nothing is proposed that differs by less than this from what is there
_WORTH = 0.1
_LEAST_MEMORY, _LEAST_TIMEOUT = 16 << 20, 60_000
#: a share of the processor's periods that were cut short, above which a limit is too low
_THROTTLED = 0.1


class Used(NamedTuple):
    """What one attempt used: bytes at its peak, cores on average, milliseconds; None: unknown."""

    outcome: str
    memory: int | None
    cpus: float | None
    ms: int | None
    throttled: float = 0.0


class Proposal(NamedTuple):
    """One setting: how it is and how it should be, both as a job file has them, and why."""

    key: str
    now: str | float
    proposed: str | float
    text: str
    changes: bool


def used(runs: Iterable[Run]) -> list[Used]:
    """Of the attempts of these runs that have ended, the first MOST."""
    found: list[Used] = []
    for run in runs:
        for attempt in reversed(run.attempts or ()):
            one = _of(attempt)
            if one is not None:
                found.append(one)
        if len(found) >= MOST:
            break
    return found[:MOST]


def _of(attempt: Attempt) -> Used | None:
    end, started = attempt.end, attempt.started
    if end is None or started is None or end.outcome in (Outcome.INTERRUPTED, Outcome.LOST):
        return None
    ms = max(1, (end.finished_at or end.at) - started.started_at)
    cpus = None if end.cpu_seconds is None else end.cpu_seconds * 1000 / ms
    cut = (end.throttled_periods or 0) / end.periods if end.periods else 0.0
    return Used(str(end.outcome), end.memory_peak, cpus, ms, cut)


def proposals(job: Job, found: Sequence[Used], rules: Rules) -> list[Proposal]:
    """What is proposed for a job, where anything is known."""
    made = (_memory(job.spec, found, rules), _cpus(job.spec, found, rules))
    return [one for one in (*made, _timeout(job.spec, found, rules)) if one is not None]


def _memory(spec: JobSpec, found: Sequence[Used], rules: Rules) -> Proposal | None:
    peaks = [one.memory for one in found if one.memory is not None]
    killed = sum(one.outcome == Outcome.OOM_KILLED for one in found)
    if not peaks and not killed:
        return None
    high = percentile(peaks, 0.95) if peaks else spec.memory
    wanted = high * _HEADROOM
    text = f"95 % of {len(peaks)} attempts stayed below {_size(high)}"
    if killed:
        wanted = max(wanted, spec.memory * 1.5)
        text = f"{killed} of {len(found)} attempts were killed for memory at {_size(spec.memory)}"
    size = max(_LEAST_MEMORY, _rounded(wanted))
    if rules.max_memory is not None and size > rules.max_memory:
        size, text = rules.max_memory, f"{text}; more than maxima.memory allows"
    changes = _differs(size, spec.memory)
    return Proposal("resources.memory", size_text(spec.memory), size_text(size), text, changes)


def _cpus(spec: JobSpec, found: Sequence[Used], rules: Rules) -> Proposal | None:
    shares = [one.cpus for one in found if one.cpus is not None]
    if not shares:
        return None
    high = percentile(shares, 0.95)
    cpus = max(0.05, math.ceil(high * _CPU_ROOM * 20) / 20)
    text = f"95 % of {len(shares)} attempts used {high:.2f} or less on average"
    slowed = sum(one.throttled > _THROTTLED for one in found)
    if slowed * 2 > len(found):
        cpus = max(cpus, math.ceil(spec.cpus * 1.5 * 20) / 20)
        text = f"{slowed} of {len(found)} attempts were held back by their limit of {spec.cpus:g}"
    if rules.max_cpus is not None and cpus > rules.max_cpus:
        cpus, text = rules.max_cpus, f"{text}; more than maxima.cpus allows"
    return Proposal("resources.cpus", spec.cpus, cpus, text, _differs(cpus, spec.cpus))


def _timeout(spec: JobSpec, found: Sequence[Used], rules: Rules) -> Proposal | None:
    times = [one.ms for one in found if one.ms is not None and one.outcome == Outcome.SUCCEEDED]
    cut = sum(one.outcome == Outcome.TIMED_OUT for one in found)
    if not times and not cut:
        return None
    high = percentile(times, 0.95) if times else 0
    ms = max(_LEAST_TIMEOUT, math.ceil(high * _TIMES / 60_000) * 60_000)
    text = f"95 % of {len(times)} that succeeded took {duration_text(_seconds(high))} or less"
    if cut:
        # it may be what hangs, and it may be what needs longer: more can only be found out
        ms = max(ms, 2 * spec.timeout)
        text = f"{cut} of {len(found)} attempts were stopped at {duration_text(spec.timeout)}"
    if rules.max_timeout is not None and ms > rules.max_timeout:
        ms, text = rules.max_timeout, f"{text}; more than maxima.timeout allows"
    changes = _differs(ms, spec.timeout)
    return Proposal("timeout", duration_text(spec.timeout), duration_text(ms), text, changes)


def lines(made: Iterable[Proposal]) -> Iterator[str]:
    """The lines of a job file that say what is proposed and is not so yet."""
    table = ""
    for one in sorted(made, key=lambda one: "." in one.key):
        if not one.changes:
            continue
        head, _, key = one.key.rpartition(".")
        if head != table:
            table = head
            yield f"[{head}]"
        value = one.proposed
        yield f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value:g}"


def percentile(values: Sequence[float], part: float) -> float:
    """The least of the values that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _rounded(size: float) -> int:
    """Up to a number that people write: by 16M below 1G, by 128M above."""
    step = (16 << 20) if size < 1 << 30 else 128 << 20
    return math.ceil(size / step) * step


def _differs(proposed: float, now: float) -> bool:
    return abs(proposed - now) > _WORTH * now


def _seconds(ms: float) -> int:
    return math.ceil(ms / 1000) * 1000


def _size(size: float) -> str:
    return f"{size / (1 << 20):.4g}M"

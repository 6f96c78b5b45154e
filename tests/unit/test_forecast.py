"""`forecast`: collisions, backlog and clock changes of the hours to come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobd.capacity.ledger import Host, Ledger
from jobd.core import events as e
from jobd.core.commands import DrainHost
from jobd.core.entities import Run
from jobd.core.limits import PLAIN
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.states import Kind
from jobd.forecast import outlook as o
from jobd.forecast.outlook import Collision, Outlook
from tests.support.core import Bench, dump_all
from tests.support.situations import event_for

HOUR = 3_600_000
HOST = Host(4.0, 8 << 30, 0.0, 0)


def at(text: str) -> Now:
    return Now(round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000), 1_000)


def live(bench: Bench, run: Run, ms: int) -> None:
    """The run is claimed, runs for so long, and succeeds."""
    bench.claim()
    bench.apply(event_for(bench, run.id, e.AttemptStarted))
    bench.later(ms)
    wall = bench.now.wall
    bench.apply(
        e.AttemptEnded(run.id, 1, wall, "succeeded", True, 0, finished_at=wall),
        e.RunFinished(run.id, wall, "succeeded", "succeeded", ""),
    )


def look(bench: Bench, hours: int = 24) -> Outlook:
    free = Ledger(HOST)
    free.engines = dict.fromkeys(Kind)
    before = dump_all(bench.state)
    seen, left = o.view(bench.state, free, PLAIN, Rules(), bench.now)
    found = o.outlook(seen, left, hours * HOUR)
    assert dump_all(bench.state) == before
    return found


def job(bench: Bench, name: str, takes: int, cron: str, **more: Any) -> None:
    """A job of 3 cores, of which one run has been, with a schedule."""
    bench.register(name, **{"resources": {"cpus": 3}, **more})
    live(bench, bench.queue(name), takes)
    schedule = {"name": "s", "cron": cron, "timezone": "Europe/Berlin"}
    bench.register(name, **{"resources": {"cpus": 3}, **more}, schedule=[schedule])


def by_job(bench: Bench, found: Outlook) -> dict[str, Collision]:
    return {bench.state.jobs_by_id[one.job].name: one for one in found.collisions}


def test_two_that_meet() -> None:
    bench = Bench(now=at("2026-03-10T12:10:00"))
    job(bench, "long", 20 * 60_000, "0 * * * *")
    job(bench, "short", 60_000, "0 */6 * * *")
    found = look(bench)
    # either may be the first; whoever comes second waits for as long as the other takes
    (late,) = by_job(bench, found).values()
    assert late.late == 4
    assert late.longest in (20 * 60_000, 60_000)
    assert late.reason is not None
    assert late.reason.text.startswith("needs 3 cpus: 1.00 of 4 free")
    assert late.beside
    assert (found.started, found.queued, found.waiting, found.peak) == (28, 28, 0, 1)
    assert found.complete
    assert sum(hour.started for hour in found.hours) == 28
    assert len(found.hours) == 24
    busy = sum(hour.cpus for hour in found.hours)
    assert abs(busy - 3 * (24 * 20 + 4) / 60) < 0.5
    assert found.unknown == []


def test_one_that_overlaps_itself() -> None:
    bench = Bench(now=at("2026-03-10T12:10:00"))
    job(bench, "slow", 25 * 60_000, "*/10 * * * *", overlap="skip")
    one = by_job(bench, look(bench, 10))["slow"]
    assert (one.fires, one.skipped, one.late) == (60, 40, 0)


def test_what_waits_and_what_nobody_knows() -> None:
    bench = Bench(now=at("2026-03-10T12:00:00"))
    bench.register("new", resources={"cpus": 4})
    for _ in range(5):
        bench.queue("new")
    found = look(bench, 2)
    assert (found.started, found.waiting, found.peak) == (5, 0, 4)
    assert [bench.state.jobs_by_id[number].name for number in found.unknown] == ["new"]
    bench.do(DrainHost(True))
    found = look(bench, 2)
    assert (found.started, found.waiting) == (0, 5)


def test_clocks_that_change() -> None:
    bench = Bench(now=at("2026-03-28T12:00:00"))
    job(bench, "night", 60_000, "30 2 * * *")
    told = look(bench).clock
    assert [text for job, _, text in told if not job] == [
        "Europe/Berlin: clocks go forward on 2026-03-29, to 03:00"
    ]
    assert [text for job, name, text in told if name == "s"] == [
        "on 2026-03-29 clocks go forward: there is no 02:30, so at 03:00"
    ]
    assert look(bench, 2).clock == []


def test_more_than_is_worth_it() -> None:
    bench = Bench(now=at("2026-03-10T12:00:00"))
    job(bench, "often", 100, "* * * * * *")
    most, o.MOST_STARTS = o.MOST_STARTS, 100
    try:
        found = look(bench)
    finally:
        o.MOST_STARTS = most
    assert not found.complete
    assert found.until - found.at < 200_000
    assert len(found.hours) == 1

"""Schedules over days of a clock that is set, stops, and goes on: each time once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.core import events as e
from jobd.core import schedule as one
from jobd.core.commands import (
    AddSchedule,
    Caller,
    FireSchedule,
    PauseSchedule,
    QueueRun,
    RegisterJob,
    RemoveSchedule,
    ScheduleDue,
    UnregisterJob,
)
from jobd.core.decide import decide
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.errors import ConflictError, InvalidError, NotFoundError

ME = Caller(0, "root", 1)
RULES = Rules(timezone="Europe/Berlin")
HOUR, DAY = 3_600_000, 86_400_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


class Host:
    """A core with a clock of its own; everything that was decided can be replayed."""

    def __init__(self, at: str = "2026-01-01T00:00:00") -> None:
        self.state = State()
        self.wall = ms(at)
        self.mono = 0
        self.events: list[e.Event] = []
        self.do(RegisterJob({"name": "j", "image": "i"}))

    @property
    def now(self) -> Now:
        return Now(self.wall, self.mono)

    def do(self, command: Any) -> Any:
        decision = decide(self.state, command, self.now, RULES, ME)
        for event in decision.events:
            self.state.apply(event)
        self.events += decision.events
        return decision.answer

    def add(self, **spec: Any) -> str:
        name: str = self.do(AddSchedule("j", spec))[0]
        return name

    def turn(self) -> None:
        """One pass of the loop."""
        for schedule in self.state.schedules.due(self.now):
            self.do(ScheduleDue(*schedule.key))

    def live(self, for_ms: int) -> None:
        """Sleep and wake as the loop does, 30 seconds at the longest."""
        end = self.mono + for_ms
        while self.mono < end:
            self.turn()
            wait = self.state.schedules.wait_ms(self.now)
            step = min(30_000 if wait is None else wait + 1, 30_000, end - self.mono)
            self.wall += step
            self.mono += step
        self.turn()

    def restart(self) -> None:
        """A daemon that is started anew on what is on disk."""
        again = State()
        for event in self.events:
            again.apply(event)
        self.state = again

    @property
    def fired(self) -> list[int]:
        """Nominal times of all runs."""
        return [
            event.options["source"][1]
            for event in self.events
            if type(event) is e.RunQueued and event.options
        ]

    def times(self) -> list[str]:
        return [f"{datetime.fromtimestamp(at / 1000, UTC):%m-%dT%H:%M}" for at in self.fired]

    @property
    def schedule(self) -> Any:
        (found,) = self.state.schedules.every()
        return found


def test_each_time_once_over_days_and_restarts() -> None:
    host = Host()
    host.add(cron="*/15 * * * *")
    for _ in range(8):
        host.live(6 * HOUR)
        host.restart()
    assert len(host.fired) == 2 * 96
    assert host.fired == sorted(set(host.fired))


def test_a_run_knows_what_made_it() -> None:
    host = Host()
    host.add(cron="0 8 * * *", payload="${DATE} ${TIME} ${SCHEDULED_AT}", name="daily")
    host.live(DAY)
    (run,) = [event for event in host.events if type(event) is e.RunQueued]
    assert (run.trigger, run.caller[:2]) == ("schedule", [0, "root"])
    assert run.options == {"source": ["daily", ms("2026-01-01T07:00:00")]}
    assert run.payload == b"2026-01-01 08:00:00 2026-01-01T07:00:00Z"


@pytest.mark.parametrize("back", [HOUR, DAY])
def test_a_clock_that_goes_back_fires_nothing_twice(back: int) -> None:
    host = Host()
    host.add(cron="*/10 * * * *")
    host.live(3 * HOUR)
    host.wall -= back
    host.restart()
    host.live(back + 2 * HOUR)
    assert host.fired == sorted(set(host.fired))
    assert len(host.fired) == 5 * 6


def test_nothing_fires_while_the_clock_is_plainly_wrong() -> None:
    host = Host("2026-03-01T00:00:00")
    host.add(cron="0 * * * *")
    host.live(2 * HOUR)
    right = host.wall
    host.wall = 12_345_678  # 1970: a board without a battery
    host.restart()
    host.live(2 * HOUR)
    assert host.state.schedules.is_wrong(host.now)
    assert len(host.fired) == 2
    host.wall = right
    host.live(2 * HOUR)
    assert len(host.fired) == 4


@pytest.mark.parametrize(
    ("catchup", "minutes", "made", "missed"),
    [
        ("none", 1, 1, 0),
        ("last", 1, 1, 0),
        ("all", 1, 1, 0),
        ("none", 100, 1, 99),
        ("last", 100, 1, 99),
        ("all", 100, 100, 0),
        ("none", 10_000, 1, 999),
        ("last", 10_000, 1, 999),
        ("all", 10_000, 100, 900),
    ],
)
def test_what_was_missed(catchup: str, minutes: int, made: int, missed: int) -> None:
    """A schedule of each minute, jobd down for so many. One of half a minute ago is not late;
    what is counted is counted to a thousand."""
    host = Host("2026-01-01T00:00:30")
    host.add(cron="* * * * *", catchup=catchup)
    host.live(60_000)
    before = len(host.fired)
    host.wall += minutes * 60_000
    host.restart()
    host.turn()
    found = host.fired[before:]
    assert (len(found), host.schedule.missed) == (made, missed)
    assert found == sorted(set(found))
    assert found[-1] == host.wall // 60_000 * 60_000


def test_none_is_caught_up_where_none_is_wanted() -> None:
    host = Host()
    host.add(cron="0 * * * *", catchup="none")
    host.wall += 90 * 60_000
    host.turn()
    assert (host.fired, host.schedule.missed) == ([], 1)


def test_a_window_leaves_out_what_is_too_old() -> None:
    host = Host()
    host.add(cron="0 * * * *", catchup="all", catchup_window="3h")
    host.wall += 10 * HOUR
    host.turn()
    assert host.times() == ["01-01T08:00", "01-01T09:00", "01-01T10:00"]
    assert host.schedule.missed == 7


def test_a_month_forward_and_suspended() -> None:
    host = Host()
    host.add(cron="30 3 * * *")
    host.live(DAY)
    host.wall += 30 * DAY  # set forward; a suspended host's monotonic clock goes on as well
    host.live(DAY)
    assert host.times() == ["01-01T02:30", "01-31T02:30", "02-01T02:30"]
    assert host.schedule.missed == 29


def test_start_end_and_how_often() -> None:
    host = Host()
    host.add(every="1h", start="2026-01-01T06:00Z", end="2026-01-01T09:30Z")
    host.live(DAY)
    assert host.times() == ["01-01T06:00", "01-01T07:00", "01-01T08:00", "01-01T09:00"]
    host = Host()
    host.add(every="1h", times=3)
    host.live(DAY)
    assert host.times() == ["01-01T01:00", "01-01T02:00", "01-01T03:00"]
    assert host.schedule.after(host.wall) is None
    host = Host()
    host.add(at="2026-01-01T05:00Z")
    host.live(2 * DAY)
    assert host.times() == ["01-01T05:00"]


def test_jitter_is_the_same_for_ever_and_not_all_alike() -> None:
    host = Host()
    names = [host.add(cron="0 * * * *", jitter="10m", name=f"n{number}") for number in range(20)]
    delays = {host.state.schedules.get(1, name).jitter for name in names}  # type: ignore[union-attr]
    assert len(delays) > 15
    assert all(0 <= delay < 600_000 for delay in delays)
    host.live(HOUR + 600_000)
    assert len(host.fired) == 20
    assert {event.at // 60_000 for event in host.events if type(event) is e.RunQueued} != {1}
    assert set(host.fired) == {ms("2026-01-01T01:00:00")}


def test_a_pause_is_not_caught_up() -> None:
    host = Host()
    host.add(cron="0 * * * *", catchup="all")
    host.do(PauseSchedule("j", "cron", True))
    host.restart()
    host.live(5 * HOUR)
    assert host.fired == []
    host.do(PauseSchedule("j", "cron", False))
    host.live(2 * HOUR)
    assert host.times() == ["01-01T06:00", "01-01T07:00"]


def test_a_definition_brings_its_schedules_and_takes_them_away() -> None:
    host = Host()
    spec = {"name": "j", "image": "i", "schedule": [{"cron": "0 * * * *"}, {"every": "1d"}]}
    host.do(RegisterJob(spec))
    assert [each.spec.name for each in host.state.schedules.every()] == ["cron", "every"]
    assert {each.spec.timezone for each in host.state.schedules.every()} == {"Europe/Berlin"}
    host.live(2 * HOUR)
    # another revision with the same times: it stands where it stood
    host.do(RegisterJob({**spec, "priority": 3}))
    host.restart()
    host.live(HOUR)
    assert host.times() == ["01-01T01:00", "01-01T02:00", "01-01T03:00"]
    with pytest.raises(ConflictError, match="stands in the job's definition"):
        host.do(RemoveSchedule("j", "cron"))
    host.do(RegisterJob({"name": "j", "image": "i"}))
    assert len(host.state.schedules) == 0
    host.live(DAY)
    assert len(host.fired) == 3


def test_a_removed_job_fires_no_more() -> None:
    host = Host()
    host.add(every="1h")
    host.do(UnregisterJob("j"))
    host.live(5 * HOUR)
    assert host.fired == []


def test_a_firing_that_is_refused_is_told_and_not_repeated() -> None:
    host = Host()
    host.do(RegisterJob({"name": "j", "image": "i", "limits": {"queue": 1}}))
    host.add(every="1h")
    host.do(QueueRun("j", [b""], "cli", ME))
    host.live(2 * HOUR)
    assert "queue is full" in host.schedule.refused
    assert host.fired == []


def test_by_hand_and_what_is_not_there() -> None:
    host = Host()
    host.add(cron="0 8 1 1 *", payload="p", name="rare")
    number = host.do(FireSchedule("j", "rare"))
    assert host.state.runs.get(number) is not None
    assert host.schedule.fired == 0
    for command in (
        FireSchedule("j", "no"),
        RemoveSchedule("j", "no"),
        PauseSchedule("j", "no", True),
    ):
        with pytest.raises(NotFoundError, match="no such schedule"):
            host.do(command)
    with pytest.raises(InvalidError, match="is over"):
        host.add(at="2020-01-01T00:00Z")
    assert host.add(every="1h") == "every"
    assert host.add(every="2h") == "every-2"


def test_started_things() -> None:
    host = Host()
    host.add(cron="@reboot", name="boot")
    boot = host.schedule
    host.do(ScheduleDue(*boot.key, "boot-1"))
    host.restart()
    assert host.schedule.mark == "boot-1"
    assert len(host.fired) == 1
    host.live(DAY)
    assert len(host.fired) == 1


Given = dict[str, Any]
TIMES = st.sampled_from([{"cron": "H 3 * * 1-5"}, {"every": "90s"}, {"at": "2027-01-31T08:00"}])
MORE = (
    st.sampled_from([{}, {"name": "n"}, {"timezone": "America/New_York"}]),
    st.sampled_from([{}, {"jitter": "5m", "times": 3}, {"payload": "\x00ä"}]),
    st.sampled_from([{}, {"catchup": "all", "catchup_window": "1h"}, {"overlap": "skip"}]),
    st.sampled_from([{}, {"start": "2026-01-01T00:00+02:00", "end": "2028-01-01"}]),
)


@given(TIMES, *MORE)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(
    times: dict[str, Any],
    a: dict[str, Any],
    b: dict[str, Any],
    c: dict[str, Any],
    d: dict[str, Any],
) -> None:
    spec = {**times, **a, **b, **c, **d}
    read = one.parse(spec, "s", "Europe/Berlin")
    assert one.parse(one.to_mapping(read), "s", "UTC") == read


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.booleans()), max_size=30))
def test_a_jobs_schedules_are_found_whatever_came_and_went(steps: list[Any]) -> None:
    state, who = State(), [0, "root", 1, "uid:0"]
    for number in (1, 2, 3):
        spec = {"name": f"j{number}", "image": "i"}
        state.apply(e.JobRegistered(number, f"j{number}", 1, spec, 1, who))
    schedules = state.schedules
    for at, (number, name, comes) in enumerate(steps):
        if comes:
            told = {"name": name, "every": f"{at + 1}m", "timezone": "UTC"}
            state.apply(e.ScheduleAdded(number, name, told, at, who))
        else:
            schedules.remove(number, name)
    for job in state.jobs_by_id.values():
        mine = [each for each in schedules.every() if each.job is job]
        assert schedules.of(job) == sorted(mine, key=lambda each: each.spec.name)
    for job in list(state.jobs_by_id.values()):
        schedules.drop(job)
        assert schedules.of(job) == []
    assert len(schedules) == 0

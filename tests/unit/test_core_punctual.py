"""The short way of a schedule's firing says what the long one says, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.core import punctual
from jobd.core.commands import AddSchedule, Caller, PauseJob, PauseSchedule, RegisterJob
from jobd.core.commands import ScheduleDue as Due
from jobd.core.decide import decide
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State

ROOT = Caller(0, "root", 1)
AT = 1_790_000_000_000
RULES = Rules(max_payload=30)

SPECS = st.fixed_dictionaries(
    {"name": st.just("job"), "image": st.just("img")},
    optional={
        "priority": st.integers(-5, 5),
        "expires": st.just("1h"),
        "overlap": st.sampled_from(["allow", "queue", "skip", "replace"]),
        "limits": st.sampled_from([{"queue": 1}, {"mutex": "{job}"}, {"concurrency": 1}]),
    },
)
TIMES = st.fixed_dictionaries(
    {"timezone": st.just("Europe/Berlin")},
    optional={
        "overlap": st.sampled_from(["allow", "queue", "skip"]),
        "catchup": st.sampled_from(["none", "last", "all"]),
        "payload": st.sampled_from(["x", "at ${SCHEDULED_AT}", "y" * 31]),
        "times": st.integers(1, 3),
        "jitter": st.just("10s"),
    },
)
WHEN = st.sampled_from([{"every": "1m"}, {"cron": "* * * * *"}, {"cron": "*/7 3 * * *"}])
RULE_SETS = st.sampled_from([RULES, replace(RULES, max_user_queue=2)])


@settings(max_examples=150)
@given(
    spec=SPECS,
    times=TIMES,
    when=WHEN,
    rules=RULE_SETS,
    waits=st.lists(st.sampled_from([1_000, 61_000, 3_600_000]), min_size=1, max_size=6),
    paused=st.booleans(),
)
def test_both_ways_decide_alike(
    spec: dict[str, Any],
    times: dict[str, Any],
    when: dict[str, Any],
    rules: Rules,
    waits: list[int],
    paused: bool,
) -> None:
    state = State()
    now = Now(AT, 0)

    def do(command: Any) -> None:
        for event in decide(state, command, now, rules, ROOT).events:
            state.apply(event)

    do(RegisterJob(spec))
    do(PauseJob("job", True))
    do(AddSchedule("job", {**times, **when, "name": "s"}))
    if paused:
        do(PauseSchedule("job", "s", True))
    for wait in waits:
        state.schedules.due(now)  # looks ahead
        now = Now(now.wall + wait, now.mono + wait)
        for schedule in state.schedules.due(now):
            short = punctual.fire(state, schedule, now, rules)
            long = decide(state, Due(*schedule.key), now, rules, ROOT)
            assert short is None or short == long.events
            for event in long.events:
                state.apply(event)


def test_the_plain_case_goes_the_short_way() -> None:
    state, now = State(), Now(AT, 0)
    spec = RegisterJob({"name": "job", "image": "img"})
    for command in (spec, AddSchedule("job", {"cron": "* * * * *", "timezone": "UTC"})):
        for event in decide(state, command, now, RULES, ROOT).events:
            state.apply(event)
    for minute in range(1, 4):
        state.schedules.due(now)
        now = Now(AT - AT % 60_000 + minute * 60_000, 0)
        (schedule,) = state.schedules.due(now)
        events = punctual.fire(state, schedule, now, RULES)
        assert events is not None
        for event in events:
            state.apply(event)
        assert state.schedules.due(now) == []
    assert state.waiting == 3
    assert state.schedules._unplanned == state.schedules.__class__()._unplanned

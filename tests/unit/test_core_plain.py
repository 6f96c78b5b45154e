"""The short way of a plain submission says what the long one says, or nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobd.core.commands import Caller, QueueRun, RegisterJob
from jobd.core.decide import decide
from jobd.core.model import Now
from jobd.core.plain import grant, plain
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.errors import JobdError

ROOT = Caller(0, "root", 1)
NOW = Now(1_790_000_000_000, 5_000)
RULES = Rules(max_payload=8)

SPECS = st.fixed_dictionaries(
    {"name": st.just("job"), "image": st.sampled_from(["img", "other/img:1"])},
    optional={
        "priority": st.integers(-5, 5),
        "expires": st.just("1h"),
        "limits": st.fixed_dictionaries({"queue": st.integers(1, 3)}),
        "resources": st.fixed_dictionaries({"cpus": st.sampled_from([0.5, 8])}),
    },
)
RULE_SETS = st.sampled_from(
    [RULES, replace(RULES, max_cpus=1.0), replace(RULES, images=("other/*",))]
)


@given(
    spec=SPECS,
    rules=RULE_SETS,
    asked=st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=10)), max_size=8),
)
def test_both_ways_decide_alike(
    spec: dict[str, object], rules: Rules, asked: list[tuple[int, bytes]]
) -> None:
    state = State()
    for event in decide(state, RegisterJob(spec), NOW, Rules(), ROOT).events:
        state.apply(event)
    by = grant(state, "job", ROOT, rules, NOW.wall)
    taken = 0
    for number, payload in asked:
        key = bytes([number]) * 16
        short = plain(state, by, payload, key) if by is not None else None
        command = QueueRun("job", [payload], "cli", ROOT, key)
        try:
            long = decide(state, command, NOW, rules, ROOT)
        except JobdError:
            assert short is None
            continue
        if short is None:
            # an answer that was given before, or a run with a date: never a new plain run
            assert not long.events or "expires" in spec
        else:
            assert [short] == long.events
            assert long.answer == ([(short.run, False)], [])
        for event in long.events:
            state.apply(event)
            taken += 1
    assert state.waiting == taken


def test_there_is_no_grant_for_a_job_that_is_not_there() -> None:
    assert grant(State(), "job", ROOT, RULES, NOW.wall) is None

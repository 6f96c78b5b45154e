"""The wait before the next attempt: how it grows, its bounds, its jitter."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobd.core.model import Retry
from jobd.core.policy import backoff
from jobd.core.states import Outcome
from jobd.units import MAX_MS


def test_the_wait_grows_by_its_factor_up_to_the_longest() -> None:
    retry = Retry(attempts=9, delay=10_000, factor=2.0, max_delay=60_000, jitter=0.0)
    assert [backoff(retry, n, 1) for n in range(1, 6)] == [10_000, 20_000, 40_000, 60_000, 60_000]


@given(
    st.integers(0, MAX_MS), st.floats(1, 1000), st.integers(0, MAX_MS), st.floats(0, 1),
    st.integers(1, 1000), st.integers(1, 1 << 40),
)  # fmt: skip
@example(0, 1000.0, MAX_MS, 0.2, 1000, 1)  # the power is more than a float holds
@example(1, 1000.0, MAX_MS, 0.2, 1000, 1)
def test_a_wait_lies_within_its_bounds(
    delay: int, factor: float, longest: int, jitter: float, charged: int, run: int
) -> None:
    longest = max(delay, longest)
    retry = Retry(1000, delay, factor, longest, jitter)
    wait = backoff(retry, charged, run)
    assert 0 <= wait <= longest, "the longest wait is the longest, jitter and all"
    if delay == 0:
        assert wait == 0
    if charged == 1 and delay * (1 + jitter) <= longest:
        assert round(delay * (1 - jitter)) - 1 <= wait <= round(delay * (1 + jitter)) + 1
    assert backoff(retry, charged, run) == wait, "a function of its input, replayed alike"


@pytest.mark.parametrize("charged", [1, 30])
def test_runs_that_failed_together_are_spread(charged: int) -> None:
    retry = Retry(attempts=99, delay=10_000, max_delay=600_000, jitter=0.2)
    waits = [backoff(retry, charged, run) for run in range(1000)]
    whole = 10_000 if charged == 1 else 500_000
    assert min(waits) >= whole * 0.8
    assert max(waits) <= whole * 1.2
    assert len({wait * 20 // whole for wait in waits}) >= 8, "over all of the range"
    assert Outcome.LOST not in retry.on

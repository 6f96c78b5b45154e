"""Roll-ups: exact where they count, close where they tell of the spread, and alike when merged."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.codec import pack_shared, unpack
from jobd.core import events as e
from jobd.core.rollups import HOUR_MS, Rollup, Sketch, hour_of
from tests.support.core import Bench

VALUES = st.lists(st.integers(-5, 1 << 50))


def sketch(values: list[int]) -> Sketch:
    made = Sketch()
    for value in values:
        made.add(value)
    return made


@given(VALUES, VALUES)
def test_merged_it_is_as_if_all_had_come_to_one(one: list[int], two: list[int]) -> None:
    merged = sketch(one)
    merged.merge(sketch(two))
    assert merged.fields() == sketch(one + two).fields()
    again = Sketch.of(unpack(pack_shared(merged.fields())))
    assert again.fields() == merged.fields()


@given(st.lists(st.integers(0, 1 << 50), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_a_twentieth(values: list[int], part: float) -> None:
    found = sketch(values).quantile(part)
    exact = sorted(values)[int(part * (len(values) - 1))]
    assert found is not None
    assert abs(found - exact) <= exact * 0.05 + 1e-6
    assert found <= max(values)


def test_of_nothing_nothing_is_told() -> None:
    assert Sketch().quantile(0.5) is None


def test_it_stays_small() -> None:
    rng = Random(1)
    made = sketch([int(rng.lognormvariate(8, 3)) for _ in range(20_000)])
    assert len(pack_shared(made.fields())) < 1_500


def test_a_run_is_counted_with_its_attempts() -> None:
    bench = Bench()
    bench.register(retry={"attempts": 2, "delay": "10s"})
    run = bench.queue()
    for number, code in ((1, 3), (2, 0)):
        bench.later(20_000)
        bench.claim()
        at = bench.now.wall
        bench.apply(e.AttemptStarted(run.id, number, at, at + 7, "c", "i", 5))
        outcome = "failed" if code else "succeeded"
        end = e.AttemptEnded(
            run.id, number, at + 107, outcome, True, code, finished_at=at + 107, cpu_seconds=0.25,
            memory_peak=4096,
        )  # fmt: skip
        last: e.Event = e.RunRequeued(run.id, at + 107, 10_000)
        if not code:
            last = e.RunFinished(run.id, at + 107, outcome, "", "")
        bench.apply(end, last)
    made = Rollup()
    made.take(run)
    figures = made.figures
    assert (made.outcomes, made.attempts) == ({"succeeded": 1}, 2)
    assert (figures["run_ms"].count, figures["run_ms"].total) == (2, 200)
    assert (figures["pull_ms"].total, figures["cpu_ms"].total) == (10, 500)
    assert (figures["memory_peak"].largest, figures["wait_ms"].count) == (4096, 2)
    assert hour_of(run) == run.note.at // HOUR_MS if run.note else False
    twice = Rollup.of(unpack(pack_shared(made.fields())))
    twice.merge(made)
    assert (twice.outcomes, twice.attempts) == ({"succeeded": 2}, 4)
    assert twice.figures["run_ms"].quantile(0.5) == pytest.approx(100, rel=0.05)

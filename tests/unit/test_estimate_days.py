"""What `why` says of starts against what then happened, over days of mixed work.

The lengths of attempts vary by a factor of two either way, four of five attempts of some jobs fail,
and who comes later is not known to anybody; so of some runs nobody can name a time, and none is.
"""

from __future__ import annotations

import os

import pytest

from tests.support.simasked import Asked, AskedDays, told, within


def ask(seeds: range, share: float) -> list[Asked]:
    """All questions over some days."""
    asked: list[Asked] = []
    for seed in seeds:
        days = AskedDays(seed, 25, 90, share)
        days.live()
        asked += days.asked
    return asked


def look_at(asked: list[Asked], capsys: pytest.CaptureFixture[str]) -> None:
    """Print how well it was told, and hold it to what is promised."""
    with capsys.disabled():
        print("", *told(asked), sep="\n  ")
    named = [one for one in asked if one.named is not None]
    assert within(asked, 0.75, 1.25) >= 0.5
    assert within(asked, 0.5, 2.0) >= 0.9
    # not by naming a time only where that is easy
    assert len(named) >= len(asked) * 0.4
    vague = [one for one in asked if one.named is None and one.bounds is not None]
    held = [one for one in vague if _between(one)]
    assert len(held) >= len(vague) * 0.6
    told_nothing = [one for one in asked if one.named is None and one.bounds is None]
    assert len(told_nothing) <= len(asked) * 0.1


def _between(one: Asked) -> bool:
    assert one.bounds is not None
    low, high = one.bounds
    return low - 1_000 <= one.started <= high + 1_000


def test_what_why_says_of_starts_is_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    look_at(ask(range(int(os.environ.get("JOBD_SIM_ASKED", "12"))), 0.06), capsys)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_over_many_more_days(capsys: pytest.CaptureFixture[str]) -> None:
    look_at(ask(range(1_000, 1_060), 0.06), capsys)

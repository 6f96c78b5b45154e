"""How many starts a rate lets through in one of its periods: what README says of `burst`."""

from __future__ import annotations

import pytest

from jobd.core.rates import Bucket, Rate

HOUR = 3_600_000


def starts(rate: Rate, burst: int | None, until: int) -> list[int]:
    """When each starts of those that always want to."""
    bucket, at, found = Bucket(), 0, []
    while at < until:
        wait = bucket.wait(rate, burst, at)
        if wait:
            at += wait
            continue
        bucket.take(rate, burst, at)
        found.append(at)
    return found


@pytest.mark.parametrize(
    ("number", "burst", "at_once", "in_an_hour"),
    [
        # a bucket that is full gives a hundred, and fills again meanwhile
        (100, None, 100, 200),
        (90, 10, 10, 100),
        (100, 1, 1, 101),
    ],
)
def test_at_once_and_in_an_hour(
    number: int, burst: int | None, at_once: int, in_an_hour: int
) -> None:
    found = starts(Rate(number, HOUR), burst, 5 * HOUR)
    assert found.count(0) == at_once
    most = max(sum(one <= other <= one + HOUR for other in found) for one in found)
    assert most == in_an_hour

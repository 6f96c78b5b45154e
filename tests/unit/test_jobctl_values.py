"""What people type: durations, dates, selectors, K=V."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl import values
from jobd.errors import UsageError

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    """A zone with an offset and with daylight saving, so that neither can be forgotten."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("90s", 90_000),
        ("90", 90_000),
        ("1.5", 1500),
        ("10m", 600_000),
        ("2h30m", 9_000_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1.5h", 5_400_000),
        ("1m30s500ms", 90_500),
        ("0", 0),
    ],
)
def test_durations(text: str, ms: int) -> None:
    assert values.duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10 m",
        "-5m",
        "10M",
        "1e3",
        "inf",
        "nan",
        "30m2h",
        "1h1h",
        "m",
        "1..5",
        ".",
        "1_0",
        "1.2.3s",
        "200000w",
        "5mm",
        "٣s",
        "²",
        "1h 30m",
    ],
)
def test_wrong_durations_name_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected 500ms|longer than"):
        values.duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert values.duration(text) >= 0
    except UsageError:
        pass


@pytest.mark.parametrize(
    ("text", "back", "local"),
    [
        ("tomorrow 08:00", False, "2026-01-02T08:00:00"),
        ("tomorrow", False, "2026-01-02T00:00:00"),
        ("yesterday 23:59:30", True, "2026-01-01T23:59:30"),
        ("today 08:00", False, "2026-01-01T08:00:00"),
        ("14:00", False, "2026-01-01T14:00:00"),
        ("08:00", False, "2026-01-02T08:00:00"),  # the next one
        ("08:00", True, "2026-01-01T08:00:00"),  # the last one
        ("14:00", True, "2025-12-31T14:00:00"),
        ("2026-03-01", False, "2026-03-01T00:00:00"),
        ("2026-07-01T08:00", False, "2026-07-01T08:00:00"),
        ("2026-07-01 08:00:30", False, "2026-07-01T08:00:30"),
        ("2026-01-01T00:00:00Z", False, "2026-01-01T01:00:00"),
        ("2026-01-01T00:00:00-05:00", False, "2026-01-01T06:00:00"),
    ],
)
def test_dates_are_read_in_the_clients_zone(text: str, back: bool, local: str) -> None:
    if text.startswith("yesterday"):
        local = "2025-12-31T23:59:30"
    at, dated = values.when(text, NOON, back=back)
    assert dated
    assert datetime.fromtimestamp(at / 1000).isoformat() == local


def test_a_duration_is_ahead_or_back() -> None:
    assert values.when("10m", NOON) == (NOON + 600_000, False)
    assert values.when("10m", NOON, back=True) == (NOON - 600_000, False)


@pytest.mark.parametrize("text", ["", "noon", "25:00", "tomorrow 8am", "2026-13-01", "8:5x", "::"])
def test_wrong_dates_name_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="expected 10m"):
        values.when(text, NOON)


def test_a_date_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(UsageError):
        values.when("0001-01-01T00:00:00+14:00", NOON)


def test_the_echo_has_the_offset_of_that_day() -> None:
    assert values.clock(values.when("2026-07-01T08:00", NOON)[0]) == "2026-07-01 08:00:00 +0200"
    assert values.clock(values.when("2026-01-05T08:00", NOON)[0]) == "2026-01-05 08:00:00 +0100"


@pytest.mark.parametrize("text", ["42", "40-45", "40,42", "1,3-5,9", "last", "last:job", "0"])
def test_selectors(text: str) -> None:
    assert values.selector(text) == text


@pytest.mark.parametrize(
    "text", ["", "-", "4-", "-4", "4,,5", "x4", "last:", "last:9", "all", "4 5", "1-2-3", "٣", "+4"]
)
def test_what_names_no_run_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        values.selector(text)


def test_a_jobs_name_for_a_run_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="last:sendemail"):
        values.selector("sendemail")


@pytest.mark.parametrize(
    ("text", "single"),
    [("42", True), ("last", True), ("last:j", True), ("40-45", False), ("40,42", False)],
)
def test_single_selectors(text: str, single: bool) -> None:
    assert values.is_single(text) is single


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("a.b_c-9", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("9a", False),
        ("last", False),
        ("all", False),
        ("", False),
        ("a b", False),
        ("ä", False),
        ("-a", False),
    ],
)
def test_job_names(name: str, good: bool) -> None:
    assert values.is_job_name(name) is good


def test_pairs() -> None:
    assert values.pairs(["A=1", "B=x=y", "C=", "A=2"], "--env") == {"A": "2", "B": "x=y", "C": ""}
    for wrong in ("A", "=x"):
        with pytest.raises(UsageError, match="--env"):
            values.pairs([wrong], "--env")


def test_whole_numbers() -> None:
    assert values.whole("-5") == -5
    assert values.positive("7") == 7
    for wrong in ("", "-", "1.5", "x", "1e3", "9" * 19, "²"):
        with pytest.raises(UsageError):
            values.whole(wrong)
    with pytest.raises(UsageError):
        values.positive("0")


def test_numbers_keep_what_they_are() -> None:
    assert values.number("2") == 2
    assert isinstance(values.number("2"), int)
    assert values.number("0.5") == 0.5
    with pytest.raises(UsageError):
        values.number("nan")

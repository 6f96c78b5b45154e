"""Durations and sizes: what people write, what it comes to, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobd.errors import InvalidError
from jobd.units import MAX_MS, duration_ms, duration_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("90s", 90_000),
        ("10m", 600_000),
        ("2h30m", 9_000_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1.5h", 5_400_000),
        ("1m0.5s", 60_500),
        (" 5s ", 5_000),
        ("90", 90_000),
        ("0.25", 250),
        ("5.", 5_000),
        (90, 90_000),
        (0.0004, 0),
        (0, 0),
    ],
)
def test_durations_as_people_write_them(text: Any, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "ms",
        "-5",
        "-5s",
        "5x",
        "5 s",
        "1h-30m",
        "1h 30m",
        "1.2.3s",
        ".",
        "m5",
        "1h30",
        "inf",
        "nan",
        "infs",
        "1e999",
        float("inf"),
        float("nan"),
        -1,
        True,
        None,
        b"5s",
        [5],
        10**30,
        f"{MAX_MS + 1}ms",
        "9" * 400 + "s",
    ],
)
def test_what_is_no_duration_is_refused_by_name(text: Any) -> None:
    with pytest.raises(InvalidError, match=r"^retry\.delay: "):
        duration_ms(text, "retry.delay")


@given(st.integers(0, MAX_MS))
@example(MAX_MS)
@example(604_800_000)
def test_a_duration_is_read_as_it_was_written(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


def test_durations_are_written_in_the_units_people_use() -> None:
    assert duration_text(9_000_000) == "2h30m"
    assert duration_text(0) == "0s"
    assert duration_text(1_500) == "1500ms"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128M", 128 << 20),
        ("1.5G", 3 << 29),
        ("1k", 1024),
        ("2T", 2 << 40),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("7", 7),
        ("7B", 7),
        (4096, 4096),
        (1.5, 2),
        (" 1M ", 1 << 20),
        (0, 0),
    ],
)
def test_sizes_as_people_write_them(text: Any, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "-1",
        "-1M",
        "1X",
        "1MM",
        "1 2",
        "nan",
        "inf",
        "infT",
        True,
        None,
        b"1M",
        [1],
        1 << 62,
        "4194304T",
        float("nan"),
        float("inf"),
        "9" * 5000,
    ],
)
def test_what_is_no_size_is_refused_by_name(text: Any) -> None:
    with pytest.raises(InvalidError, match=r"^resources\.memory: "):
        size_bytes(text, "resources.memory")


@given(st.integers(0, (1 << 62) - 1))
@example((1 << 53) + 1)  # one that a float does not hold
@example(((1 << 53) + 1) << 8)
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert size_bytes(size_text(size)) == size


def test_sizes_are_written_in_the_largest_unit_that_fits() -> None:
    assert size_text(512 << 20) == "512M"
    assert size_text(1536) == "1536"
    assert size_text(3 << 40) == "3T"
    assert size_text(0) == "0"

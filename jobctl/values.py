"""Reads what people type: durations, dates, run selectors, K=V. Wrong ones are UsageErrors.

The forms are INTERFACE's ("jobctl", the paragraph on selectors and durations). Durations and times
come out as integer milliseconds, times UTC. The daemon reads job files with a parser of its own.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from jobd.errors import UsageError

_UNITS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}

#: a century: what is longer is a slip of the finger, and the sum still fits every integer used
MAX_DURATION = 100 * 365 * _UNITS["d"]

#: a time that every zone can still write; nothing is queued before there was a clock
_LAST = 221_845_392_000_000

DURATION_FORMS = "500ms, 90s, 10m, 2h30m, 1d or 1w; a bare number is seconds"
DATE_FORMS = "10m, 2026-03-01T08:00, 08:00, today/tomorrow/yesterday 08:00"
SELECTOR_FORMS = "42, 40-45, 40,42, last or last:JOB"

_CONDITIONS = ("ok", "any", "fail")

_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


def duration(text: str) -> int:
    """Milliseconds of a duration such as `2h30m`. Raises UsageError naming the forms."""
    value = _duration_or_none(text)
    if value is None:
        raise UsageError(f"{text!r:.80} is not a duration: expected {DURATION_FORMS}")
    if value > MAX_DURATION:
        raise UsageError(f"{text!r:.80} is longer than 100 years")
    return value


def _duration_or_none(text: str) -> int | None:
    plain = _decimal(text)
    if plain is not None:
        return round(plain * 1000)
    total = 0.0
    index = 0
    last = 0
    while index < len(text):
        start = index
        while index < len(text) and (text[index] in "0123456789."):
            index += 1
        number = _decimal(text[start:index])
        start = index
        while index < len(text) and "a" <= text[index] <= "z":
            index += 1
        unit = _UNITS.get(text[start:index])
        # from large to small, each once: `30m2h` and `1h1h` are slips rather than meant
        if number is None or unit is None or (last and unit >= last):
            return None
        last = unit
        total += number * unit
    return round(total) if last else None


def _decimal(text: str) -> float | None:
    """A plain decimal number; what float() takes beyond that (inf, 1e9, 1_000) is refused."""
    if not text or len(text) > 20 or text.strip("0123456789.") or text.count(".") > 1:
        return None
    return None if text == "." else float(text)


def when(text: str, now: int, *, back: bool = False) -> tuple[int, bool]:
    """`(milliseconds UTC, whether a date was given)` of a point in time, in the client's zone.

    A duration counts from `now`, ahead, or back where `back` is set (`--since`). A time of day
    alone is the next one, or with `back` the last one.
    """
    span = _duration_or_none(text.strip())
    if span is not None:
        if span > MAX_DURATION:
            raise UsageError(f"{text!r:.80} is longer than 100 years")
        return (now - span if back else now + span), False
    moment = _moment(text.strip(), now, back=back)
    if moment is None:
        raise UsageError(f"{text!r:.80} is not a time: expected {DATE_FORMS}")
    try:
        at = round(moment.timestamp() * 1000)
    except (OverflowError, ValueError, OSError):
        at = -1
    if not 0 <= at <= _LAST:
        raise UsageError(f"{text!r:.80} lies before 1970 or after 9000")
    return at, True


def _moment(text: str, now: int, *, back: bool) -> datetime | None:
    here = datetime.fromtimestamp(now / 1000)  # naive: the client's own zone is meant
    word, _, rest = text.partition(" ")
    if word.lower() == "now" and not rest:
        return here
    days = _DAYS.get(word.lower())
    if days is not None:
        at = _time_of_day(rest.strip() or "00:00", here)
        return None if at is None else at + timedelta(days=days)
    at = _time_of_day(text, here)
    if at is not None:
        if back and at > here:
            return at - timedelta(days=1)
        return at if back or at >= here else at + timedelta(days=1)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _time_of_day(text: str, day: datetime) -> datetime | None:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(len(p) in (1, 2) and _digits(p) for p in parts):
        return None
    hour, minute, second = (*map(int, parts), 0)[:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    return day.replace(hour=hour, minute=minute, second=second, microsecond=0)


def _digits(text: str) -> bool:
    # str.isdigit alone takes other scripts' digits, and superscripts that int() refuses
    return text.isascii() and text.isdigit()


def selector(text: str) -> str:
    """`text` where it names runs (INTERFACE, "Run selectors"); else UsageError, with a hint."""
    if is_selector(text):
        return text
    hint = f"; the last run of that job is last:{text}" if is_job_name(text) else ""
    raise UsageError(f"{text!r:.80} is not a run: expected {SELECTOR_FORMS}{hint}")


def is_selector(text: str) -> bool:
    """Whether `text` names runs."""
    if text == "last":
        return True
    if text.startswith("last:"):
        return is_job_name(text[5:])
    return all(_is_range(piece) for piece in text.split(","))


def split_after(text: str) -> tuple[str, str]:
    """Selector and condition of `RUN[:ok|any|fail]`; `ok` where none is said."""
    run, colon, word = text.rpartition(":")
    if colon and word in _CONDITIONS and is_selector(run):
        return run, word
    if not is_selector(text):
        raise UsageError(
            f"{text!r:.80}: expected RUN, RUN:ok, RUN:any or RUN:fail, with RUN {SELECTOR_FORMS}"
        )
    return text, "ok"


def after(text: str) -> str:
    """`text` where it names runs to wait for, and how they are to end."""
    split_after(text)
    return text


def is_single(text: str) -> bool:
    """Whether the selector names one run, so that its JSON is an object and not an array."""
    return text.startswith("last") or (_digits(text) and text != "")


def _is_range(text: str) -> bool:
    low, dash, high = text.partition("-")
    if not _digits(low) or len(low) > 18:
        return False
    return not dash or (_digits(high) and len(high) <= 18 and int(low) <= int(high))


def is_job_name(text: str) -> bool:
    """Whether `text` has the form of a job's name (INTERFACE, "Job names")."""
    if not text or len(text) > 63 or text in ("last", "all") or not text.isascii():
        return False
    return text[0].isalpha() and all(c.isalnum() or c in "._-" for c in text)


def pairs(items: list[str] | None, option: str) -> dict[str, str]:
    """The map that repeated `K=V` arguments make; a later one wins."""
    made: dict[str, str] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {item!r:.80}: expected NAME=VALUE")
        made[name] = value
    return made


def words(text: str | None) -> list[str] | None:
    """The words of a comma-separated list, or None where none was given."""
    if text is None:
        return None
    return [word.strip() for word in text.split(",") if word.strip()]


def whole(text: str) -> int:
    """A whole number, 18 digits at most."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not _digits(digits) or len(digits) > 18:
        raise UsageError(f"{text!r:.80} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    value = whole(text)
    if value < 1:
        raise UsageError(f"{text!r:.80}: expected a whole number above 0")
    return value


def number(text: str) -> int | float:
    """A plain decimal number; an int where it is whole."""
    value = _decimal(text)
    if value is None:
        raise UsageError(f"{text!r:.80} is not a number")
    return int(value) if value.is_integer() and "." not in text else value


def payload_bytes(text: str) -> bytes:
    """The bytes that were typed, also where they were no valid UTF-8."""
    return os.fsencode(text)


def clock(at: int) -> str:
    """A time as the client's zone writes it, with its offset: what a date was taken for."""
    moment = datetime.fromtimestamp(at / 1000).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z")

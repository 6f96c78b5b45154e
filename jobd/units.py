"""Durations and sizes as people write them, to numbers and back. A leaf, light to import.

Durations: `500ms 90s 10m 2h30m 1d 1w`; a bare number is seconds. Sizes: `128M`, `1.5G`, powers of
1024; a bare number is bytes (INTERFACE, "jobctl").
"""

from __future__ import annotations

from jobd.errors import InvalidError

_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

#: no duration or time ahead is longer: more would overflow what others compute with it
MAX_MS = 100 * 366 * 86_400_000


def duration_ms(value: object, what: str = "duration") -> int:
    """Milliseconds in `value` (text or a number of seconds). Raises InvalidError naming `what`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidError(f"{what}: {value!r:.60} is not a duration such as 90s or 2h30m")
    try:
        ms = _duration_text(value) if isinstance(value, str) else round(value * 1000)
    except (ValueError, OverflowError):
        raise InvalidError(
            f"{what}: {value!r:.60} is not a duration such as 90s or 2h30m"
        ) from None
    if not 0 <= ms <= MAX_MS:
        raise InvalidError(f"{what}: {value!r:.60} is not between 0 and 100 years")
    return ms


def _duration_text(text: str) -> int:
    text = text.strip()
    if text and (text[-1].isdigit() or text[-1] == "."):
        return round(float(text) * 1000)
    total, number, unit = 0.0, "", ""
    if not text:
        raise ValueError(text)
    for char in text + "0":
        if char.isdigit() or char == ".":
            if unit:
                total += float(number) * _MS[unit] if unit in _MS else float("nan")
                number, unit = "", ""
            number += char
        else:
            unit += char
    return round(total)


def duration_text(ms: int) -> str:
    """The shortest text that :func:`duration_ms` reads as `ms`, such as `2h30m`."""
    if ms % 1000:
        return f"{ms}ms"
    if ms == 0:
        return "0s"
    text = ""
    for unit in ("w", "d", "h", "m", "s"):
        count, ms = divmod(ms, _MS[unit])
        if count:
            text += f"{count}{unit}"
    return text


def size_bytes(value: object, what: str = "size") -> int:
    """Bytes in `value` (text or a number of bytes). Raises InvalidError naming `what`."""
    wrong = f"{what}: {value!r:.60} is not a size such as 128M or 1.5G"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidError(wrong)
    try:
        if isinstance(value, str):
            text = value.strip().upper().removesuffix("B").removesuffix("I")
            unit = text[-1:] if text[-1:].isalpha() else ""
            number = text[: len(text) - len(unit)]
            # whole numbers stay whole: a float holds 53 bits
            size = round((int(number) if number.isdecimal() else float(number)) * _BYTES[unit])
        else:
            size = round(value)
    except (ValueError, OverflowError, KeyError):
        raise InvalidError(wrong) from None
    if not 0 <= size < 1 << 62:
        raise InvalidError(wrong)
    return size


def size_text(size: int) -> str:
    """The shortest text that :func:`size_bytes` reads as `size`, such as `512M`."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)

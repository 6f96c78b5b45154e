"""Makes text of values: tables, ages, sizes, and nothing that could drive a terminal.

Pure: no stream is written here. Everything that came from elsewhere (names, labels, reasons,
errors) is escaped before it is laid out (DURABILITY, "Terminal injection"; CVE-2021-25743).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]
#: a column: heading, what stands in it, whether it may be shortened to fit the terminal
Column = tuple[str, Callable[[Row], str], bool]

#: naive on purpose: UTC, and rendered with a Z
_EPOCH = datetime(1970, 1, 1)

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_NAMED = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}

#: C0, DEL, C1, bidi controls, line separators and lone surrogates become visible escapes
_ESCAPES: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (*_BIDI, 0x2028, 0x2029)},
    **_NAMED,
}
_KEEP_TABS = {code: text for code, text in _ESCAPES.items() if code != 0x09}


def escape(text: str, *, tabs: bool = False) -> str:
    """`text` without a character that a terminal obeys; `tabs` lets tabs be."""
    if text.isascii() and text.isprintable():
        return text
    table = _KEEP_TABS if tabs else _ESCAPES
    return text.translate(table).encode("utf-8", "backslashreplace").decode("utf-8")


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )


def shorten(text: str, room: int) -> str:
    """`text` in at most `room` columns, its end replaced by `…` where it does not fit."""
    if width(text) <= room:
        return text
    while text and width(text) > max(room - 1, 0):
        text = text[:-1]
    return text + "…" if room > 0 else ""


def table(
    rows: Sequence[Row],
    columns: Sequence[Column],
    room: int | None,
    paint: Callable[[str, str], str] = lambda heading, text: text,
) -> list[str]:
    """The lines of a table; `room` is the terminal's width, None where there is none.

    A column that no row uses is left out. Columns that may be shortened give way, the last ones
    first, and never below 8; where that is not enough, columns are left out from the right, but for
    the last (why something is so). Piped output is never cut, so that scripts see all.
    """
    cells = [[escape(show(row)) for _, show, _ in columns] for row in rows]
    used = [n for n in range(len(columns)) if any(line[n] for line in cells)]
    widths = {n: max(width(columns[n][0]), *(width(line[n]) for line in cells)) for n in used}
    if room is not None:
        used = _fitting(widths, columns, room)
    lines = [_line([columns[n][0] for n in used], [widths[n] for n in used], None)]
    for line in cells:
        texts = [shorten(line[n], widths[n]) for n in used]
        painter = [columns[n][0] for n in used]
        lines.append(_line(texts, [widths[n] for n in used], (painter, paint)))
    return lines


def _fitting(widths: dict[int, int], columns: Sequence[Column], room: int) -> list[int]:
    """The columns that are shown, those that may be shortened as narrow as it takes."""
    used = list(widths)
    while len(used) > 3 and _least(widths, columns) > room:
        del widths[used.pop(-2)]
    _squeeze(widths, [n for n in used if columns[n][2]], room)
    return used


def _least(widths: dict[int, int], columns: Sequence[Column]) -> int:
    """The width of the table with every column as narrow as it may be."""
    least = [min(wide, 8) if columns[n][2] else wide for n, wide in widths.items()]
    return sum(least) + 2 * (len(least) - 1)


def _squeeze(widths: dict[int, int], flexible: list[int], room: int) -> None:
    over = sum(widths.values()) + 2 * (len(widths) - 1) - room
    for index in reversed(flexible):
        if over <= 0:
            return
        give = min(over, max(widths[index] - 8, 0))
        widths[index] -= give
        over -= give


def _line(
    texts: list[str],
    widths: list[int],
    painting: tuple[list[str], Callable[[str, str], str]] | None,
) -> str:
    made = []
    last = len(texts) - 1
    for index, text in enumerate(texts):
        gap = "" if index == last else " " * (widths[index] - width(text) + 2)
        shown = painting[1](painting[0][index], text) if painting else text
        made.append(shown + gap)
    return "".join(made).rstrip()


def span(ms: float) -> str:
    """A duration for people: two units at most (`2h30m`, `1.4s`, `3d4h`)."""
    if ms < 0:
        return "0s"
    if ms < 1000:
        return f"{ms:.0f}ms"
    if ms < 9950:
        return f"{ms / 1000:.1f}s"
    seconds = round(ms / 1000)
    for size, unit, small, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // small
            # beyond ten of the large unit, the small one is noise
            tail = f"{rest}{small_unit}" if rest and seconds < 10 * size else ""
            return f"{seconds // size}{unit}{tail}"
    return f"{seconds}s"


def age(at: int | None, now: int) -> str:
    """How long ago `at` was, in the largest unit; `in 3m` where it lies ahead; "" for None."""
    if at is None:
        return ""
    return f"in {span(at - now)}" if at > now + 500 else _coarse(now - at)


def _coarse(ms: int) -> str:
    seconds = max(ms, 0) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size or (size == 60 and seconds >= size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def size(count: float) -> str:
    """A size for people, in powers of 1024, with the letters that INTERFACE's sizes have."""
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            return f"{count:.0f}{unit}" if unit == "B" or count >= 100 else f"{count:.3g}{unit}"
        count /= 1024
    raise AssertionError("not reached: G takes all")


def iso(at: int) -> str:
    """ISO 8601 UTC with milliseconds (INTERFACE, "JSON")."""
    try:
        moment = _EPOCH + timedelta(milliseconds=at)
    except OverflowError:
        return str(at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 1000:03d}Z"


def pairs(values: Row | None) -> str:
    """`a=1,b=2` of a map, in its order."""
    return ",".join(f"{key}={value}" for key, value in (values or {}).items())

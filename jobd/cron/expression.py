"""Cron expressions: read strictly, asked for the next match of a wall clock. The door to croniter.

The grammar is crontab(5)'s with names, steps and lists, and `L`, `#`, `W`, `H` as croniter has
them; a sixth field in front is seconds, as in Quartz and Go's cron. Where croniter is milder than
cron (`5-1`, `*/61`, the 31st of February, `R`, which is drawn anew at each start) it is refused
here (facts on croniter 7.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from croniter import CroniterBadDateError, CroniterError, croniter

from jobd.errors import InvalidError

#: expanded here, as croniter hashes them where it is given a seed
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day", "month", "weekday")
_LOWEST = (0, 0, 0, 1, 1, 0)
_HIGHEST = (59, 59, 23, 31, 12, 7)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_PART = re.compile(
    r"(?P<hash>h(?:\((?P<h1>\d+)-(?P<h2>\d+)\))?)(?:/(?P<hstep>\d+))?"
    r"|(?P<any>\*|\?)(?:/(?P<astep>\d+))?"
    r"|(?P<from>\w+)(?:-(?P<to>\w+))?(?:/(?P<step>\d+))?"
)
_DAY_ONLY = re.compile(r"l|(\d+)w")
_WEEKDAY_ONLY = re.compile(r"(\w+)#([1-5])|l(\w+)|(\w+)l")


@dataclass(frozen=True, slots=True)
class Expression:
    """A cron expression that was read. `text` is as it was written."""

    text: str
    #: what croniter is given, seconds in front where there are any
    fields: str
    #: what its `H` are drawn from: the same for the same schedule, for ever
    seed: str
    #: minute or hour begins with `*`: it goes by every hour that passes, not by times of the day,
    #: and a clock change neither doubles nor skips it (cronie's rule)
    runs_through: bool

    def after(self, wall: datetime) -> datetime | None:
        """The first match later than `wall`, both naive; None where there is none in 50 years."""
        walker = _walker(self.fields, self.seed)
        walker.set_current(wall, force=True)
        try:
            found: datetime = walker.get_next(datetime)
        except CroniterBadDateError:
            return None
        return found


def parse(text: str, seed: str = "") -> Expression:
    """Read an expression. `seed` is the schedule's own name, for `H`.

    Raises InvalidError, which names the field and what to write.
    """
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0].lower() not in _NICKNAMES:
            raise InvalidError(
                f"cron {text!r}: no such nickname; there are {', '.join(_NICKNAMES)}, "
                "@reboot and @start"
            )
        words = _NICKNAMES[words[0].lower()].split()
    if len(words) not in (5, 6):
        raise InvalidError(
            f"cron {text!r}: {len(words)} fields; write five (minute hour day month weekday), "
            "or six with seconds in front"
        )
    first = 6 - len(words)
    fields = [_field(text, number, word.lower()) for number, word in enumerate(words, start=first)]
    minute, hour = fields[1 - first], fields[2 - first]
    made = Expression(text, " ".join(fields), seed, minute.startswith("*") or hour.startswith("*"))
    try:
        never = made.after(datetime(2000, 1, 1)) is None
    except CroniterError as error:
        raise InvalidError(f"cron {text!r}: {error}") from None
    if never:
        raise InvalidError(f"cron {text!r}: no day of any year is like that; it would never fire")
    return made


def _field(text: str, number: int, word: str) -> str:
    """One field, checked, as croniter is to read it."""
    parts = [_part(text, number, part) for part in word.split(",")]
    return ",".join(parts)


def _part(text: str, number: int, part: str) -> str:
    name = _FIELDS[number]
    if name == "day" and (found := _DAY_ONLY.fullmatch(part)):
        if found[1]:
            _value(text, number, found[1])
        return part
    if name == "weekday" and (found := _WEEKDAY_ONLY.fullmatch(part)):
        if found[1]:
            return f"{_value(text, number, found[1])}#{found[2]}"
        # Quartz writes 5L for the month's last Friday, croniter L5
        return f"l{_value(text, number, found[3] or found[4])}"
    found = _PART.fullmatch(part)
    if found is None:
        raise InvalidError(f"cron {text!r}: {name}: cannot read {part!r}")
    step = found["hstep"] or found["astep"] or found["step"]
    low, high = _LOWEST[number], _HIGHEST[number]
    if step is not None and not 1 <= int(step) <= high - low + (name != "weekday"):
        raise InvalidError(
            f"cron {text!r}: {name}: a step of {step} is more than the field has: it would "
            f"match {low} alone"
        )
    if found["hash"]:
        return _hashed(text, number, part, found)
    if found["any"]:
        return "*" + (f"/{step}" if step else "")
    return _range(text, number, found, step)


def _hashed(text: str, number: int, part: str, found: re.Match[str]) -> str:
    if found["h1"] is not None:
        first, last = _value(text, number, found["h1"]), _value(text, number, found["h2"])
        if first > last:
            raise InvalidError(f"cron {text!r}: {_FIELDS[number]}: {first}-{last} runs backwards")
    return part


def _range(text: str, number: int, found: re.Match[str], step: str | None) -> str:
    name = _FIELDS[number]
    if found["from"] == "r":
        raise InvalidError(
            f"cron {text!r}: {name}: R would be drawn anew at each start; write H, which stays"
        )
    first = _value(text, number, found["from"])
    if found["to"] is None:
        # 5/15 is 5-59/15, as in Quartz
        return f"{first}-{_HIGHEST[number]}/{step}" if step else str(first)
    last = _value(text, number, found["to"])
    if name == "weekday" and last == 0:
        last = 7  # mon-sun
    if first > last:
        raise InvalidError(
            f"cron {text!r}: {name}: {found['from']}-{found['to']} runs backwards; write "
            f"{first}-{_HIGHEST[number] - (name == 'weekday')},{_LOWEST[number]}-{last}"
        )
    return f"{first}-{last}" + (f"/{step}" if step else "")


def _value(text: str, number: int, word: str) -> int:
    name = _FIELDS[number]
    if name == "month" and word in _MONTHS:
        return _MONTHS.index(word) + 1
    if name == "weekday" and word in _DAYS:
        return _DAYS.index(word)
    low, high = _LOWEST[number], _HIGHEST[number]
    if word == "lw":
        raise InvalidError(f"cron {text!r}: {name}: LW is not known; write L, or 30W")
    if not word.isdecimal() or not word.isascii() or not low <= int(word) <= high:
        raise InvalidError(f"cron {text!r}: {name}: {word!r} is not {low} to {high}")
    return int(word)


@lru_cache(maxsize=4096)
def _walker(fields: str, seed: str) -> croniter:
    # a day field that begins with `*` restricts, and does not widen, the other: crontab(5)
    return croniter(
        fields,
        datetime(2000, 1, 1),
        hash_id=seed if "h" in fields else None,
        second_at_beginning=True,
        implement_cron_bug=True,
    )

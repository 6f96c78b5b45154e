"""Zones: from an instant to its wall clock and back, and where the one jumps.

Instants are whole seconds UTC since 1970, wall times are naive datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jobd.errors import InvalidError

_EPOCH = datetime(1970, 1, 1)
#: no two changes of a zone are closer; a search goes in such steps
_STEP_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class Wall:
    """What a wall time is in a zone: `first` and `second` are its instants.

    They are the same where it comes once. In a gap, which no clock ever shows, both are the first
    instant after it.
    """

    first: int
    second: int
    gap: bool = False


def find(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises InvalidError."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise InvalidError(
            f"zone {name!r}: not known here; write a name such as Europe/Berlin or UTC "
            "(they are in /usr/share/zoneinfo)"
        ) from None


def wall(zone: ZoneInfo, instant: int) -> datetime:
    """What a clock in the zone shows at that instant."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0)


def offset(zone: ZoneInfo, instant: int) -> int:
    """By how many seconds the zone's clocks are ahead of UTC at that instant."""
    shift = datetime.fromtimestamp(instant, zone).utcoffset()
    assert shift is not None
    return shift // timedelta(seconds=1)


def seconds(time: datetime) -> int:
    """A naive UTC time as an instant."""
    return (time - _EPOCH) // timedelta(seconds=1)


def change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The first instant in (after, until] from which another offset holds; None without one."""
    low, held = after, offset(zone, after)
    while low < until:
        high = min(low + _STEP_S, until)
        if offset(zone, high) != held:
            while high - low > 1:
                middle = (low + high) // 2
                if offset(zone, middle) == held:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None


def locate(zone: ZoneInfo, time: datetime) -> Wall:
    """When the zone's clocks show `time` (naive)."""
    first, second = (_instant(zone, time, fold) for fold in (0, 1))
    if first == second:
        return Wall(first, first)
    if first < second:
        return Wall(first, second)
    # in a gap the offset before it gives the later instant (PEP 495)
    end = change(zone, second, first)
    assert end is not None
    return Wall(end, end, gap=True)


def _instant(zone: ZoneInfo, time: datetime, fold: int) -> int:
    return seconds(time.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None))

"""One schedule as its owner wrote it: an untrusted mapping to a value, and back. Pure.

It stands in a job file (`[[schedule]]`) or comes by `jobctl schedule add`; the keys are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobd.core import specvalues as v
from jobd.cron import expression, zones
from jobd.cron.firing import At, Cron, Every, Firing, Timing
from jobd.errors import InvalidError
from jobd.units import duration_text

#: runs that a catch-up of `all` makes at once, at most, whatever was missed (DURABILITY, rule 4)
MOST_CAUGHT_UP = 100
#: bytes of a payload: it stands in each run's record, like any that is no file of its own
MOST_PAYLOAD = 4096
#: of one job: each is looked at when the job is shown
MOST = 100
#: nicknames that are no times: the host was started, jobd was started
BOOT, START = "@reboot", "@start"
OVERLAPS = ("skip", "queue", "replace", "allow")
CATCHUPS = ("none", "last", "all")

_NAME = v.text(63)
_KEYS: dict[str, v.Reader] = {
    "name": _NAME,
    "cron": v.text(256),
    "every": v.duration(1000),
    "at": v.text(64),
    "timezone": v.text(64),
    "anchor": v.text(64),
    "payload": v.any_text(MOST_PAYLOAD),
    "overlap": v.choice(*OVERLAPS),
    "catchup": v.choice(*CATCHUPS),
    "catchup_most": v.whole(1, MOST_CAUGHT_UP),
    "catchup_window": v.duration(1000),
    "jitter": v.duration(0),
    "start": v.text(64),
    "end": v.text(64),
    "times": v.whole(1, 1 << 31),
}


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule. Exactly one of `cron`, `every` (milliseconds) and `at` is there.

    Dates are milliseconds UTC. `timezone` is always filled in.
    """

    name: str
    timezone: str
    cron: str | None = None
    every: int | None = None
    at: int | None = None
    anchor: int | None = None
    payload: str = ""
    #: None: as the job says
    overlap: str | None = None
    catchup: str = "last"
    catchup_most: int = MOST_CAUGHT_UP
    catchup_window: int | None = None
    jitter: int = 0
    start: int | None = None
    end: int | None = None
    times: int | None = None

    @property
    def moment(self) -> str | None:
        """BOOT or START where it fires when something is started, and at no time."""
        return self.cron if self.cron in (BOOT, START) else None

    def timing(self, seed: str, since: int) -> Timing | None:
        """When it fires; None where it does at no time. `since` is when it was added (ms UTC),
        which is what an interval without an anchor counts from."""
        if self.moment:
            return None
        if self.at is not None:
            return At(self.at)
        if self.every is not None:
            anchor = self.anchor if self.anchor is not None else self.start
            if anchor is None:
                return Every(self.every, since + self.every)
            return Every(self.every, anchor)
        assert self.cron is not None
        return Cron(expression.parse(self.cron, seed), zones.find(self.timezone))


def parse(given: object, path: str, timezone: str) -> ScheduleSpec:
    """The schedule in `given`; `timezone` is taken where it names none.

    Raises InvalidError naming the key below `path`.
    """
    if not isinstance(given, Mapping):
        raise InvalidError(f"{path}: expected a table, got {v.kind(given)}")
    v.check_keys(given, _KEYS, path)
    read = {
        key: _KEYS[key](value, f"{path}.{key}") for key, value in given.items() if value is not None
    }
    said = [key for key in ("cron", "every", "at") if key in read]
    if len(said) != 1:
        raise InvalidError(f"{path}: expected one of cron, every and at, got {said or 'none'}")
    read["timezone"] = read.get("timezone", timezone)
    try:
        zone = zones.find(read["timezone"])
    except InvalidError as error:
        raise InvalidError(f"{path}.timezone: {error}") from None
    for key in ("at", "anchor", "start", "end"):
        if key in read:
            read[key] = _date(read[key], f"{path}.{key}", zone)
    if "anchor" in read and "every" not in read:
        raise InvalidError(f"{path}.anchor: only an interval (every) has one")
    if read.get("end", 1 << 62) <= read.get("start", 0):
        raise InvalidError(f"{path}.end: is not after start: it would never fire")
    name = read.pop("name", "") or said[0]
    if not name[0].isalnum() or not all((c.isalnum() and c.isascii()) or c in "._-" for c in name):
        raise InvalidError(f"{path}.name: {name!r}: expected letters, digits, '.', '_' and '-'")
    made = ScheduleSpec(name, **read)
    try:
        made.timing("", 0)
    except InvalidError as error:
        raise InvalidError(f"{path}.{said[0]}: {error}") from None
    return made


def to_mapping(spec: ScheduleSpec) -> dict[str, Any]:
    """As in a job file; what has its default is left out."""
    plain = ScheduleSpec("", "")
    out: dict[str, Any] = {"name": spec.name, "timezone": spec.timezone}
    for key in _KEYS:
        value = getattr(spec, key)
        if key in out or value == getattr(plain, key):
            continue
        if key in ("every", "catchup_window", "jitter"):
            value = duration_text(value)
        elif key in ("at", "anchor", "start", "end"):
            value = datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")
        out[key] = value
    return out


def with_zone(job: Mapping[str, Any], timezone: str) -> Mapping[str, Any]:
    """The job's definition with a zone in each schedule that names none: what it says stays so,
    wherever the host is moved."""
    given = job.get("schedule")
    if not isinstance(given, list | tuple):
        return job
    filled = [
        {**each, "timezone": timezone}
        if isinstance(each, Mapping) and each.get("timezone") is None
        else each
        for each in given
    ]
    return {**job, "schedule": filled}


def read_all(value: Any, path: str) -> tuple[ScheduleSpec, ...]:
    """The schedules of a job file; each has a name of its own."""
    if not isinstance(value, list | tuple):
        raise InvalidError(f"{path}: expected a list of tables, got {v.kind(value)}")
    if len(value) > MOST:
        raise InvalidError(f"{path}: {len(value)} schedules: at most {MOST} of one job")
    found: list[ScheduleSpec] = []
    for number, given in enumerate(value):
        one = parse(given, f"{path}[{number}]", "UTC")
        if any(one.name == other.name for other in found):
            raise InvalidError(f"{path}[{number}].name: {one.name!r} is there twice")
        found.append(one)
    return tuple(found)


def write_all(value: tuple[ScheduleSpec, ...]) -> list[dict[str, Any]]:
    """As in a job file."""
    return [to_mapping(each) for each in value]


def payload(spec: ScheduleSpec, firing: Firing) -> bytes:
    """What a run of it gets: `${SCHEDULED_AT}` (UTC) is put in, and `${DATE}` and `${TIME}` as the
    schedule's own zone shows them."""
    text = spec.payload
    if "${" in text:
        at = datetime.fromtimestamp(firing.at / 1000, UTC)
        for name, value in (
            ("SCHEDULED_AT", f"{at:%Y-%m-%dT%H:%M:%SZ}"),
            ("DATE", f"{firing.nominal:%Y-%m-%d}"),
            ("TIME", f"{firing.nominal:%H:%M:%S}"),
        ):
            text = text.replace("${" + name + "}", value)
    return text.encode()


def now(spec: ScheduleSpec, at: int) -> Firing:
    """A firing at this moment: by hand, or because something was started."""
    return Firing(at, zones.wall(zones.find(spec.timezone), at // 1000))


def _date(text: str, path: str, zone: Any) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidError(
            f"{path}: {text!r}: expected a date such as 2027-01-31T08:00, read in the schedule's "
            "zone, or 2027-01-31T08:00Z"
        ) from None
    if found.tzinfo is None:
        return zones.locate(zone, found).first * 1000
    return round(found.timestamp() * 1000)

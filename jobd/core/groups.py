"""Groups: limits that several jobs share (`[groups.NAME]` in jobd.toml, `limits.group` of a job).

What jobd.toml says of them is on record (`HostGroupsSet`), so that a replay counts as was counted.
A group that a job names and jobd.toml has no more lets nothing start: a limit that is lost must
not be none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jobd.core import specvalues as v
from jobd.core.rates import Bucket, Rate, rate_text, read_rate
from jobd.errors import InvalidError


class GroupLimits(NamedTuple):
    """What a group allows: runs at once, and starts in a time. None: no limit."""

    concurrency: int | None = None
    rate: Rate | None = None
    burst: int | None = None


_READERS: dict[str, v.Reader] = {
    "concurrency": v.whole(1, 1 << 20),
    "rate": read_rate,
    "burst": v.whole(1, 1 << 20),
}


def read_groups(given: Any) -> dict[str, GroupLimits]:
    """The groups in jobd.toml's table `groups`. Raises InvalidError naming the key."""
    if not isinstance(given, Mapping):
        raise InvalidError(f"groups: expected a table, got {v.kind(given)}")
    found = {}
    for name, table in given.items():
        v.text(63)(name, "groups")
        if not isinstance(table, Mapping):
            raise InvalidError(f"groups.{name}: expected a table, got {v.kind(table)}")
        for key in table:
            if key not in _READERS:
                raise InvalidError(
                    f"groups.{name}.{key}: unknown key; known are {', '.join(_READERS)}"
                )
        read = {
            key: reader(table[key], f"groups.{name}.{key}")
            for key, reader in _READERS.items()
            if key in table
        }
        if "burst" in read and "rate" not in read:
            raise InvalidError(f"groups.{name}.burst: goes with a rate")
        found[name] = GroupLimits(**read)
    return found


def groups_mapping(groups: Mapping[str, GroupLimits]) -> dict[str, dict[str, Any]]:
    """Groups in jobd.toml's form, which :func:`read_groups` reads."""
    made = {}
    for name, limits in groups.items():
        table: dict[str, Any] = {}
        if limits.concurrency is not None:
            table["concurrency"] = limits.concurrency
        if limits.rate is not None:
            table["rate"] = rate_text(limits.rate)
        if limits.burst is not None:
            table["burst"] = limits.burst
        made[name] = table
    return made


class Group:
    """One group: its limits, the runs that are active in it, its bucket."""

    __slots__ = ("active", "bucket", "limits")

    def __init__(self) -> None:
        #: None: jobd.toml does not name it
        self.limits: GroupLimits | None = None
        self.active: set[int] = set()
        self.bucket = Bucket()


class Groups:
    """All groups by name."""

    __slots__ = ("_of", "named")

    def __init__(self) -> None:
        self.named: dict[str, Group] = {}
        #: active run -> the group that it was claimed in: its job may have changed to another
        self._of: dict[int, str] = {}

    def limits(self) -> dict[str, GroupLimits]:
        """What jobd.toml says of each."""
        return {name: g.limits for name, g in self.named.items() if g.limits is not None}

    def set(self, limits: Mapping[str, GroupLimits]) -> None:
        """Take what jobd.toml says now; who is active stays so."""
        for group in self.named.values():
            group.limits = None
        for name, given in limits.items():
            self._group(name).limits = given
        gone = [n for n, g in self.named.items() if g.limits is None and not g.active]
        for name in gone:
            del self.named[name]

    def claimed(self, run: int, name: str, at: int) -> None:
        """A run of the group was claimed."""
        group = self._group(name)
        group.active.add(run)
        self._of[run] = name
        if group.limits is not None and group.limits.rate is not None:
            group.bucket.take(group.limits.rate, group.limits.burst, at)

    def ended(self, run: int) -> None:
        """An active run's attempt ended."""
        name = self._of.pop(run, None)
        if name is not None:
            self.named[name].active.discard(run)

    def restore(self, name: str, full_at: float, active: Iterable[int]) -> None:
        """Take in who is active in a group, and what is left of its rate."""
        group = self._group(name)
        group.bucket = Bucket(full_at)
        group.active.update(active)
        self._of.update(dict.fromkeys(group.active, name))

    def _group(self, name: str) -> Group:
        found = self.named.get(name)
        if found is None:
            found = self.named[name] = Group()
        return found

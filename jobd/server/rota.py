"""Whose turn it is: users one after the other, and of each its connections one after the other.

So who has a thousand connections waits for a thousand of its own, and everybody else for one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rota(Generic[T]):
    """What is next, each entry under the uid and the number of a connection."""

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users: OrderedDict[int, OrderedDict[int, T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._users)

    def put(self, uid: int, number: int, entry: T) -> None:
        """Have `entry` take its turn; it keeps its place where it waits already."""
        self._users.setdefault(uid, OrderedDict())[number] = entry

    def next(self) -> T | None:
        """The entry whose turn it is, which leaves the rota; None where nobody waits."""
        if not self._users:
            return None
        uid, entries = self._users.popitem(last=False)
        _, entry = entries.popitem(last=False)
        if entries:
            self._users[uid] = entries
        return entry

    def drop(self, uid: int, number: int) -> None:
        """Forget a connection's entry, where it has one."""
        entries = self._users.get(uid)
        if entries is not None and entries.pop(number, None) is not None and not entries:
            del self._users[uid]


class Lanes(Generic[T]):
    """What waits for its turn, any number for each connection, which come in their order."""

    __slots__ = ("_lanes", "_rota")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[T]] = {}
        self._rota: Rota[int] = Rota()

    def __bool__(self) -> bool:
        return bool(self._rota)

    def put(self, uid: int, number: int, entry: T) -> None:
        """Have `entry` come behind the others of its connection."""
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = deque()
            self._rota.put(uid, number, number)
        lane.append(entry)

    def next(self, uid_of: Callable[[T], int]) -> T | None:
        """The entry whose turn it is, which leaves its lane; None where nobody waits."""
        number = self._rota.next()
        if number is None:
            return None
        lane = self._lanes[number]
        entry = lane.popleft()
        if lane:
            self._rota.put(uid_of(entry), number, number)
        else:
            del self._lanes[number]
        return entry

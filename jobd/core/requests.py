"""Which runs a request made: so that asking again with the same key makes no more of them.

Keys are 16 random bytes. A dict of them costs 140 bytes a key and stalls while it grows; here they
lie in 65,536 parts, 24 bytes each and little beside: 15 of them in a part at a million, which are
looked through by a search for bytes. Adding and finding take as long as with a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

#: for how long a request may be asked again, in milliseconds (INTERFACE, "Keys")
KEEP_MS = 24 * 3_600_000
_NONE = range(0)
#: key; the first run's id, and in the lowest 16 bits how many they are
_ENTRY = Struct("<16sQ")
_SIZE, _KEY = _ENTRY.size, 16
_COUNT_BITS = 16
_COUNT = (1 << _COUNT_BITS) - 1
_PARTS = 1 << 16
#: parts that one call goes through at most, however empty they are
_LOOKED_AT = 4_096


class Requests:
    """Request key -> the ids of the runs that it queued, which follow each other."""

    __slots__ = ("_next", "_parts")

    def __init__(self) -> None:
        #: by the key's hash: whoever makes keys does not choose the part
        self._parts: list[bytes] = [b""] * _PARTS
        #: where the next look for what is out of date begins
        self._next = 0

    def add(self, key: bytes, run: int, batch_index: int) -> None:
        """Take note that the request's run number `batch_index` (from 0) is `run`."""
        parts, number = self._parts, hash(key) & 0xFFFF
        if batch_index or key in parts[number]:
            self.put(key, run - batch_index, batch_index + 1)
        else:
            parts[number] += key + (run << _COUNT_BITS | 1).to_bytes(8, "little")

    def put(self, key: bytes, first: int, count: int) -> None:
        """Take note that the request queued `count` runs (65,535 at most) from `first` on."""
        number = hash(key) & 0xFFFF
        part = self._parts[number]
        at = _find(part, key)
        entry = key + (first << _COUNT_BITS | count).to_bytes(8, "little")
        self._parts[number] = part + entry if at < 0 else part[:at] + entry + part[at + _SIZE :]

    def find(self, key: bytes) -> range:
        """The ids of the runs that the request queued; empty if it is not known."""
        part = self._parts[hash(key) & 0xFFFF]
        if key not in part:
            return _NONE
        at = _find(part, key)
        if at < 0:
            return _NONE
        return _runs(int.from_bytes(part[at + _KEY : at + _SIZE], "little"))

    def oldest_first(self) -> Iterator[tuple[bytes, range]]:
        """Every request and the runs that it queued."""
        entries = (entry for part in self._parts for entry in _ENTRY.iter_unpack(part))
        for key, value in sorted(entries, key=lambda entry: entry[1]):
            yield key, _runs(value)

    def expire(
        self, queued_at: Callable[[int], int | None], before: int, most: int | None = None
    ) -> None:
        """Forget requests whose first run was queued before `before`, or is itself forgotten.

        Looks at `most` of them (None: at all) and goes on there with the next call, so that it
        takes no longer the more there are. What was queued by a clock that was ahead is kept.
        """
        looked = 0
        # most parts of a small table are empty
        for _ in range(_PARTS if most is None else min(16 * most, _LOOKED_AT)):
            number, self._next = self._next, (self._next + 1) % _PARTS
            part = self._parts[number]
            if not part:
                continue
            kept = [
                entry
                for entry in _ENTRY.iter_unpack(part)
                if (at := queued_at(entry[1] >> _COUNT_BITS)) is not None and at >= before
            ]
            if len(kept) * _SIZE != len(part):
                self._parts[number] = b"".join(_ENTRY.pack(*entry) for entry in kept)
            looked += len(part) // _SIZE
            if most is not None and looked >= most:
                break


def _find(part: bytes, key: bytes) -> int:
    """Where the entry of the key begins, -1 where there is none."""
    at = part.find(key)
    while at > 0 and at % _SIZE:
        at = part.find(key, at + 1)  # by chance, across two entries
    return at


def _runs(value: int) -> range:
    first = value >> _COUNT_BITS
    return range(first, first + (value & _COUNT))

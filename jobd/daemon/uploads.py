"""What each user has uploaded and not used: bounded, as it lies on the queue's disk for a day."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from jobd.errors import RefusedError
from jobd.units import size_text

#: bytes of one user's uploads, where `maxima.uploads` says nothing
MOST = 2 << 30
#: what nobody has come for is removed after that long (journal/bodies.py), in seconds
_KEPT_S = 24 * 3600.0
#: uploads of one user that are counted one by one; beyond these no other is begun
_MOST_COUNTED = 10_000


class Uploads:
    """The account, in memory: a start of the daemon forgets it. Safe in any thread."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        #: bytes that one user may have uploaded and not used (`maxima.uploads`)
        self.most = most
        self._clock = clock
        self._lock = threading.Lock()
        #: by uid: name -> bytes, and when it was begun
        self._of: dict[int, OrderedDict[bytes, tuple[int, float]]] = {}
        #: their sum, by uid
        self._total: Counter[int] = Counter()

    def require(self, uid: int, name: bytes, end: int) -> None:
        """Count an upload as of `end` bytes. Raises RefusedError where its user has too much."""
        with self._lock:
            mine = self._of.setdefault(uid, OrderedDict())
            now = self._clock()
            while mine and now - next(iter(mine.values()))[1] > _KEPT_S:
                self._total[uid] -= mine.popitem(last=False)[1][0]
            size, begun = mine.get(name, (0, now))
            total = self._total[uid] + max(end - size, 0)
            if total > self.most or (name not in mine and len(mine) >= _MOST_COUNTED):
                raise RefusedError(
                    f"upload {name.hex()}: uid {uid} has {len(mine)} uploads that no run was "
                    f"queued with, and with this they are {size_text(total)}: at most "
                    f"{size_text(self.most)} (maxima.uploads) and {_MOST_COUNTED}; queue the runs, "
                    "or ask again when the uploads are a day old"
                )
            mine[name] = (max(size, end), begun)
            self._total[uid] = total

    def used(self, uid: int, name: bytes) -> None:
        """It is a run's by now, or a build's."""
        with self._lock:
            mine = self._of.get(uid)
            if mine is None or name not in mine:
                return
            self._total[uid] -= mine.pop(name)[0]
            if not mine:
                del self._of[uid], self._total[uid]

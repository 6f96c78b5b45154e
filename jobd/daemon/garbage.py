"""Collections of cyclic garbage that stay short, however many runs there are.

A collection over a million runs takes 230 to 420 ms, and finds nothing in them: what a run refers
to never refers back. So what has lived through a small collection is frozen, which is to say never
looked at again: it still goes when nobody refers to it. What a cycle among it would keep is looked
for where that is quick: in a daemon with few runs, at rest.
"""

from __future__ import annotations

import ctypes
import gc
import time

#: objects made until the youngest are looked at, and how often that is until all since the last
#: freeze are: 50,000 objects at most, 10 to 20 ms
_YOUNG, _TIMES, _ROUNDS = 5_000, 5, 2
_NEVER = 1 << 30
#: runs with which a collection over everything takes less than 20 ms, and seconds between two
_FEW, _SECONDS = 20_000, 600.0


class Garbage:
    """The core loop's own: nothing else may call it."""

    def __init__(self) -> None:
        give_back_memory()
        self._whole_at = time.monotonic()

    def loaded(self) -> None:
        """Take what is there by now for what stays."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG, _TIMES, _NEVER)
        self._whole_at = time.monotonic()

    def look(self) -> None:
        """After a batch: collect where enough was made since the last time."""
        if gc.get_count()[2] >= _ROUNDS:
            self._collect()

    def rest(self, runs: int) -> None:
        """Nothing is asked for now: collect what was made, and where `runs` are few, everything."""
        now = time.monotonic()
        if runs <= _FEW and now - self._whole_at >= _SECONDS:
            self._whole_at = now
            gc.unfreeze()
            self._collect()
        elif gc.get_count()[2]:
            self._collect()

    @staticmethod
    def _collect() -> None:
        gc.collect()
        gc.freeze()


def give_back_memory() -> None:
    """Have the C library return large buffers to the host when they are freed.

    Left to itself it raises its threshold with each, and a daemon that once held many megabytes of
    requests or payloads would keep them for ever (mallopt(3), M_MMAP_THRESHOLD).
    """
    try:
        ctypes.CDLL(None).mallopt(-3, 128 * 1024)
    except AttributeError:
        pass  # not glibc

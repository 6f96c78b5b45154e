"""Takes away what newer snapshots have replaced, so that the disk stays within bounds.

DURABILITY W9: never before the newer snapshot was read back from the disk and its name is durable.
Two snapshots are kept, and the segments behind the older one. A file goes in small steps: to
unlink one of 300 MB at once keeps every sync waiting for 44 to 81 ms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from itertools import pairwise

from jobd.journal.bodyreader import BodyReader
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.segment import first_lsn_of
from jobd.journal.snapshot import Snapshot, lsn_of, publish

#: how the names of files begin that hold nothing which is not elsewhere
UNFINISHED, REPLACED = "snap-", "gone-"
#: bytes that are given back at once
STEP = 8 << 20


def unfinished_name(lsn: int, maker: int) -> str:
    """The file name of a snapshot in the making, by the process `maker`."""
    return f"{UNFINISHED}{lsn:020d}-{maker}.tmp"


def replaced(names: list[str], keep_from: int) -> list[str]:
    """Of a directory's `names`, the files that only tell of batches up to lsn `keep_from`.

    That is the lsn of the oldest snapshot that is kept; 0: none goes.
    """
    segments = sorted(name for name in names if first_lsn_of(name) is not None)
    gone = [
        name for name, after in pairwise(segments) if (first_lsn_of(after) or 0) <= keep_from + 1
    ]
    return gone + [name for name in names if 0 <= (lsn_of(name) or keep_from) < keep_from]


def remove(fs: Fs, directory: str, names: list[str], rest: Callable[[], None]) -> None:
    """Removes the files, which nobody reads any more; `rest` is called between two steps.

    Their names go first, all of them durably, so that a crash leaves no segment that is cut.
    What is left of them then, the next start removes. Raises OSError.
    """
    aside = []
    for name in names:
        path = os.path.join(directory, f"{REPLACED}{name}.tmp")
        fs.rename(os.path.join(directory, name), path)
        aside.append(path)
    if aside:
        fs.fsync_dir(directory)
    for path in aside:
        fd = fs.open(path, os.O_RDWR)
        try:
            left = fs.size(fd)
            while left > STEP:
                left -= STEP
                fs.truncate(fd, left)
                rest()
        finally:
            fs.close(fd)
        fs.unlink(path)
        rest()
    if aside:
        fs.fsync_dir(directory)


class Snapshots:
    """The snapshots of an open queue. One owner: the thread that publishes and retires."""

    __slots__ = ("_directory", "_fs", "_older", "newest")

    def __init__(
        self, fs: Fs, directory: str, newest: Snapshot | None, older: tuple[str, ...]
    ) -> None:
        self._fs, self._directory = fs, directory
        #: the one that was verified last; read by any thread
        self.newest = newest
        #: lsns and bytes of those before it, newest first
        self._older = [(lsn_of(name) or 0, self._size(name)) for name in older]

    def _size(self, name: str) -> int:
        return self._fs.lstat(os.path.join(self._directory, name)).st_size

    def bytes(self) -> int:
        """Bytes of all of them."""
        newest = self.newest.bytes if self.newest is not None else 0
        return newest + sum(size for _, size in self._older)

    def publish(self, made: Snapshot, bad: Collection[int]) -> Snapshot:
        """Takes in a finished one, durably; those with an lsn in `bad` are damaged and no help.

        Raises OSError.
        """
        published = publish(self._fs, self._directory, made)
        if self.newest is not None:
            self._older.insert(0, (self.newest.lsn, self.newest.bytes))
        self._older = [each for each in self._older if each[0] not in bad]
        self.newest = published
        return published

    def retire(
        self,
        bodies: BodyReader,
        files: list[LiveSegment],
        keep_older: bool,
        rest: Callable[[], None],
    ) -> int:
        """See `Journal.retire`."""
        if self.newest is None:
            return 0
        keep = self.newest.lsn
        if keep_older:
            # the first one alone replaces nothing: the whole queue is the other way to know it
            keep = self._older[0][0] if self._older else 0
        firsts = [segment.header.first_lsn for segment in files]
        bodies.drop(sum(after <= keep + 1 for after in firsts[1:]))
        self._older = [each for each in self._older if each[0] >= keep]
        gone = replaced(self._fs.listdir(self._directory), keep)
        remove(self._fs, self._directory, gone, rest)
        return len(gone)

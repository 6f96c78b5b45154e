"""Makes room on disk before it is promised: segments, the spare one, the reserve.

The only place where a full disk is an ordinary answer (RefusedError). Once a blank segment is
made, its space is reserved, and a batch inside it cannot meet ENOSPC (DURABILITY W3, W4).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from threading import get_native_id

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal.fsutil import Fs, write_all
from jobd.journal.record import BATCH_BYTES
from jobd.journal.segment import Header, pack_header, segment_name

RESERVE_NAME = "reserve"
#: one step of filling ahead with zeroes: a sync of this much keeps others waiting for a few ms
FILL_STEP = 1 << 20
#: steps that are written where the file system reserves nothing: only they are certain room there,
#: and what is asked for (a large request, the ends of all that waits) has to fit into them
WRITTEN_STEPS = 24
#: zeroes kept ahead while the queue is busy, in steps of FILL_STEP; an idle one keeps one
_AHEAD_AT_MOST = 4
#: kept free at the end of each segment: the idle mark and the mark of a clean stop
MARKS_BYTES = 2 * BATCH_BYTES
_ZEROES = bytes(FILL_STEP)
#: the smallest segment that is tried on a nearly full disk
_LEAST = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: this process's own limits: as little a failed disk as a full one is
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def is_full(error: OSError) -> bool:
    """Whether the error says that there is no space: for us, by quota, or by a size limit."""
    return error.errno in _FULL


def is_scarce(error: OSError) -> bool:
    """Whether this process's limits were met: open files, memory."""
    return error.errno in _SCARCE


def wanted_ahead(ahead: int, whole: bool) -> int:
    """Bytes of zeroes to have ahead of a writer that has `ahead` of them.

    Half a step is enough for an idle one, a busy one gets up to four. Where the file system
    reserves nothing (not `whole`), all that has to be room.
    """
    if not whole:
        return 0 if ahead >= FILL_STEP * (WRITTEN_STEPS - 1) else FILL_STEP * WRITTEN_STEPS
    if ahead >= FILL_STEP // 2:
        return 0
    # nearly caught up since the last call: more zeroes, so that the next call is in time
    return FILL_STEP * (_AHEAD_AT_MOST if ahead < FILL_STEP // 4 else 1)


@dataclass(slots=True)
class Blank:
    """A segment without a header: an open file whose space is reserved.

    The first `filled` bytes are zeroes on disk; `reserved` bytes cannot meet ENOSPC.
    """

    fd: int
    path: str
    capacity: int
    reserved: int
    filled: int


class SpaceMaker:
    """Makes and publishes segments in one directory. Not thread-safe but for `make_blank`."""

    __slots__ = ("_count", "_fs", "directory", "reserve_bytes")

    def __init__(self, fs: Fs, directory: str, reserve_bytes: int) -> None:
        self._fs = fs
        self.directory = directory
        self.reserve_bytes = reserve_bytes
        self._count = 0

    def make_blank(self, capacity: int) -> Blank:
        """A blank segment with `capacity` bytes reserved, its first step of zeroes on disk.

        Where the file system cannot reserve, so many steps of zeroes as have to be room. Raises
        RefusedError where there is no space, DiskFailedError for any other failure. Nothing is
        left behind then. Safe beside itself in two threads.
        """
        fs = self._fs
        self._count += 1
        # the thread's id in the name: the writer may need one while a spare is being made
        path = os.path.join(self.directory, f"spare-{self._count}-{get_native_id()}.tmp")
        fd = -1
        try:
            fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            whole = fs.fallocate(fd, capacity)
            filled = min(FILL_STEP * (1 if whole else WRITTEN_STEPS), capacity)
            for start in range(0, filled, FILL_STEP):
                write_all(fs, fd, memoryview(_ZEROES)[: min(FILL_STEP, filled - start)], start)
            fs.fsync(fd)
        except OSError as error:
            self._discard(fd, path)
            raise self._meaning(error, "no segment can be made") from error
        return Blank(fd, path, capacity, capacity if whole else filled, filled)

    def make_at_any_size(self, capacity: int, least: int) -> Blank:
        """Like `make_blank`; on a full disk tries ever smaller sizes, then with the reserve freed.

        A smaller segment comes first: without the reserve nothing is left for the next time.

        `least` is what the batch that waits needs, in bytes of a whole segment.
        """
        try:
            return self.make_smaller(capacity, least)
        except RefusedError:
            if not self.free_reserve():
                raise
        return self.make_smaller(capacity, least)

    def make_smaller(self, capacity: int, least: int = 0) -> Blank:
        """Like `make_blank`; half as large, and so on, where the disk has no space for more.

        On a small disk 64 MiB never fit: the queue took nothing more until it was started anew.
        """
        least = max(least, min(_LEAST, capacity))
        size = max(capacity, least)
        while True:
            try:
                return self.make_blank(size)
            except RefusedError:
                if size == least:
                    raise
                size = max(size // 2, least)

    def publish(self, blank: Blank, header: Header) -> tuple[str, int]:
        """Turns a blank into the segment that `header` describes: its path and its header's CRC.

        Durable, directory entry and all, when this returns (DURABILITY, layout). Raises
        RefusedError where the directory itself cannot grow, DiskFailedError otherwise; the blank
        is used up in each case.
        """
        fs = self._fs
        packed, crc = pack_header(header)
        path = os.path.join(self.directory, segment_name(header.first_lsn))
        try:
            write_all(fs, blank.fd, packed, 0)
        except OSError as error:
            self._discard(blank.fd, blank.path)
            raise self._meaning(error, "no segment can be begun") from error
        try:
            fs.fsync(blank.fd)
        except OSError as error:
            self._discard(blank.fd, blank.path)
            raise self._failed(error, "a new segment's header cannot be synced") from error
        try:
            self._rename(blank.path, path)
        except OSError as error:
            self._discard(blank.fd, blank.path)
            raise self._meaning(error, "no segment can be named") from error
        try:
            fs.fsync_dir(self.directory)
        except OSError as error:
            fs.close(blank.fd)
            raise self._failed(error, "its directory cannot be synced") from error
        blank.path = path
        return path, crc

    def _rename(self, source: str, target: str) -> None:
        """Renames; once more with the reserve freed where the directory cannot grow."""
        try:
            self._fs.rename(source, target)
        except OSError as error:
            if not is_full(error) or not self.free_reserve():
                raise
            self._fs.rename(source, target)

    def discard(self, blank: Blank) -> None:
        """Closes and removes a blank that was never used; errors do not matter."""
        self._discard(blank.fd, blank.path)

    def make_reserve(self) -> bool:
        """Sees that the reserve file stands; False where space or means are missing.

        Raises DiskFailedError where the disk fails.
        """
        fs = self._fs
        path = os.path.join(self.directory, RESERVE_NAME)
        if not self.reserve_bytes or self._has_reserve():
            return bool(self.reserve_bytes)
        fd = -1
        try:
            fd = fs.open(path, os.O_RDWR | os.O_CREAT)
            if not fs.fallocate(fd, self.reserve_bytes):
                # zeroes written by hand would hold space too, but 16 MiB of writing at each start
                self._discard(fd, path)
                return False
            # a mark that it is whole: the file's length, one byte written at its end
            write_all(fs, fd, b"\0", self.reserve_bytes - 1)
            fs.fsync(fd)
        except OSError as error:
            self._discard(fd, path)
            if is_full(error) or is_scarce(error):
                return False
            raise self._failed(error, "the reserve cannot be made") from error
        fs.close(fd)
        return True

    def _has_reserve(self) -> bool:
        try:
            found = self._fs.lstat(os.path.join(self.directory, RESERVE_NAME))
        except FileNotFoundError:
            return False
        return found.st_size >= self.reserve_bytes

    def free_reserve(self) -> bool:
        """Gives the reserve's space back to the file system; False where there is none."""
        try:
            self._fs.unlink(os.path.join(self.directory, RESERVE_NAME))
            self._fs.fsync_dir(self.directory)
        except OSError:
            return False
        return True

    def _discard(self, fd: int, path: str) -> None:
        # fd is -1 where the file was never made; what cannot be removed, recovery clears away
        with suppress(OSError):
            self._fs.unlink(path)
        with suppress(OSError):
            self._fs.close(fd)

    def _meaning(self, error: OSError, what: str) -> RefusedError | DiskFailedError:
        if is_full(error) or is_scarce(error):
            return RefusedError(
                f"queue {self.directory}: {what} ({error.strerror}); free some space and try again"
            )
        return self._failed(error, what)

    def _failed(self, error: OSError, what: str) -> DiskFailedError:
        return DiskFailedError(
            f"queue {self.directory}: {what} ({error.strerror}); look at the disk, start again"
        )

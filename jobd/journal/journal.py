"""The queue on disk: opened once, read through once, then appended to in synced batches.

Bytes in, bytes out: what a record means is the caller's. The rules are DURABILITY's W1 to W8 and
R1 to R12; the bytes are FORMAT.md's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from time import time

from jobd.errors import ConfigError, DiskFailedError, JobdError, RefusedError
from jobd.journal.bodyreader import BodyReader
from jobd.journal.examine import Examined, examine
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.lock import DirectoryLock, prepare_directory
from jobd.journal.record import Record, RecordFields
from jobd.journal.recovery import Report, mend
from jobd.journal.replay import records_of
from jobd.journal.scan import Batch, Mark, batches_after, last_before
from jobd.journal.space import FILL_STEP, SpaceMaker, is_full, is_scarce
from jobd.journal.writer import Writer

SEGMENT_BYTES = 64 << 20
RESERVE_BYTES = 16 << 20
#: zeroes kept ahead while the queue is busy, in steps of FILL_STEP; an idle one keeps one
_AHEAD_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the open queue.

    `bytes` of data in `segments` files, `last_sync_ms` of the last batch, the `lsn` of the last
    batch, and how many batches were synced since opening.
    """

    bytes: int
    segments: int
    last_sync_ms: float
    lsn: int
    syncs: int


def _now_ms() -> int:
    return int(time() * 1000)


def _silent(line: str) -> None:
    """Where nobody listens."""


class Journal:
    """One queue's directory, locked and open. Made by `Journal.open`.

    `write`, `idle`, `room`, `close` belong to one thread; `read` may be called by any, `spare`
    by one background thread beside them. After DiskFailedError every later call raises it again
    (`stats` and `close` do not): the process must end, and the next start tells what is on disk
    (DURABILITY W6).
    """

    __slots__ = (
        "_background", "_bodies", "_closed", "_fs", "_known", "_lock", "_log", "_space",
        "_told_full", "_writer", "report", "store",
    )  # fmt: skip

    def __init__(
        self,
        fs: Fs,
        lock: DirectoryLock,
        space: SpaceMaker,
        writer: Writer,
        report: Report,
        known_types: Collection[int] | None,
        log: Callable[[str], None],
    ) -> None:
        """Not for callers: `Journal.open` is."""
        self._fs, self._lock, self._space, self._writer, self._log = fs, lock, space, writer, log
        self._known = None if known_types is None else frozenset(known_types)
        self._bodies = BodyReader(fs, writer.files)
        self._background = Lock()
        self._closed = self._told_full = False
        #: what opening found and mended
        self.report = report
        #: the queue's identity: 16 random bytes, the same for as long as the queue exists
        self.store = writer.store

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        fs: Fs | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        clock_ms: Callable[[], int] = _now_ms,
        log: Callable[[str], None] = _silent,
        known_types: Collection[int] | None = None,
    ) -> Journal:
        """The queue in `directory`, locked, verified whole, mended where a crash tore its end.

        Made where there is none. Always goes on in a new segment (DURABILITY R10). Sizes are in
        bytes; `known_types` are those that `replay` may yield (None: all). Raises
        AlreadyRunningError, ConfigError (not safely ours), QueueDamagedError (nothing was
        changed), VersionError, RefusedError (no space to go on in), DiskFailedError.
        """
        fs = fs or Fs()
        path = os.path.abspath(os.fspath(directory))
        lock = None
        try:
            prepare_directory(fs, path)
            lock = DirectoryLock(fs, path)
            found = examine(fs, path)
            space = SpaceMaker(fs, path, reserve_bytes)
            report = mend(fs, path, found, space.free_reserve)
            for line in report.lines:
                log(line)
            # before the segment, which frees it again where the disk is too full for both
            space.make_reserve()
            writer = _continue(fs, space, found, segment_bytes, clock_ms, log)
            return cls(fs, lock, space, writer, report, known_types, log)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, OSError):
                raise _not_opened(path, error) from error
            raise

    def replay(self) -> Iterator[Record]:
        """Every record, oldest first, in bounded memory.

        Raises QueueDamagedError where a checksum no longer fits, VersionError for a type that is
        not known and may not be skipped (DURABILITY R12).
        """
        self._check()
        for segment in list(self._writer.files):
            yield from records_of(self._fs, segment, self._known)

    def room(self) -> int:
        """Bytes that are certain to fit: `record_cost` of each record, BATCH_COST of each batch.

        Certain: the space is reserved on disk, in this segment and the spare one, for batches of
        up to 1 MiB (an eighth of a segment where that is less). A larger one may leave the rest
        of a segment unused, so it is certain only where it is no longer than half of this.
        """
        self._check()
        return self._writer.room()

    def write(self, records: Sequence[RecordFields]) -> list[int]:
        """Makes `records` durable as one batch, all or none; returns `where` of each.

        One write, one fdatasync; in the next segment where the batch does not fit this one.
        Raises RefusedError when there is no room (nothing was written, the queue goes on),
        ValueError for a batch over 65,535 records or 16 MiB, DiskFailedError (DURABILITY W6).
        """
        return self._writer.write(records)

    def read(self, where: int) -> bytes:
        """The body of the record at `where`, verified. Safe in any thread.

        Raises QueueDamagedError naming file and offset, ValueError for a `where` never given.
        """
        self._check()
        return self._bodies.read(where)

    def batches_after(self, after: int, mark: Mark | None = None) -> Iterator[Batch]:
        """The durable batches with an lsn above `after`, oldest first. Safe in any thread.

        `mark` is one that an earlier call's batches had. Raises QueueDamagedError.
        """
        self._check()
        return batches_after(self._fs, list(self._writer.files), after, mark)

    def last_before(self, at: int) -> int:
        """The lsn of a batch behind which lies all that was written from `at` (ms UTC) on."""
        return last_before(list(self._writer.files), at)

    @property
    def lsn(self) -> int:
        """That of the last batch."""
        return self._writer.lsn

    def idle(self) -> bool:
        """Writes the idle mark if the last batch is a real one; whether it did (DURABILITY W8).

        To be called when no batch was written for 1 s: it makes damage to the last batch
        something else than a tear.
        """
        return self._writer.mark_idle()

    def spare(self) -> None:
        """Keeps space ready ahead of the writer: zeroes, the next segment, the reserve.

        For a background thread, some times a second. A full disk is logged once and otherwise
        silent: `room` stays small. Raises DiskFailedError.
        """
        with self._background:
            if self._closed:
                return
            self._check()
            try:
                self._fill_ahead()
                if self._writer.spare is None:
                    self._writer.spare = self._space.make_blank(self._writer.segment_bytes)
                self._space.make_reserve()
                self._told_full = False
            except RefusedError as error:
                self._tell_full(str(error))
            except DiskFailedError as error:
                self._writer.failed = error
                raise

    def _fill_ahead(self) -> None:
        """Keeps half a step of zeroes ahead of an idle writer, up to four of a busy one."""
        now = self._writer.current
        ahead = now.filled - now.end
        if ahead >= FILL_STEP // 2:
            return
        # nearly caught up since the last call: more zeroes, so that the next call is in time
        target = FILL_STEP * (_AHEAD_AT_MOST if ahead < FILL_STEP // 4 else 1)
        try:
            while now.filled - now.end < target and now.fill(self._fs):
                pass
        except OSError as error:
            if not is_full(error):
                raise DiskFailedError(
                    f"queue file {now.path}: cannot be filled ahead ({error.strerror});"
                    " look at the disk, then start the daemon again",
                    file=now.path,
                ) from error
            self._tell_full(f"queue file {now.path}: cannot be filled ahead ({error.strerror})")

    def _tell_full(self, line: str) -> None:
        if not self._told_full:
            self._told_full = True
            self._log(line)

    def stats(self) -> Stats:
        """The figures of now; also after a failure."""
        writer = self._writer
        return Stats(
            bytes=sum(segment.end for segment in writer.files),
            segments=len(writer.files),
            last_sync_ms=writer.last_sync * 1000,
            lsn=writer.lsn,
            syncs=writer.syncs,
        )

    def close(self, clean: bool = True) -> None:
        """Ends the queue's use; `clean` writes the mark that no tear can be behind.

        Waits for `spare` and for readers. May be called twice. Raises DiskFailedError where the
        mark cannot be made durable, with everything closed all the same.
        """
        with self._background:
            if self._closed:
                return
            self._closed = True
            writer = self._writer
            try:
                if clean and writer.failed is None:
                    writer.mark_clean()
                    with suppress(OSError):
                        # else the next start cuts the zeroes that were filled ahead
                        self._fs.truncate(writer.current.fd, writer.current.end)
            finally:
                if writer.spare is not None:
                    self._space.discard(writer.spare)
                    writer.spare = None
                self._bodies.close()
                self._fs.close(writer.current.fd)
                # the descriptor's number may be another file's from now on
                writer.failed = writer.failed or ValueError(
                    f"queue {self._space.directory}: is closed"
                )
                self._lock.release()

    def _check(self) -> None:
        if self._writer.failed is not None:
            raise self._writer.failed


def _not_opened(path: str, error: OSError) -> JobdError:
    """What an error of the directory itself means; those of its files are told by their readers."""
    if is_full(error) or is_scarce(error):
        return RefusedError(
            f"queue {path}: cannot be opened now ({error.strerror}); make room and start again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS):
        return ConfigError(
            f"queue {path}: cannot be opened ({error.strerror}: {error.filename or path});"
            " check that its folder exists and is the daemon's own"
        )
    return DiskFailedError(
        f"queue {path}: cannot be opened ({error.strerror}); look at the disk", file=path
    )


def _continue(
    fs: Fs,
    space: SpaceMaker,
    found: Examined,
    segment_bytes: int,
    clock_ms: Callable[[], int],
    log: Callable[[str], None],
) -> Writer:
    """A writer in a new segment behind what was found."""
    files = [
        LiveSegment(number, os.path.join(space.directory, sound.name), sound.header, sound.end)
        for number, sound in enumerate(found.segments)
    ]
    if not found.segments:
        return Writer(fs, space, files, os.urandom(16), 0, 0, segment_bytes, clock_ms, log)
    last = found.segments[-1]
    return Writer(
        fs, space, files, last.header.store, last.last_lsn, last.last_crc,
        segment_bytes, clock_ms, log,
    )  # fmt: skip

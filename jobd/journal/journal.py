"""The queue on disk: opened once, read through once, then appended to in synced batches.

Bytes in, bytes out: what a record means is the caller's. The rules are DURABILITY's W1 to W8 and
R1 to R12; the bytes are FORMAT.md's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from time import time

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal.bodyreader import BodyReader
from jobd.journal.examine import examine
from jobd.journal.fsutil import Fs
from jobd.journal.lock import DirectoryLock, prepare_directory
from jobd.journal.lookup import Kept, SnapshotReader
from jobd.journal.opening import go_on, not_opened
from jobd.journal.record import Record, RecordFields
from jobd.journal.recovery import Report, mend
from jobd.journal.replay import records_of
from jobd.journal.retention import Snapshots
from jobd.journal.scan import Batch, Mark, batches_after, last_before
from jobd.journal.segment import Predecessor
from jobd.journal.snapshot import Snapshot, statements_in
from jobd.journal.space import FILL_STEP, SpaceMaker, is_full, is_scarce, wanted_ahead
from jobd.journal.stats import Stats as Stats
from jobd.journal.swap import finish
from jobd.journal.writer import Writer

SEGMENT_BYTES = 64 << 20
RESERVE_BYTES = 16 << 20


def _now_ms() -> int:
    return int(time() * 1000)


def _silent(line: str) -> None:
    """Where nobody listens."""


def _at_once() -> None:
    """Where nobody has to be let by."""


class Journal:
    """One queue's directory, locked and open. Made by `Journal.open`.

    `write`, `idle`, `room`, `close` belong to one thread; `read` may be called by any, `spare`
    by one background thread beside them. After DiskFailedError every later call raises it again
    (`stats` and `close` do not): the process must end, and the next start tells what is on disk
    (DURABILITY W6).
    """

    __slots__ = (
        "_background",
        "_bodies",
        "_closed",
        "_fs",
        "_known",
        "_lock",
        "_log",
        "_snapshots",
        "_space",
        "_told_full",
        "_writer",
        "report",
        "store",
    )  # fmt: skip

    def __init__(
        self,
        fs: Fs,
        lock: DirectoryLock,
        space: SpaceMaker,
        writer: Writer,
        report: Report,
        snapshots: Snapshots,
        known_types: Collection[int] | None,
        log: Callable[[str], None],
    ) -> None:
        """Not for callers: `Journal.open` is."""
        self._fs, self._lock, self._space, self._writer, self._log = fs, lock, space, writer, log
        self._known = None if known_types is None else frozenset(known_types)
        self._snapshots = snapshots
        newest = snapshots.newest
        self._bodies = BodyReader(
            fs, writer.files, SnapshotReader(fs, newest) if newest is not None else None
        )
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
            fs.hold_dir(path)
            finish(fs, path)
            found = examine(fs, path)
            space = SpaceMaker(fs, path, reserve_bytes)
            report = mend(fs, path, found, space.free_reserve)
            for line in report.lines:
                log(line)
            # before the segment, which frees it again where the disk is too full for both
            space.make_reserve()
            writer = go_on(fs, space, found, segment_bytes, clock_ms, log)
            snapshots = Snapshots(fs, path, found.basis.snapshot, found.basis.older)
            return cls(fs, lock, space, writer, report, snapshots, known_types, log)
        except BaseException as error:
            if lock is not None:
                fs.let_go(path)
                lock.release()
            if isinstance(error, OSError):
                raise not_opened(path, error) from error
            raise

    def replay(self) -> Iterator[Record]:
        """Every record, oldest first, in bounded memory: a snapshot's statements come first.

        The `where` and `lsn` of statements mean nothing; :meth:`kept` finds them. Raises
        QueueDamagedError where a checksum no longer fits, VersionError for a type that is not
        known and may not be skipped (DURABILITY R12).
        """
        self._check()
        snapshot = self._snapshots.newest
        if snapshot is not None:
            yield from statements_in(self._fs, snapshot, self._known)
        for segment in list(self._writer.files):
            if snapshot is None or segment.header.first_lsn > snapshot.lsn:
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

    def kept(self, where: int, kind: int, id_: int) -> Kept:
        """The record at `where`; once its segment is gone the snapshot's statement of the thing.

        `where` 0 stands for the snapshot. Safe in any thread. Raises as :meth:`read`.
        """
        self._check()
        return self._bodies.kept(where, kind, id_)

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
    def oldest(self) -> tuple[int, int]:
        """The first lsn of the oldest segment there is, and when that was made (ms UTC)."""
        header = self._writer.files[0].header
        return header.first_lsn, header.created_ms

    @property
    def lsn(self) -> int:
        """That of the last batch."""
        return self._writer.lsn

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest one. Safe in any thread."""
        return self._snapshots.newest

    @property
    def directory(self) -> str:
        """Where the queue is."""
        return self._space.directory

    def sealed(self) -> Predecessor | None:
        """The end of what changes no more, which a snapshot may tell of; None: nothing yet.

        Safe in any thread.
        """
        return self._writer.files[-1].header.predecessor

    def behind_snapshot(self) -> int:
        """Bytes of batches that the newest snapshot does not tell of. Safe in any thread."""
        known = self._snapshots.newest.lsn if self._snapshots.newest is not None else 0
        files = list(self._writer.files)
        return sum(s.end - s.header.bytes for s in files if s.header.first_lsn > known)

    def seal(self, need: int = 0) -> None:
        """Goes on in a new segment, so that all of now can go into a snapshot.

        What room this one has left is lost: so the next one has to be ready, with room for `need`
        bytes. Raises RefusedError where it is not (nothing has changed), DiskFailedError.
        """
        self._writer.seal(need)

    def adopt(self, made: Snapshot, bad: Collection[int] = ()) -> None:
        """Makes a finished snapshot the queue's own: durable under its name when this returns.

        `bad` are the lsns of others that were found to be damaged: they count no more. For one
        background thread; so is `retire`. Raises OSError: then there is none.
        """
        snapshot = self._snapshots.publish(made, bad)
        self._bodies.look_in(SnapshotReader(self._fs, snapshot))

    def retire(self, *, keep_older: bool = True, rest: Callable[[], None] = _at_once) -> int:
        """Removes what snapshots have replaced (DURABILITY W9); how many files went.

        Kept are the two newest snapshots, or without `keep_older` the newest alone, and the
        segments behind. `rest` is called between steps. Raises OSError.
        """
        return self._snapshots.retire(self._bodies, self._writer.files, keep_older, rest)

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
                self._give_back()
                # first: a spare segment of any size would leave no space for it
                self._space.make_reserve()
                if self._writer.spare is None:
                    self._writer.spare = self._space.make_smaller(self._writer.segment_bytes)
                self._told_full = False
            except RefusedError as error:
                self._tell_full(str(error))
            except DiskFailedError as error:
                self._writer.failed = error
                raise

    def _fill_ahead(self) -> None:
        """Keeps zeroes ahead of the writer; a full disk is told, and no failure."""
        now = self._writer.current
        target = wanted_ahead(now.filled - now.end, now.whole)
        try:
            while now.filled - now.end < target and now.fill(self._fs):
                pass
        except OSError as error:
            if not is_full(error) and not is_scarce(error):
                raise DiskFailedError(
                    f"queue file {now.path}: cannot be filled ahead ({error.strerror});"
                    " look at the disk, then start the daemon again",
                    file=now.path,
                ) from error
            self._tell_full(f"queue file {now.path}: cannot be filled ahead ({error.strerror})")

    def _give_back(self) -> None:
        """Gives back what a segment that was sealed early has reserved behind its data."""
        for segment in self._writer.files[-2:-1]:
            if segment.capacity - segment.end < FILL_STEP:
                continue
            with suppress(OSError):  # what is behind the data means nothing to anybody
                fd = self._fs.open(segment.path, os.O_RDWR)
                try:
                    self._fs.truncate(fd, segment.end)
                finally:
                    self._fs.close(fd)
                segment.capacity = segment.end

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
            snapshot_bytes=self._snapshots.bytes(),
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
                self._fs.let_go(self._space.directory)
                self._lock.release()

    def _check(self) -> None:
        if self._writer.failed is not None:
            raise self._writer.failed

"""The archive: what finished runs were, in files that are only added to (FORMAT.md, "The archive").

Bytes as those of the queue's segments: a header, batches of records. There are two series of files,
so that what is kept longer does not keep the rest. A batch is durable before its places are given
out; nothing here is needed to read the queue, so damage is told and read past, never refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from jobd.errors import NotFoundError
from jobd.journal.bodyreader import read_record
from jobd.journal.fsutil import Fs, read_exactly, write_all
from jobd.journal.live import NUMBER_SHIFT, OFFSET_MASK, LiveSegment
from jobd.journal.lookup import Kept
from jobd.journal.record import (
    BATCH,
    BATCH_BYTES,
    FRAME,
    FRAME_BYTES,
    TYPE_MASK,
    RecordFields,
    encode_batch,
    record_cost,
)
from jobd.journal.segment import (
    ARCHIVE_MAGIC,
    BadSegmentError,
    Header,
    Walk,
    find_batch,
    nonzero_extent,
    pack_header,
    read_any_header,
)
from jobd.journal.wreck import records_in

#: the series: runs, and dead ones
SERIES = ("runs", "dead")
_NAME = re.compile(r"(runs|dead)-(\d{20})\.arc")


class Place(NamedTuple):
    """Where an archive segment can be gone on with: behind the batch `lsn`, whose CRC is `crc`."""

    offset: int
    lsn: int
    crc: int


class Archived(NamedTuple):
    """One record as :func:`Archive.scan` yields it; `where` is what :meth:`Archive.read` takes."""

    type: int
    kind: int
    id: int
    revision: int
    body: bytes
    where: int


class Hole(NamedTuple):
    """Bytes of a segment that are no sound batch, from offset `start` to `stop`; of `unread` of
    them nobody can say what they were. `last`: nothing sound stands behind them, so they may be
    what a crash leaves of a batch that was never promised."""

    start: int
    stop: int
    unread: int
    last: bool


class Part(NamedTuple):
    """What a scan met: the records of one batch, or of a hole those that are intact; and the place
    behind it. `damaged`: what is known of a hole's others by their frames, without bodies."""

    records: list[Archived]
    hole: Hole | None
    behind: Place
    damaged: Sequence[Archived] = ()


def segment_name(series: str, number: int) -> str:
    """The file name of an archive segment."""
    return f"{series}-{number:020d}.arc"


def named(name: str) -> tuple[str, int] | None:
    """Series and number that a file name tells, None where it is no archive segment's."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


class Archive:
    """The folder of archive segments. `append`, `roll`, `remove` are one thread's; the rest any's.

    Raises OSError as the disk gave it: what did not become durable was not given a place.
    """

    def __init__(self, fs: Fs, folder: str, store: bytes, *, change: bool = True) -> None:
        """Makes the folder where missing, and takes away what was never finished, but where it is
        not to `change` anything. Raises OSError.

        A segment without a readable header, or by another's name, is told in `problems` and left.
        """
        self._fs, self.folder, self._store = fs, folder, store
        self._lock = Lock()
        self._segments: dict[int, LiveSegment] = {}
        self._series: dict[int, str] = {}
        #: the segments that are written to, by series
        self._open: dict[str, _Writer] = {}
        self.problems: list[str] = []
        if change:
            _make_folder(fs, folder)
        for name in fs.listdir(folder):
            if name.endswith(".tmp"):
                if change:
                    fs.unlink(os.path.join(folder, name))
            elif (told := named(name)) is not None:
                self._take_in(name, *told)
        self._next = max(self._segments, default=0) + 1

    def _take_in(self, name: str, series: str, number: int) -> None:
        path = os.path.join(self.folder, name)
        try:
            fd = self._fs.open(path, os.O_RDONLY)
            try:
                header = read_any_header(self._fs, fd, name, ARCHIVE_MAGIC, "archive segment")
                end = self._fs.size(fd)
            finally:
                self._fs.close(fd)
        except BadSegmentError as error:
            self.problems.append(f"archive file {path}: {error}; what it holds cannot be shown")
            return
        # not its store: a copy of the queue has one of its own, and the archive as it was
        if header.first_lsn != number:
            self.problems.append(f"archive file {path}: has another's name; it is passed over")
            return
        self._segments[number] = LiveSegment(number, path, header, end)
        self._series[number] = series

    # -- what there is -----------------------------------------------------------------------

    def numbers(self) -> list[int]:
        """The segments there are, oldest first."""
        with self._lock:
            return sorted(self._segments)

    def series_of(self, number: int) -> str:
        """Of which series a segment is."""
        return self._series[number]

    def path_of(self, number: int) -> str | None:
        """The file of a segment; None where it is gone."""
        with self._lock:
            segment = self._segments.get(number)
        return segment.path if segment is not None else None

    def made_ms(self, number: int) -> int:
        """When a segment was made (ms UTC)."""
        return self._segments[number].header.created_ms

    def bytes(self) -> int:
        """Bytes of all segments."""
        with self._lock:
            return sum(segment.end for segment in self._segments.values())

    def size(self, number: int) -> int:
        """Bytes of one segment."""
        return self._segments[number].end

    def start_of(self, number: int) -> Place:
        """Where the first batch of a segment begins."""
        header = self._segments[number].header
        return Place(header.bytes, header.first_lsn - 1, header.crc)

    def is_open(self, number: int) -> bool:
        """Whether the segment is still written to."""
        return any(writer.segment.number == number for writer in self._open.values())

    # -- reading -----------------------------------------------------------------------------

    def read(self, where: int) -> Kept:
        """The record at `where`, verified. Raises NotFoundError where its segment is gone,
        QueueDamagedError where a checksum does not fit."""
        number, offset = where >> NUMBER_SHIFT, where & OFFSET_MASK
        with self._lock:
            segment = self._segments.get(number)
        if segment is None:
            raise NotFoundError(f"archive segment {number}: is gone: what it held is too old")
        try:
            fd = self._fs.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            raise NotFoundError(f"archive file {segment.path}: is not there any more") from None
        try:
            return read_record(self._fs, segment, fd, offset)
        finally:
            self._fs.close(fd)

    def scan(self, number: int, after: Place) -> Iterator[Part]:
        """The batches of a segment behind `after`, and the holes between them. Raises OSError.

        A last batch that is not whole was never promised, or is damaged: nobody can tell, so what
        is intact of it is given too (its runs are in memory still, or archived once more).
        """
        segment = self._segments[number]
        fd = self._fs.open(segment.path, os.O_RDONLY)
        try:
            stop = segment.end
            walk = Walk(self._fs, fd, segment.header, segment.name, stop)
            walk.offset, walk.lsn, walk.crc = after
            while True:
                for payload, count, offset, lsn in walk.batches():
                    records = list(_records(segment.base, payload, count, offset))
                    yield Part(records, None, Place(offset + len(payload), lsn, walk.crc))
                if nonzero_extent(self._fs, fd, walk.offset, stop) is None:
                    return
                start, found = walk.offset, self._behind(fd, segment, walk.offset, stop)
                behind = found or Place(stop, walk.lsn, walk.crc)
                yield self._hole(fd, segment, start, behind, found is None)
                if found is None:
                    return
                walk = Walk(self._fs, fd, segment.header, segment.name, stop)
                walk.offset, walk.lsn, walk.crc = found
        finally:
            self._fs.close(fd)

    def _behind(self, fd: int, segment: LiveSegment, start: int, stop: int) -> Place | None:
        """The place of the next sound batch header behind damage at `start`, if there is any."""
        found = find_batch(self._fs, fd, segment.header, start + 8, stop, 0)
        if found is None:
            return None
        offset, lsn = found[0], found[1]
        previous = BATCH.unpack(self._fs.pread(fd, BATCH.size, offset))[8]
        return Place(offset, lsn - 1, previous)

    def _hole(self, fd: int, segment: LiveSegment, start: int, behind: Place, last: bool) -> Part:
        """What stands in a range that is no sound batch, by the frames of its records."""
        data = read_exactly(self._fs, fd, behind.offset - start, start)
        intact, damaged = list[Archived](), list[Archived]()
        left = len(data.rstrip(b"\0")) - BATCH_BYTES
        for cost, one in records_in(data, segment.seed, segment.name, 0, len(data)):
            left -= cost
            # one that a flipped bit was set right for is not what a read of that place gives
            body = one.body if one.sure and one.body is not None else b""
            where = segment.base + start + one.offset
            made = Archived(one.type, one.kind, one.id, one.revision, body, where)
            (intact if one.sure else damaged).append(made)
        hole = Hole(start, behind.offset, max(0, left), last)
        return Part(intact, hole, behind, damaged)

    # -- writing -----------------------------------------------------------------------------

    def append(
        self, series: str, records: Sequence[RecordFields], now_ms: int
    ) -> tuple[list[int], Place]:
        """Makes the records durable as one batch; where each is, and the place behind them.

        The first batch of a segment makes its file. Raises OSError, ValueError as `encode_batch`;
        after a failed sync that file is never written to again (DURABILITY W6).
        """
        writer = self._open.get(series)
        if writer is None:
            writer = self._begin(series, now_ms)
        try:
            return writer.append(self._fs, records)
        except OSError:
            # what was written of it is never looked at by anybody who knows where the data end
            self.roll(series)
            raise

    def current(self, series: str) -> int | None:
        """The segment that the next batch goes to, None where it makes a new one."""
        writer = self._open.get(series)
        return writer.segment.number if writer is not None else None

    def roll(self, series: str) -> None:
        """The next batch of that series goes into a segment of its own."""
        writer = self._open.pop(series, None)
        if writer is not None:
            writer.close(self._fs)

    def _begin(self, series: str, now_ms: int) -> _Writer:
        fs, number = self._fs, self._next
        name = segment_name(series, number)
        path = os.path.join(self.folder, name)
        salt = int.from_bytes(os.urandom(8), "little")
        header = Header(self._store, salt, number, now_ms, None)
        head, crc = pack_header(header, ARCHIVE_MAGIC)
        header = replace(header, crc=crc)
        fd = fs.open(f"{path}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(fs, fd, head, 0)
            fs.fsync(fd)
            fs.rename(f"{path}.tmp", path)
            fs.fsync_dir(self.folder)
        except OSError:
            fs.close(fd)
            with suppress(OSError):
                fs.unlink(f"{path}.tmp")
            raise
        self._next += 1
        segment = LiveSegment(number, path, header, header.bytes)
        with self._lock:
            self._segments[number] = segment
            self._series[number] = series
        writer = self._open[series] = _Writer(segment, fd)
        return writer

    def remove(self, numbers: Iterable[int], rest: Callable[[], None]) -> None:
        """Removes whole segments, which must not be open; `rest` is called after each."""
        for number in numbers:
            with self._lock:
                segment = self._segments.pop(number)
            with suppress(FileNotFoundError):
                self._fs.unlink(segment.path)
            self._fs.fsync_dir(self.folder)
            rest()

    def close(self) -> None:
        """Ends the writing; what was read can be read on."""
        for series in list(self._open):
            self.roll(series)


class _Writer:
    """The segment of a series that is written to."""

    __slots__ = ("_crc", "_fd", "_lsn", "segment")

    def __init__(self, segment: LiveSegment, fd: int) -> None:
        self.segment, self._fd = segment, fd
        self._lsn, self._crc = segment.header.first_lsn - 1, segment.header.crc

    def append(self, fs: Fs, records: Sequence[RecordFields]) -> tuple[list[int], Place]:
        segment = self.segment
        data, crc, places = encode_batch(
            records, segment.base + segment.end, segment.salt, segment.seed,
            self._lsn + 1, self._lsn, self._crc, 0,
        )  # fmt: skip
        write_all(fs, self._fd, data, segment.end)
        fs.fdatasync(self._fd)
        segment.end += len(data)
        self._lsn, self._crc = self._lsn + 1, crc
        return places, Place(segment.end, self._lsn, crc)

    def close(self, fs: Fs) -> None:
        with suppress(OSError):
            # a batch that did not become durable may stand behind the end
            if fs.size(self._fd) > self.segment.end:
                fs.truncate(self._fd, self.segment.end)
        fs.close(self._fd)


def _records(base: int, payload: bytes, count: int, offset: int) -> Iterator[Archived]:
    at = 0
    for _ in range(count):
        size, type_, kind, _, id_, revision, _, _ = FRAME.unpack_from(payload, at)
        body = payload[at + FRAME_BYTES : at + FRAME_BYTES + size]
        yield Archived(type_ & TYPE_MASK, kind, id_, revision, body, base + offset + at)
        at += record_cost(size)


def _make_folder(fs: Fs, folder: str) -> None:
    try:
        fs.mkdir(folder, 0o700)
    except FileExistsError:
        return
    fs.fsync_dir(os.path.dirname(folder))

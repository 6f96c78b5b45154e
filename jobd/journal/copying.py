"""Reads a queue while its daemon writes it: what is in its files up to some moment, in order.

All files are opened before the first byte is read, so that one that is removed meanwhile is still
there; of the last one as much is taken as is whole. Nothing is changed and no lock is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import error as StructError

from jobd.errors import ConfigError, QueueDamagedError
from jobd.journal.basis import find_basis
from jobd.journal.damage import unreadable
from jobd.journal.fsutil import Fs
from jobd.journal.record import FRAME, FRAME_BYTES, TYPE_MASK, RecordIn
from jobd.journal.segment import (
    BadSegmentError,
    Header,
    Walk,
    find_batch,
    first_lsn_of,
    read_header,
)
from jobd.journal.snapshot import Snapshot, statements_in

#: how often the files are listed again when one went between the listing and the opening
_TRIES = 100


class Copying:
    """The queue in `directory` as its files are now. `store` is its identity, `bytes` its size.

    `snapshot` is what `records` go on from, or None. Raises ConfigError where there is no queue,
    QueueDamagedError, VersionError.
    """

    def __init__(self, fs: Fs, directory: str) -> None:
        self._fs, self._directory = fs, directory
        self._files: list[tuple[str, int]] = []
        self._headers: list[Header] = []
        self.snapshot: Snapshot | None = None
        for _ in range(_TRIES):
            try:
                self._open()
                break
            except FileNotFoundError:
                self.close()
        if not self._files:
            raise ConfigError(f"queue {directory}: there is none")
        self.store = self._headers[0].store
        self.bytes = sum(fs.size(fd) for _, fd in self._files)
        #: the last batch that was given
        self.lsn = 0

    def _open(self) -> None:
        fs = self._fs
        try:
            names = fs.listdir(self._directory)
        except FileNotFoundError:
            raise ConfigError(f"queue {self._directory}: no such folder") from None
        basis = find_basis(fs, self._directory, names)
        self.snapshot = basis.snapshot
        for name in names:
            if (first_lsn_of(name) or 0) <= basis.lsn:
                continue
            try:
                fd = fs.open(os.path.join(self._directory, name), os.O_RDONLY)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise unreadable(self._directory, name, 0, error) from error
            self._files.append((name, fd))
            try:
                self._headers.append(read_header(fs, fd, name))
            except BadSegmentError as error:
                raise self._damaged(name, 0, f"the segment {error}") from None
        misfit = basis.misfit(self._headers[0]) if self._headers else None
        if misfit is not None:
            raise self._damaged(self._files[0][0], 0, misfit)

    def still_there(self) -> bool:
        """Whether no file that is read was taken away: a daemon retires them by cutting them."""
        names = self._fs.listdir(self._directory)
        known = [name for name, _ in self._files]
        if self.snapshot is not None:
            known.append(self.snapshot.name)
        return all(name in names for name in known)

    def statements(self) -> Iterator[RecordIn]:
        """Every statement of the snapshot, in order. Raises QueueDamagedError."""
        if self.snapshot is None:
            return
        for one in statements_in(self._fs, self.snapshot, None):
            yield RecordIn(one.type, one.kind, one.id, one.revision, one.body)

    def close(self) -> None:
        """Let go of the files."""
        for _, fd in self._files:
            self._fs.close(fd)
        self._files.clear()
        self._headers.clear()

    def records(self) -> Iterator[RecordIn]:
        """Every record, oldest first. Raises QueueDamagedError."""
        lsn = self._headers[0].first_lsn - 1
        for index, (name, fd) in enumerate(self._files):
            header = self._headers[index]
            if header.first_lsn != lsn + 1:
                raise self._damaged(name, 0, f"batch {lsn + 1} should begin it")
            walk = Walk(self._fs, fd, header, name, self._fs.size(fd))
            for payload, count, at, self.lsn in walk.batches():
                yield from self._of_batch(name, payload, count, at)
            lsn = walk.lsn
            following = self._headers[index + 1 : index + 2]
            link = following[0].predecessor if following else None
            if link is not None:
                if (walk.offset, walk.lsn, walk.crc) != (link.length, link.last_lsn, link.last_crc):
                    raise self._damaged(name, walk.offset, "it should not end there")
            else:
                self._check_end(name, fd, header, walk)

    def _check_end(self, name: str, fd: int, header: Header, walk: Walk) -> None:
        """That the last segment ends where it seems to: its writer may be behind that place, but
        what stands there now was written in order."""
        size = self._fs.size(fd)
        again = Walk(self._fs, fd, header, name, size)
        for _ in again.batches():
            pass
        if again.offset != walk.offset:
            return  # it was being written
        if find_batch(self._fs, fd, header, walk.offset + 8, size, walk.lsn + 1) is None:
            return
        for _ in (final := Walk(self._fs, fd, header, name, size)).batches():
            pass
        if final.offset == walk.offset:
            raise self._damaged(name, walk.offset, "a later batch is sound")

    def _of_batch(self, name: str, payload: bytes, count: int, start: int) -> Iterator[RecordIn]:
        at = 0
        for _ in range(count):
            try:
                size, type_, kind, _, id_, revision, _, _ = FRAME.unpack_from(payload, at)
            except StructError:
                raise self._damaged(name, start + at, "it holds fewer than it says") from None
            body = payload[at + FRAME_BYTES : at + FRAME_BYTES + size]
            yield RecordIn(type_ & TYPE_MASK, kind, id_, revision, body)
            at = (at + FRAME_BYTES + size + 3) & ~3

    def _damaged(self, name: str, offset: int, why: str) -> QueueDamagedError:
        path = os.path.join(self._directory, name)
        return QueueDamagedError(
            f"queue file {path}: damaged at offset {offset}: {why}; see `jobd fsck`",
            file=path,
            offset=offset,
        )

"""Reads a queue's directory through and says what is there; changes nothing in it.

Every rule here decides between three words: sound, a tear (what a crash leaves, to be mended) and
damage (everything else, refused). DURABILITY R3 to R6, R8, R10, R12.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobd.errors import DiskFailedError, QueueDamagedError
from jobd.journal.basis import Basis, OldSegment, find_basis, old_segments
from jobd.journal.damage import damaged, unreadable
from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.record import BATCH_BYTES, CLEAN, MAX_PAYLOAD, Named, named_in
from jobd.journal.segment import (
    BadSegmentError,
    Header,
    Walk,
    find_batch,
    first_lsn_of,
    nonzero_extent,
    read_header,
    segment_name,
)

NOTHING = Basis(None, (), ())


@dataclass(frozen=True, slots=True)
class Sound:
    """A segment that was read through: where its data end, and with which batch."""

    name: str
    header: Header
    end: int
    last_lsn: int
    last_crc: int
    flags: int
    records: int
    size: int

    @property
    def empty(self) -> bool:
        """Whether it holds no batch at all."""
        return self.end == self.header.bytes


@dataclass(frozen=True, slots=True)
class Tear:
    """The last batch, written in part when the power or the process went."""

    name: str
    start: int
    stop: int
    lsn: int
    records: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """A queue without damage but to snapshots that are not needed, at most torn at its very end.

    `segments` go on from `basis`; the `old` ones are before them.
    """

    segments: tuple[Sound, ...]
    tear: Tear | None
    clean: bool
    leftovers: tuple[str, ...]
    basis: Basis = NOTHING
    old: tuple[OldSegment, ...] = ()


def examine(fs: Fs, directory: str) -> Examined:
    """What the queue in `directory` holds.

    Raises QueueDamagedError, VersionError for a format that is too new, DiskFailedError when the
    last segment cannot be synced. The last segment is synced first and read from the disk, not
    from memory: after a failed sync the page cache shows what is not there (DURABILITY R10), and
    after a kill it holds what no sync has covered yet, on which the next header would rely.
    """
    names = fs.listdir(directory)
    leftovers = tuple(name for name in names if name.endswith(".tmp"))
    segments = [name for name in names if first_lsn_of(name) is not None]
    basis = find_basis(fs, directory, names)
    headers = _read_headers(fs, directory, segments, basis)
    if not headers:
        return Examined((), None, True, leftovers)
    last_name, last_header = headers[-1]
    fd = _open(fs, directory, last_name)
    try:
        try:
            fs.fdatasync(fd)
        except OSError as error:
            raise DiskFailedError(
                f"queue file {os.path.join(directory, last_name)}: cannot be synced"
                f" ({error.strerror}); look at the disk"
            ) from error
        fs.drop_cache(fd)
        last = _walk(fs, fd, directory, last_name, last_header)
        clean = bool(last[0].flags & CLEAN)
        inner = [
            _inner(fs, directory, headers, index, drop=not clean)
            for index in range(len(headers) - 1)
        ]
        tear = _tail(fs, fd, directory, headers, *last)
    finally:
        fs.close(fd)
    old = old_segments(fs, directory, segments, headers[0][1])
    return Examined((*inner, last[0]), tear, clean, leftovers, basis, old)


def _open(fs: Fs, directory: str, name: str) -> int:
    try:
        return fs.open(os.path.join(directory, name), os.O_RDWR)
    except OSError as error:
        raise unreadable(directory, name, 0, error) from error


def _read_headers(
    fs: Fs, directory: str, names: list[str], basis: Basis
) -> list[tuple[str, Header]]:
    """The header of each segment behind the basis, checked against its neighbour's (R3)."""
    headers: list[tuple[str, Header]] = []
    bad: tuple[str, str] | None = None
    wanted = [name for name in names if (first_lsn_of(name) or 0) > basis.lsn]
    if not wanted and (basis.lsn or basis.bad):
        raise _nothing_behind(directory, basis)
    for name in wanted:
        fd = _open(fs, directory, name)
        try:
            headers.append((name, read_header(fs, fd, name)))
        except BadSegmentError as error:
            bad = bad or (name, str(error))
        except OSError as error:
            raise unreadable(directory, name, 0, error) from error
        finally:
            fs.close(fd)
    if bad is not None:
        good = (first_lsn_of(bad[0]) or 1) - 1
        raise damaged(fs, directory, headers, bad[0], 0, good, f"the segment {bad[1]}")
    for index, (name, header) in enumerate(headers):
        complaint = _misplaced(headers[index - 1][1], header) if index else basis.misfit(header)
        if complaint is not None:
            raise damaged(fs, directory, headers, name, 0, header.first_lsn - 1, complaint)
    return headers


def _nothing_behind(directory: str, basis: Basis) -> QueueDamagedError:
    """A snapshot is made while the queue goes on in the segment behind it: so one is there."""
    name = segment_name(basis.lsn + 1)
    told = basis.snapshot.name if basis.snapshot else basis.bad[0].name
    return QueueDamagedError(
        f"queue {directory}: segment {name} is missing: it was there when snapshot {told} was"
        " made; nothing was changed; look for it, and see `jobd fsck --json`",
        file=os.path.join(directory, name),
        offset=0,
        lsn=basis.lsn,
    )


def _misplaced(before: Header, header: Header) -> str | None:
    """Why a segment cannot follow the one before it, or None."""
    link = header.predecessor
    if header.store != before.store:
        return f"the segment is of another queue (store {header.store.hex()})"
    if link is None:
        return "the segment says that it is the first, and there is one before it"
    if link.first_lsn != before.first_lsn:
        if link.first_lsn > before.first_lsn:
            return f"the segment before it, {segment_name(link.first_lsn)}, is missing"
        return f"it follows {segment_name(link.first_lsn)}, and another one stands there"
    if link.last_lsn + 1 != header.first_lsn:
        return "its first lsn does not follow its predecessor's last"
    return None


def _walk(fs: Fs, fd: int, directory: str, name: str, header: Header) -> tuple[Sound, Walk]:
    """Reads a segment as far as it is sound."""
    size = fs.size(fd)
    walk = Walk(fs, fd, header, name, size)
    try:
        for _ in walk.batches():
            pass
    except OSError as error:
        raise unreadable(directory, name, walk.offset, error) from error
    return Sound(
        name, header, walk.offset, walk.lsn, walk.crc, walk.flags, walk.records, size
    ), walk


def _inner(
    fs: Fs, directory: str, headers: list[tuple[str, Header]], index: int, *, drop: bool
) -> Sound:
    """A segment that has a successor: it must end exactly as the successor says (R3)."""
    name, header = headers[index]
    link = headers[index + 1][1].predecessor
    assert link is not None  # _misplaced has refused it otherwise
    fd = _open(fs, directory, name)
    try:
        if drop:
            fs.drop_cache(fd)
        sound, _ = _walk(fs, fd, directory, name, header)
        why = None
        if (sound.end, sound.last_lsn, sound.last_crc) != (
            link.length,
            link.last_lsn,
            link.last_crc,
        ):
            why = (
                f"the segment's sound part ends there with lsn {sound.last_lsn}, and by the next"
                f" segment's header it ends at {link.length} with lsn {link.last_lsn}"
            )
        elif nonzero_extent(fs, fd, sound.end, sound.size) is not None:
            why = "something stands behind the segment's last batch"
    except OSError as error:
        raise unreadable(directory, name, 0, error) from error
    finally:
        fs.close(fd)
    if why is not None:
        raise damaged(fs, directory, headers, name, sound.end, sound.last_lsn, why)
    return sound


def _tail(
    fs: Fs,
    fd: int,
    directory: str,
    headers: list[tuple[str, Header]],
    sound: Sound,
    walk: Walk,
) -> Tear | None:
    """Whether the last segment ends well, or torn; raises where it is damaged (DURABILITY R6)."""
    start = sound.end
    try:
        extent = nonzero_extent(fs, fd, start, sound.size)
        if extent is None:
            return None
        why = _damage_at(fs, fd, sound, walk)
        if why is None:
            # one batch is in flight at a time (W1), and names are read from no more than one
            count = min(extent[1] - start, MAX_PAYLOAD + BATCH_BYTES)
            rest = read_exactly(fs, fd, count, start)
            records = tuple(named_in(rest, sound.header.seed, start))
            return Tear(sound.name, start, extent[1], sound.last_lsn + 1, records)
    except OSError as error:
        raise unreadable(directory, sound.name, start, error) from error
    raise damaged(fs, directory, headers, sound.name, start, sound.last_lsn, why)


def _damage_at(fs: Fs, fd: int, sound: Sound, walk: Walk) -> str | None:
    """Why what stands behind the last sound batch cannot be a tear, or None."""
    if sound.flags & CLEAN:
        return "something stands behind the mark of a clean stop"
    if walk.misfit:
        return "a batch with a sound header stands where it does not belong"
    # a torn batch's own header may be whole: the search begins behind its first bytes then
    start = sound.end + 8 if walk.torn else sound.end
    later = find_batch(fs, fd, sound.header, start, sound.size, sound.last_lsn + 1)
    if later is not None:
        return (
            f"a later batch, lsn {later[1]} at offset {later[0]}, is sound, so this one was durable"
        )
    return None

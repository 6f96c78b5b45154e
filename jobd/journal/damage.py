"""Says what is damaged and what is not, in one error (DURABILITY R8).

Only ever reached on the way to a refusal, so it may read everything behind the damage.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from jobd.errors import ConfigError, JobdError, QueueDamagedError, RefusedError
from jobd.journal.fsutil import Fs, read_exactly
from jobd.journal.record import BATCH_BYTES, MAX_PAYLOAD, Named, named_in
from jobd.journal.segment import Header, find_batch
from jobd.journal.space import is_scarce

#: how many ids a message and its details name; the counts are always of all
NAMED_AT_MOST = 20


def unreadable(directory: str, name: str, offset: int, error: OSError) -> JobdError:
    """What a failed open or read of a segment means; damage unless it is about this process."""
    path = os.path.join(directory, name)
    if is_scarce(error):
        return RefusedError(
            f"queue file {path}: cannot be opened now ({error.strerror});"
            " raise the limit and start again"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(
            f"queue file {path}: this user may not read it; give it to the daemon's own user"
        )
    return QueueDamagedError(
        f"queue file {path}: cannot be read at offset {offset} ({error.strerror});"
        " nothing was changed; look at the disk, then run `jobd fsck`",
        file=path,
        offset=offset,
    )


def damaged(
    fs: Fs,
    directory: str,
    headers: Sequence[tuple[str, Header]],
    name: str,
    offset: int,
    good_lsn: int,
    why: str,
) -> QueueDamagedError:
    """The error that names file, offset, the last good lsn, and what is intact behind.

    `headers` are the segments whose header verifies, in order. Details: `file`, `offset`, `lsn`,
    `damaged` and `intact_records` (lists of kind, id, revision; at most NAMED_AT_MOST),
    `damaged_count`, `intact`.
    """
    lost: list[Named] = []
    sound: list[Named] = []
    for its_name, header in headers:
        if its_name < name:
            continue
        start = offset if its_name == name else header.bytes
        least = good_lsn + 1 if its_name == name else header.first_lsn
        try:
            _survey(fs, os.path.join(directory, its_name), header, start, least, lost, sound)
        except OSError:
            continue  # the damage that is being told stays the first one
    path = os.path.join(directory, name)
    parts = [
        f"queue file {path}: damaged at offset {offset}: {why}; the last good lsn is {good_lsn}"
    ]
    if lost:
        parts.append(f"damaged: {_list(lost)}")
    parts.append(f"{len(sound)} records behind it are intact")
    parts.append("nothing was changed; keep a copy of the folder, and see `jobd fsck --json`")
    return QueueDamagedError(
        "; ".join(parts),
        file=path,
        offset=offset,
        lsn=good_lsn,
        damaged=_details(lost),
        damaged_count=len(lost),
        intact=len(sound),
        intact_records=_details(sound),
    )


def _survey(
    fs: Fs,
    path: str,
    header: Header,
    start: int,
    least_lsn: int,
    lost: list[Named],
    sound: list[Named],
) -> None:
    """Sorts the records from `start` to the end of the file into damaged and intact."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        stop = fs.size(fd)
        at, lsn = start, least_lsn
        while (found := find_batch(fs, fd, header, at, stop, lsn)) is not None:
            offset, its_lsn, _, length, payload_crc = found
            _sort(_named_between(fs, fd, header, at, offset), lost, sound)
            body = offset + BATCH_BYTES
            at = body
            if length <= MAX_PAYLOAD and body + length <= stop:
                payload = read_exactly(fs, fd, length, body)
                names = named_in(payload, header.seed, body)
                if crc32(payload) == payload_crc:
                    sound.extend(names)
                else:
                    _sort(names, lost, sound)
                at = body + length
            lsn = its_lsn + 1
        _sort(_named_between(fs, fd, header, at, stop), lost, sound)
    finally:
        fs.close(fd)


def _sort(names: Iterable[Named], lost: list[Named], sound: list[Named]) -> None:
    """A record that its own checksum vouches for is intact, whatever became of its batch."""
    for one in names:
        (sound if one.whole else lost).append(one)


def _named_between(fs: Fs, fd: int, header: Header, start: int, stop: int) -> Iterator[Named]:
    # one batch is the most that one read must hold; what lies further on is damaged all the same
    step = MAX_PAYLOAD + BATCH_BYTES
    for at in range(start, stop, step):
        yield from named_in(read_exactly(fs, fd, min(step, stop - at), at), header.seed, at)


def _list(records: Sequence[Named]) -> str:
    """`kind 2 id 7 revision 3, ...` of the first few, and how many more there are."""
    shown = [f"kind {r.kind} id {r.id} revision {r.revision}" for r in records[:NAMED_AT_MOST]]
    more = len(records) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _details(records: Sequence[Named]) -> list[dict[str, int]]:
    return [{"kind": r.kind, "id": r.id, "revision": r.revision} for r in records[:NAMED_AT_MOST]]


def list_named(records: Sequence[Named]) -> str:
    """The records of a torn batch for a report: each with whether its body is whole."""
    shown = [
        f"kind {r.kind} id {r.id} revision {r.revision}{'' if r.whole else ' (not whole)'}"
        for r in records[:NAMED_AT_MOST]
    ]
    more = len(records) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")

"""Mends what a crash left, and keeps everything that it cuts (DURABILITY R7).

Nothing of value is ever deleted here: torn bytes are copied to `quarantine/` and synced before
the segment is cut, and a name in there is never used twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal.basis import Bad
from jobd.journal.damage import list_named
from jobd.journal.examine import Examined, Sound, Tear
from jobd.journal.fsutil import Fs, read_exactly, write_all
from jobd.journal.record import Named
from jobd.journal.retention import REPLACED, UNFINISHED
from jobd.journal.segment import HEADER_BYTES, nonzero_extent
from jobd.journal.space import is_full

QUARANTINE = "quarantine"
_COPY = 4 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What opening the queue found and did. `lines` are sentences for the daemon's log.

    `torn_*` tell of a torn last batch: its segment's file, offset, bytes, lsn, the records found
    in it, and where the cut bytes are kept. `zero_bytes` were filled ahead and never used.
    """

    clean: bool
    segments: int
    records: int
    lines: tuple[str, ...]
    torn_file: str | None = None
    torn_offset: int = 0
    torn_bytes: int = 0
    torn_lsn: int = 0
    torn_records: tuple[Named, ...] = ()
    quarantine: str | None = None
    zero_bytes: int = 0
    #: damaged snapshots that were set aside, each with what is wrong with it
    bad_snapshots: tuple[str, ...] = ()


def mend(fs: Fs, directory: str, found: Examined, free_reserve: Callable[[], bool]) -> Report:
    """Makes the queue end where its sound data end, and says what that took.

    Raises RefusedError where there is no space for a copy of the torn bytes, even with the
    reserve freed, and DiskFailedError where a write or sync fails. A crash anywhere in here is
    mended by the next call (fault 25).
    """
    lines: list[str] = []
    kept = None
    try:
        lines.extend(_clear_leftovers(fs, directory, found.leftovers))
        aside = [_set_aside(fs, directory, bad) for bad in found.basis.bad]
        lines.extend(aside)
        if found.tear is not None:
            try:
                kept = _keep(fs, directory, found.tear)
            except OSError as error:
                if not is_full(error) or not free_reserve():
                    raise
                kept = _keep(fs, directory, found.tear)
            lines.append(_sentence(directory, found.tear, kept))
        cut = sum(_cut(fs, directory, sound, found) for sound in found.segments)
    except OSError as error:
        if is_full(error):
            raise RefusedError(
                f"queue {directory}: no space to keep a copy of the torn bytes of its last batch"
                f" ({error.strerror}); free some and start again"
            ) from error
        raise DiskFailedError(
            f"queue {directory}: cannot be mended after a crash ({error.strerror});"
            " look at the disk"
        ) from error
    tear = found.tear
    return Report(
        clean=found.clean,
        segments=len(found.segments),
        records=sum(sound.records for sound in found.segments),
        lines=tuple(lines),
        torn_file=os.path.join(directory, tear.name) if tear else None,
        torn_offset=tear.start if tear else 0,
        torn_bytes=tear.stop - tear.start if tear else 0,
        torn_lsn=tear.lsn if tear else 0,
        torn_records=tear.records if tear else (),
        quarantine=kept,
        zero_bytes=cut,
        bad_snapshots=tuple(aside),
    )


def _sentence(directory: str, tear: Tear, kept: str) -> str:
    names = list_named(tear.records)
    return (
        f"queue file {os.path.join(directory, tear.name)}: its last batch (lsn {tear.lsn}) was"
        f" torn at offset {tear.start}; {tear.stop - tear.start} bytes were cut and kept in {kept};"
        f" records found in them: {names or 'none'}"
    )


def _clear_leftovers(fs: Fs, directory: str, names: tuple[str, ...]) -> list[str]:
    """Removes spare segments that were never used; moves anything else away (R3).

    Unfinished snapshots and what a finished one has replaced hold nothing of their own.
    """
    lines = []
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith((UNFINISHED, REPLACED)):
            fs.unlink(path)
            continue
        fd = fs.open(path, os.O_RDONLY)
        try:
            unused = nonzero_extent(fs, fd, HEADER_BYTES, fs.size(fd)) is None
        finally:
            fs.close(fd)
        if unused:
            fs.unlink(path)
            continue
        target = _free_name(fs, _quarantine(fs, directory), name)
        fs.rename(path, target)
        fs.fsync_dir(os.path.dirname(target))
        fs.fsync_dir(directory)
        lines.append(f"queue file {path}: is an unfinished file with data; moved to {target}")
    return lines


def _set_aside(fs: Fs, directory: str, bad: Bad) -> str:
    """Moves a damaged snapshot away (R2); the sentence that tells of it."""
    path = os.path.join(directory, bad.name)
    target = _free_name(fs, _quarantine(fs, directory), bad.name)
    fs.rename(path, target)
    fs.fsync_dir(os.path.dirname(target))
    fs.fsync_dir(directory)
    return (
        f"queue snapshot {path}: damaged at offset {bad.offset}: it {bad.why}; moved to {target};"
        " nothing is lost: the older snapshot and the segments behind it tell the same"
    )


def _quarantine(fs: Fs, directory: str) -> str:
    path = os.path.join(directory, QUARANTINE)
    try:
        fs.mkdir(path, 0o700)
    except FileExistsError:
        pass
    # also where it was there: a crash may have come between its making and this sync
    fs.fsync_dir(directory)
    return path


def _free_name(fs: Fs, folder: str, name: str) -> str:
    """A path in `folder` that nothing has yet; the lock keeps others from taking it."""
    taken = set(fs.listdir(folder))
    number = 0
    candidate = name
    while candidate in taken or f"{candidate}.txt" in taken:
        number += 1
        candidate = f"{name}.{number}"
    return os.path.join(folder, candidate)


def _keep(fs: Fs, directory: str, tear: Tear) -> str:
    """Copies the torn bytes, with a text beside them; durable when this returns."""
    folder = _quarantine(fs, directory)
    path = _free_name(fs, folder, f"torn-{tear.lsn:020d}")
    source = fs.open(os.path.join(directory, tear.name), os.O_RDONLY)
    try:
        target = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for at in range(tear.start, tear.stop, _COPY):
                data = read_exactly(fs, source, min(_COPY, tear.stop - at), at)
                write_all(fs, target, data, at - tear.start)
            fs.fsync(target)
        finally:
            fs.close(target)
    finally:
        fs.close(source)
    note = fs.open(f"{path}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(fs, note, (_sentence(directory, tear, path) + "\n").encode(), 0)
        fs.fsync(note)
    finally:
        fs.close(note)
    fs.fsync_dir(folder)
    return path


def _cut(fs: Fs, directory: str, sound: Sound, found: Examined) -> int:
    """Cuts a segment behind its data; returns how many zero bytes that were."""
    last = sound is found.segments[-1]
    if sound.size == sound.end and not last:
        return 0
    torn_to = found.tear.stop if last and found.tear else sound.end
    fd = fs.open(os.path.join(directory, sound.name), os.O_RDWR)
    try:
        # the last one also where its length fits: this gives back what is reserved behind it
        fs.truncate(fd, sound.end)
        if last:
            fs.fsync(fd)
    finally:
        fs.close(fd)
    return sound.size - torn_to

"""The last step of opening a queue: going on behind what was found, or saying why not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from jobd.errors import ConfigError, DiskFailedError, JobdError, RefusedError
from jobd.journal.basis import OldSegment
from jobd.journal.examine import Examined, Sound
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.space import SpaceMaker, is_full, is_scarce
from jobd.journal.writer import Writer


def not_opened(path: str, error: OSError) -> JobdError:
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


def go_on(
    fs: Fs,
    space: SpaceMaker,
    found: Examined,
    segment_bytes: int,
    clock_ms: Callable[[], int],
    log: Callable[[str], None],
) -> Writer:
    """A writer in a new segment behind what was found."""
    whole: list[OldSegment | Sound] = [*found.old, *found.segments]
    files = [
        LiveSegment(number, os.path.join(space.directory, one.name), one.header, one.end)
        for number, one in enumerate(whole)
    ]
    if not found.segments:
        return Writer(fs, space, files, os.urandom(16), 0, 0, segment_bytes, clock_ms, log)
    last = found.segments[-1]
    return Writer(
        fs, space, files, last.header.store, last.last_lsn, last.last_crc,
        segment_bytes, clock_ms, log,
    )  # fmt: skip

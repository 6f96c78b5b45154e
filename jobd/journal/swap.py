"""Puts segments that were written anew in the place of damaged ones: all of them or none.

The steps, each durable before the next, so that whoever opens the queue after a crash can finish
what was begun (DURABILITY R8, fault 25):

1. `salvage-new/` is filled; `quarantine/salvage-N/` is made for what is there now.
2. `salvage-new` is renamed to `salvage-ready-N`. it is bound to come to its end.
3. The queue's own files go to the quarantine; then `salvage-ready-N` becomes `salvage-in-N`.
4. The new files go to their place, and what else stands beside them into the quarantine.
"""

from __future__ import annotations

import errno
import os
import re

from jobd.journal.fsutil import Fs, read_exactly, write_all
from jobd.journal.recovery import QUARANTINE

NEW = "salvage-new"
_READY, _IN = "salvage-ready-", "salvage-in-"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_COPY = 1 << 20
_OURS = re.compile(r"(seg-\d{20}\.log|snap-\d{20}\.snap)\Z")


def begin(fs: Fs, directory: str) -> tuple[str, str]:
    """An empty folder for the new files, and the one in the quarantine for the old. Raises OSError.

    What an earlier try that did not come to its end has left in the first is removed.
    """
    new = os.path.join(directory, NEW)
    _make(fs, new)
    for name in fs.listdir(new):
        fs.unlink(os.path.join(new, name))
    quarantine = os.path.join(directory, QUARANTINE)
    _make(fs, quarantine)
    taken = fs.listdir(quarantine)
    number = 1
    while True:
        name = f"salvage-{number}"
        target = os.path.join(quarantine, name)
        if name not in taken or not fs.listdir(target):
            break
        number += 1
    _make(fs, target)
    fs.fsync_dir(quarantine)
    fs.fsync_dir(directory)
    return new, target


def commit(fs: Fs, directory: str, target: str) -> None:
    """Have the files in the new folder be the queue. After an OSError :func:`finish` goes on."""
    new = os.path.join(directory, NEW)
    fs.fsync_dir(new)
    number = os.path.basename(target).rpartition("-")[2]
    fs.rename(new, os.path.join(directory, _READY + number))
    fs.fsync_dir(directory)
    finish(fs, directory)


def pending(fs: Fs, directory: str) -> bool:
    """Whether a change of files was begun and has to be finished."""
    return any(name.startswith((_READY, _IN)) for name in fs.listdir(directory))


def finish(fs: Fs, directory: str) -> str | None:
    """Finish what was begun, if anything was; the folder with the old files. Raises OSError."""
    target = None
    for name in fs.listdir(directory):
        if name.startswith(_READY):
            target = _out(fs, directory, name)
    for name in fs.listdir(directory):
        if name.startswith(_IN):
            target = _in(fs, directory, name)
    return target


def _out(fs: Fs, directory: str, ready: str) -> str:
    number = ready.removeprefix(_READY)
    target = os.path.join(directory, QUARANTINE, f"salvage-{number}")
    _move(fs, directory, target, [name for name in fs.listdir(directory) if _OURS.match(name)])
    fs.rename(os.path.join(directory, ready), os.path.join(directory, _IN + number))
    fs.fsync_dir(directory)
    return target


def _in(fs: Fs, directory: str, coming: str) -> str:
    number = coming.removeprefix(_IN)
    target = os.path.join(directory, QUARANTINE, f"salvage-{number}")
    source = os.path.join(directory, coming)
    names = fs.listdir(source)
    _move(fs, source, target, [name for name in names if not _OURS.match(name)])
    _move(fs, source, directory, [name for name in names if _OURS.match(name)])
    fs.rmdir(source)
    fs.fsync_dir(directory)
    return target


def _move(fs: Fs, source: str, target: str, names: list[str]) -> None:
    """Give files another folder: the new name is durable before the old one goes.

    One rename is one step on the usual file systems, and nobody promises that for two folders.
    """
    for name in names:
        old, new = os.path.join(source, name), os.path.join(target, name)
        try:
            fs.link(old, new)
        except FileExistsError:
            pass  # an earlier try came as far as this
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            fs.rename(old, new)
    fs.fsync_dir(target)
    for name in names:
        try:
            fs.unlink(os.path.join(source, name))
        except FileNotFoundError:
            pass  # renamed
    fs.fsync_dir(source)


def copy_file(fs: Fs, source: str, target: str) -> None:
    """A second one with the same bytes, synced. Raises OSError.

    Not another name for the same file: one bad place on the disk must not be in both.
    """
    old = fs.open(source, os.O_RDONLY)
    try:
        new = fs.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for at in range(0, fs.size(old), _COPY):
                write_all(fs, new, read_exactly(fs, old, _COPY, at), at)
            fs.fsync(new)
        finally:
            fs.close(new)
    finally:
        fs.close(old)


def _make(fs: Fs, path: str) -> None:
    try:
        fs.mkdir(path, 0o700)
    except FileExistsError:
        pass

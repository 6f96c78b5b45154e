"""A claimed file read whole, or kept as it is where it is large; and what is beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobd.core.commands import Body
from jobd.errors import InvalidError
from jobd.intake import meta
from jobd.intake.names import Claimed
from jobd.intake.spool import JobFolder

#: a payload that is larger is a file of its own beside the queue (ARCHITECTURE, "Bodies")
INLINE = 4096


class RefusedDropError(Exception):
    """The file is refused for good; the sentence goes beside it."""


class NotYetError(Exception):
    """The file is still being written to."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a claimed file brings: its owner's uid, and its bytes or (`held`) its size."""

    job: str
    claimed: Claimed
    uid: int
    payload: bytes | Body = b""
    held: int | None = None
    #: what is said beside it; None: nothing is there
    settings: dict[str, Any] | None = None

    def lighter(self) -> Load:
        """Without its bytes, where they lie in the file as well."""
        return replace(self, payload=b"") if isinstance(self.payload, bytes) else self


def load(
    folder: JobFolder,
    one: Claimed,
    most: int,
    keep: Callable[[bytes], Body],
    kept: Body | None = None,
) -> Load:
    """The claimed file: its bytes up to `most` of them, kept by `keep` where they are many.

    `kept` is what an earlier call has kept of it. A larger one is not read: it has to be synced
    (:func:`make_durable`) before it is queued. Raises RefusedDropError, NotYetError,
    FileNotFoundError, what `keep` raises.
    """
    try:
        fd, found = folder.open(one.file)
    except ValueError as error:
        raise RefusedDropError(str(error)) from None
    try:
        settings = _beside(folder, one, found.st_uid)
        if found.st_size > most:
            _let_read(fd, found)
            return Load(folder.job, one, found.st_uid, held=found.st_size, settings=settings)
        if kept is not None:
            return Load(folder.job, one, found.st_uid, kept, settings=settings)
        data = _bytes(fd, found.st_size + 1)
        now = os.fstat(fd)
    finally:
        os.close(fd)
    if now.st_uid != found.st_uid:
        raise RefusedDropError("changed its owner while it was taken")
    if len(data) != found.st_size or _changed(found, now):
        raise NotYetError(f"drop {one.given!r}: is still being written to")
    payload = data if len(data) <= INLINE else keep(data)
    return Load(folder.job, one, found.st_uid, payload, settings=settings)


def make_durable(folder: JobFolder, one: Claimed) -> None:
    """See to it that the bytes of a file that is not copied are on disk. Takes as long as that."""
    fd = os.open(one.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.claimed)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _beside(folder: JobFolder, one: Claimed, owner: int) -> dict[str, Any] | None:
    try:
        fd, found = folder.open(one.beside)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RefusedDropError(f"its .meta.toml {error}") from None
    try:
        if found.st_uid != owner:
            raise RefusedDropError("its .meta.toml belongs to another user than the file")
        text = _bytes(fd, meta.MOST + 1)
    finally:
        os.close(fd)
    try:
        return meta.read(text)
    except InvalidError as error:
        raise RefusedDropError(f"its .meta.toml: {error}") from None


def _let_read(fd: int, found: os.stat_result) -> None:
    """Whoever an attempt runs as may read the file that is mounted; its folder is closed."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o444 != 0o444:
        try:
            os.fchmod(fd, mode | 0o444)
        except PermissionError:
            pass  # another user's, and jobd is not root: it is as its owner left it


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def _bytes(fd: int, most: int) -> bytes:
    data = os.read(fd, most)
    if len(data) < most:
        while more := os.read(fd, most - len(data)):
            data += more
            if len(data) >= most:
                break
    return data

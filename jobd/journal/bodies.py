"""Bodies: payloads and results too large for the journal, each a file under a checksum.

A body is on disk, synced with its folders, before its name is handed out, so a record that names
it can be believed (ARCHITECTURE, "Bodies"). A body never changes: attempts get copies.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from jobd.core.commands import Body
from jobd.errors import (
    ConflictError,
    DiskFailedError,
    InvalidError,
    NotFoundError,
    QueueDamagedError,
    RefusedError,
)

#: how old a body must be before :meth:`Bodies.sweep` takes it, in seconds
KEEP_S = 24 * 3600
#: how many bytes are held in memory at a time
CHUNK = 256 << 10
#: bytes between two syncs of a long body
SYNC_EVERY = 4 << 20

_NAME = re.compile(r"[0-9a-f]{32}")
_UPLOADS = "uploads"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Bodies:
    """The folder of bodies: `<first two hex digits>/<32 hex digits>`, and unfinished uploads.

    Safe to use from several threads. Raises RefusedError for a full disk, DiskFailedError for one
    that fails (DURABILITY W6: a failed sync is never tried again).
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """Makes `directory` (0700) where missing. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory
        self._clock = clock
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._root)

    def put(self, data: bytes) -> Body:
        """Keep `data`; it is on disk when this returns."""
        return self.put_all([data], len(data))

    def put_all(self, pieces: Iterable[bytes], size: int = 0) -> Body:
        """Keep what `pieces` are in all, which may be more than memory holds; as :meth:`put`.

        `pieces` must raise no OSError of its own: it would be taken for one of the disk here.
        """
        name = os.urandom(16).hex()
        try:
            folder = self._folder(name[:2], make=True)
            try:
                size, crc = self._write_new(folder, f".{name}.tmp", pieces)
                os.rename(f".{name}.tmp", name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._refuse(f"body {name}", error, size)
        return Body(name, size, crc)

    def _write_new(self, folder: int, name: str, pieces: Iterable[bytes]) -> tuple[int, int]:
        fd = os.open(name, _NEW, 0o600, dir_fd=folder)
        size = crc = 0
        try:
            synced = 0
            for piece in pieces:
                _write_at(fd, piece, size)
                size += len(piece)
                crc = zlib.crc32(piece, crc)
                if size - synced >= SYNC_EVERY:
                    # all at once at the end would hold up the queue's own syncs for seconds
                    os.fdatasync(fd)
                    synced = size
            os.fsync(fd)
            return size, crc
        except OSError:
            # half a body is of no use to anyone, and a full disk needs the room
            os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def _folder(self, sub: str, make: bool = False) -> int:
        if make:
            try:
                os.mkdir(sub, 0o700, dir_fd=self._root)
                os.fsync(self._root)
            except FileExistsError:
                pass
        return os.open(sub, _DIRECTORY, dir_fd=self._root)

    def _refuse(self, what: str, error: OSError, size: int) -> NoReturn:
        """What it means that `size` bytes were not kept (0: nobody knows how many)."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RefusedError(
                f"{what}: the disk of {self._path} is full: {size or 'its'} bytes are missing; "
                "free some space there and ask again"
            ) from error
        if error.errno in (errno.EFBIG, errno.EMFILE, errno.ENFILE):
            raise RefusedError(f"{what}: not kept: {error.strerror}; try again later") from error
        raise DiskFailedError(f"{what}: not kept: {error.strerror}") from error

    def upload(self, key: bytes, offset: int, data: bytes, last: bool, *, limit: int) -> int:
        """Take a chunk of an upload; answers how many bytes are there. After `last`: on disk.

        Chunks come in order; one that was sent before may be sent again (its reply was lost).
        `key` names the upload (mix the sender's uid into it: :func:`upload_key`). Raises
        InvalidError beyond `limit` bytes, ConflictError for a chunk out of order.
        """
        name = upload_name(key)
        done = self._size_of(name)
        if done is not None:
            if offset + len(data) > done:
                raise ConflictError(f"upload {name}: is complete with {done} bytes")
            return done
        if offset + len(data) > limit:
            raise InvalidError(
                f"upload {name}: {offset + len(data)} bytes, at most {limit} are taken"
            )
        try:
            uploads = self._folder(_UPLOADS, make=True)
            try:
                return self._take_chunk(uploads, name, offset, data, last)
            finally:
                os.close(uploads)
        except OSError as error:
            self._refuse(f"upload {name}", error, len(data))

    def _take_chunk(self, uploads: int, name: str, offset: int, data: bytes, last: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=uploads)
        try:
            size = os.fstat(fd).st_size
            if offset > size:
                raise ConflictError(
                    f"upload {name}: chunk at {offset}, but {size} bytes are there; send in order"
                )
            _write_at(fd, data, offset)
            size = max(size, offset + len(data))
            if last:
                # the last chunk says where the end is, whatever an earlier try has left
                size = offset + len(data)
                os.ftruncate(fd, size)
                os.fsync(fd)
                self._settle(uploads, name)
            return size
        finally:
            os.close(fd)

    def _settle(self, uploads: int, name: str) -> None:
        folder = self._folder(name[:2], make=True)
        try:
            os.rename(name, name, src_dir_fd=uploads, dst_dir_fd=folder)
            os.fsync(folder)
            os.fsync(uploads)
        finally:
            os.close(folder)

    def uploaded(self, key: bytes) -> Body:
        """The body that a finished upload made. Raises NotFoundError where there is none."""
        name = upload_name(key)
        try:
            fd = self._open(name)
        except FileNotFoundError:
            raise NotFoundError(
                f"upload {name}: not there, not complete, or older than a day; send it again"
            ) from None
        size = crc = 0
        try:
            while chunk := os.read(fd, CHUNK):
                size += len(chunk)
                crc = zlib.crc32(chunk, crc)
        finally:
            os.close(fd)
        return Body(name, size, crc)

    def _size_of(self, name: str) -> int | None:
        try:
            fd = self._open(name)
        except FileNotFoundError:
            return None
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        if not _NAME.fullmatch(name):
            raise ValueError(f"body {name!r:.60}: not a name of 32 hex digits")
        folder = self._folder(name[:2])
        try:
            return os.open(name, _READ, dir_fd=folder)
        finally:
            os.close(folder)

    def chunks(self, body: Body) -> Iterator[bytes]:
        """The bytes of `body` in pieces of CHUNK. What was given is good only when it has ended:

        the checksum is compared at the end. Raises QueueDamagedError naming the file,
        DiskFailedError where it cannot be read, OSError where it cannot be opened just now.
        """
        path = self._path / body.name[:2] / body.name
        size = crc = 0
        try:
            fd = self._open(body.name)
        except FileNotFoundError:
            raise QueueDamagedError(f"body {path}: is missing, {body.size} bytes") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise QueueDamagedError(f"body {path}: is a link, not a body") from None
            raise
        try:
            while chunk := os.read(fd, CHUNK):
                size += len(chunk)
                crc = zlib.crc32(chunk, crc)
                if size > body.size:
                    break
                yield chunk
        except OSError as error:
            raise DiskFailedError(f"body {path}: cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)
        if (size, crc) != (body.size, body.crc):
            raise QueueDamagedError(
                f"body {path}: is damaged: {size} bytes with checksum {crc:08x}, "
                f"expected {body.size} with {body.crc:08x}"
            )

    def read_at(self, body: Body, offset: int, size: int) -> bytes:
        """Up to `size` bytes of `body` from `offset` on, not verified: who has all of them does.

        Raises QueueDamagedError where the file is not there or shorter, DiskFailedError.
        """
        path = self._path / body.name[:2] / body.name
        try:
            fd = self._open(body.name)
        except FileNotFoundError:
            raise QueueDamagedError(f"body {path}: is missing, {body.size} bytes") from None
        wanted = min(size, body.size - offset)
        try:
            data = os.pread(fd, wanted, offset)
        except OSError as error:
            raise DiskFailedError(f"body {path}: cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)
        if len(data) != wanted:
            raise QueueDamagedError(f"body {path}: is damaged: shorter than {body.size} bytes")
        return data

    def path(self, body: Body) -> Path:
        """Where the file of `body` is, for those who read files only."""
        return self._path / body.name[:2] / body.name

    def read(self, body: Body) -> bytes:
        """The bytes of `body`, verified. Raises QueueDamagedError naming the file."""
        return b"".join(self.chunks(body))

    def remove(self, name: str) -> None:
        """Remove a body that no record names any more; nothing there is as good."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"body {name!r:.60}: not a name of 32 hex digits")
        try:
            folder = self._folder(name[:2])
        except FileNotFoundError:
            return
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        finally:
            os.close(folder)

    def sweep(
        self, in_use: Container[str], older_than_s: float = KEEP_S, not_before: float = 0.0
    ) -> list[str]:
        """Remove what no record names and is older than `older_than_s` seconds; the names removed.

        The age spares what is just being made, and uploads that no run has come for yet. What is
        older than `not_before` (seconds since 1970) is kept.
        """
        removed: list[str] = []
        before = self._clock() - older_than_s
        for sub in sorted(os.listdir(self._root)):
            try:
                folder = self._folder(sub)
            except (NotADirectoryError, FileNotFoundError):
                continue
            try:
                for name in sorted(os.listdir(folder)):
                    if sub != _UPLOADS and name in in_use:
                        continue
                    if _is_old_file(folder, name, not_before, before):
                        os.unlink(name, dir_fd=folder)
                        removed.append(name)
            finally:
                os.close(folder)
        return removed


def _is_old_file(folder: int, name: str, after: float, before: float) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and after <= found.st_mtime < before


def upload_key(uid: int, key: bytes) -> bytes:
    """The key of an upload, so that no sender can meet another's."""
    return uid.to_bytes(8, "big") + key


def upload_name(key: bytes) -> str:
    """The name of the body that the upload `key` makes, the same after a restart."""
    return hashlib.blake2b(key, digest_size=16, person=b"jobd upload").hexdigest()


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done

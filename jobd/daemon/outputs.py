"""What an attempt left in OUTPUT_DIR becomes one tar, and nothing in it is believed.

Regular files and folders alone: no link is followed or kept, no name leads anywhere, sizes and
numbers are bounded (DURABILITY, rulings: what an attempt can write to). As a tar it is one file of
the daemon's own, so no name that an attempt chose is ever one on the daemon's disk.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass

#: bytes read at once
CHUNK = 256 << 10
#: files and folders that are kept, how deep, and how long a path may be
MOST, DEEPEST, LONGEST = 10_000, 32, 1_000
_BLOCK = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Entry:
    folder: int
    name: str
    #: as it is called in the tar
    path: str
    depth: int


class Packing:
    """One folder being packed; iterate :meth:`chunks` once, then look at the figures.

    `limit` bounds the bytes of all files together. Raises no OSError: what cannot be read is left
    out, and :attr:`note` says so.
    """

    def __init__(self, folder: int, limit: int) -> None:
        """`folder` is a descriptor, which stays the caller's."""
        self._root = folder
        self._limit = limit
        self._left: Counter[str] = Counter()
        #: kept: regular files, and all entries; bytes of the files
        self.files = self.entries = self.size = 0

    @property
    def note(self) -> str | None:
        """What was left out, and why; None where all was kept."""
        if not self._left:
            return None
        parts = [f"{count} {why}" for why, count in sorted(self._left.items())]
        return f"output not kept whole: left out: {', '.join(parts)}"

    def chunks(self) -> Generator[bytes, None, None]:
        """The tar, piece by piece; no piece at all where there is nothing to keep."""
        yield from self._folder(self._root, "", 1)
        if self.entries:
            yield bytes(2 * _BLOCK)

    def _folder(self, folder: int, prefix: str, depth: int) -> Iterator[bytes]:
        taken: set[str] = set()
        for name in self._names(folder):
            clean = sanitised(name)
            entry = _Entry(folder, name, prefix + clean, depth)
            if clean in taken:
                self._left["whose names differ by control characters alone"] += 1
            elif len(entry.path) > LONGEST:
                self._left["with a longer path than is kept"] += 1
            elif self.entries >= MOST:
                self._left[f"beyond {MOST} files and folders"] += 1
            else:
                taken.add(clean)
                yield from self._entry(entry)

    def _names(self, folder: int) -> list[str]:
        """Sorted, so that what is kept of too many does not depend on chance."""
        try:
            with os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries)
        except OSError:
            self._left["that could not be read"] += 1
            return []

    def _entry(self, entry: _Entry) -> Iterator[bytes]:
        try:
            # looked at first: opening a device or a pipe may do something
            mode = os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and entry.depth >= DEEPEST:
                self._left[f"deeper than {DEEPEST} folders"] += 1
                return
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                self._left["links, pipes, sockets or devices"] += 1
                return
            flags = _DIRECTORY if stat.S_ISDIR(mode) else _READ
            fd = os.open(entry.name, flags, dir_fd=entry.folder)
        except OSError:
            self._left["that could not be read"] += 1
            return
        try:
            if flags == _DIRECTORY:
                self.entries += 1
                yield header(entry.path + "/", tarfile.DIRTYPE, os.fstat(fd))
                yield from self._folder(fd, entry.path + "/", entry.depth + 1)
            else:
                yield from self._file(fd, entry)
        finally:
            os.close(fd)

    def _file(self, fd: int, entry: _Entry) -> Iterator[bytes]:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            self._left["links, pipes, sockets or devices"] += 1
        elif found.st_nlink != 1:
            # another name may be one that the attempt itself could not read
            self._left["with other names (hard links)"] += 1
        elif self.size + found.st_size > self._limit:
            self._left[f"beyond {self._limit} bytes in all"] += 1
        else:
            self.size += found.st_size
            self.files += 1
            self.entries += 1
            yield header(entry.path, tarfile.REGTYPE, found)
            yield from self._content(fd, found.st_size)

    def _content(self, fd: int, size: int) -> Iterator[bytes]:
        """As many bytes as the header says, whatever becomes of the file meanwhile."""
        left = size
        while left:
            try:
                data = os.read(fd, min(CHUNK, left))
            except OSError:
                data = b""
            if not data:
                self._left["that changed while it was read: its end is zeros"] += 1
                while left:
                    yield bytes(min(CHUNK, left))
                    left -= min(CHUNK, left)
                break
            left -= len(data)
            yield data
        if size % _BLOCK:
            yield bytes(_BLOCK - size % _BLOCK)


def header(path: str, kind: bytes, found: os.stat_result) -> bytes:
    """The blocks before a file's content: its name, size, time, and whether it can be executed."""
    info = tarfile.TarInfo(path)
    info.type = kind
    info.size = found.st_size if kind == tarfile.REGTYPE else 0
    info.mtime = int(found.st_mtime)
    info.mode = 0o755 if kind == tarfile.DIRTYPE or found.st_mode & 0o100 else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def sanitised(name: str) -> str:
    """A file's name with `%XX` for every byte that is not of a printable character of UTF-8."""
    if name.isprintable():
        return name
    raw = (c if c.isprintable() else c.encode("utf-8", "surrogateescape") for c in name)
    return "".join(c if isinstance(c, str) else "".join(f"%{b:02X}" for b in c) for c in raw)

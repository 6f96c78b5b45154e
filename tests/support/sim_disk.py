"""A disk in memory that forgets what was not synced, as a real one may after a power cut.

After SQLite's and LevelDB's test layers: every change is kept apart from what is durable until
its sync, and a cut keeps, loses or tears each part of it. What it knows of the real one: file
data and directory entries are made durable apart; a failed sync leaves the page cache showing
what the disk does not hold, and a second sync on that descriptor reports success.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from jobd.journal.fsutil import Fs

SECTOR = 512


class PowerCut(BaseException):
    """The machine went off inside an operation; nothing may catch this but a test."""


@dataclass(eq=False)
class File:
    disk: bytes = b""
    cache: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut at offset
    reserved: int = 0
    lock: int | None = None

    def used(self) -> int:
        return max(len(self.cache), self.reserved)

    def flush(self) -> None:
        """Writes the dirty pages; what a failed sync has marked clean is not among them."""
        data = bytearray(self.disk)
        for offset, piece in self.pending:
            stop = offset + len(piece or b"")
            data.extend(bytes(max(0, stop - len(data))))
            data[offset : stop if piece is not None else len(data)] = piece or b""
        self.disk = bytes(data)
        self.pending.clear()

    def torn(self, rng: random.Random) -> bytes:
        """What the disk holds when each pending sector made it or did not."""
        data = bytearray(self.disk)
        for offset, piece in self.pending:
            if piece is None:
                if rng.random() < 0.5:
                    del data[offset:]
                    data.extend(bytes(offset - len(data)))
                continue
            for start in range(offset // SECTOR * SECTOR, offset + len(piece), SECTOR):
                if rng.random() < 0.5:
                    continue
                low, high = max(start, offset), min(start + SECTOR, offset + len(piece))
                if len(data) < high:
                    data.extend(bytes(high - len(data)))
                data[low:high] = piece[low - offset : high - offset]
        return bytes(data)


@dataclass(eq=False)
class Folder:
    entries: dict[str, File | Folder] = field(default_factory=dict)
    disk: dict[str, File | Folder] = field(default_factory=dict)
    #: unsynced changes in order: the entries as they are after each
    pending: list[dict[str, File | Folder]] = field(default_factory=list)

    def changed(self) -> None:
        self.pending.append(dict(self.entries))

    def flush(self) -> None:
        self.disk = dict(self.entries)
        self.pending.clear()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class SimDisk(Fs):
    """One file system; its root is `/`. `cut_at` stops the machine in that mutating operation."""

    def __init__(self, *, capacity: int = 1 << 40, fallocates: bool = True) -> None:
        self.root = Folder()
        self.capacity = capacity
        self.fallocates = fallocates
        self.ops = 0
        self.log: list[str] = []
        self.cut_at = -1
        self.off = False
        #: asked before each mutating operation; an errno it gives is that operation's result
        self.fault: Callable[[str, int], int | None] = lambda kind, op: None
        #: the next so many writes take only half of what they are given
        self.short_writes = 0
        self._fds: dict[int, tuple[File, str]] = {}
        self._failed_fds: set[int] = set()
        self._next_fd = 100

    # --- what a test does -----------------------------------------------------------------

    def exit_process(self) -> None:
        """kill -9: descriptors and locks go, the cache stays."""
        for fd in list(self._fds):
            self.close(fd)
        self.cut_at = -1
        self.fault = lambda kind, op: None

    def after_cut(self, mode: str, seed: int = 0) -> SimDisk:
        """The disk when the power is back: unsynced parts `lost`, `kept` or `torn`."""
        rng = random.Random(seed)
        new = SimDisk(capacity=self.capacity, fallocates=self.fallocates)
        made: dict[int, File] = {}

        def copy(folder: Folder) -> Folder:
            states = [folder.disk, *folder.pending]
            choice = {"lost": 0, "kept": len(states) - 1}.get(mode, rng.randrange(len(states)))
            entries: dict[str, File | Folder] = {}
            for name, node in states[choice].items():
                if isinstance(node, Folder):
                    entries[name] = copy(node)
                elif id(node) in made:
                    entries[name] = made[id(node)]
                else:
                    data = {"lost": node.disk, "kept": bytes(node.cache)}.get(mode)
                    data = node.torn(rng) if data is None else data
                    entries[name] = made[id(node)] = File(data, bytearray(data))
            return Folder(entries, dict(entries))

        new.root = copy(self.root)
        return new

    def snapshot(self) -> SimDisk:
        """The same disk, all of it durable, to be damaged by a test."""
        return self.after_cut("kept")

    def file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File)
        return node

    def put(self, path: str, data: bytes) -> None:
        """Places durable bytes at `path`."""
        folder, name = self._parent(path)
        folder.entries[name] = folder.disk[name] = File(bytes(data), bytearray(data))

    def remove(self, path: str) -> None:
        folder, name = self._parent(path)
        del folder.entries[name], folder.disk[name]

    def data(self, path: str) -> bytes:
        return bytes(self.file(path).cache)

    def open_files(self) -> int:
        return len(self._fds)

    # --- inside ---------------------------------------------------------------------------

    def _node(self, path: str) -> File | Folder:
        node: File | Folder = self.root
        for part in path.strip("/").split("/"):
            if not part:
                continue
            if not isinstance(node, Folder) or part not in node.entries:
                raise _error(errno.ENOENT)
            node = node.entries[part]
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        head, name = os.path.split(path)
        folder = self._node(head)
        assert isinstance(folder, Folder)
        return folder, name

    def _step(self, kind: str) -> bool:
        """Counts one operation; True where the power goes in it. Raises an injected error."""
        if self.off:
            raise PowerCut
        self.ops += 1
        self.log.append(kind)
        number = self.fault(kind, self.ops)
        if number is not None:
            raise _error(number)
        # nothing that the code does on its way out may reach the disk
        self.off = self.ops == self.cut_at
        return self.off

    def _used(self, folder: Folder | None = None) -> int:
        nodes = (folder or self.root).entries.values()
        return sum(self._used(n) if isinstance(n, Folder) else n.used() for n in nodes)

    def _get(self, fd: int) -> File:
        if fd not in self._fds:
            raise _error(errno.EBADF)
        return self._fds[fd][0]

    # --- what the journal calls -----------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        folder, name = self._parent(path)
        if name not in folder.entries:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT)
            cut = self._step("create")
            folder.entries[name] = File()
            folder.changed()
            if cut:
                raise PowerCut
        elif flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        node = folder.entries[name]
        if isinstance(node, Folder):
            raise _error(errno.EISDIR)
        self._next_fd += 1
        self._fds[self._next_fd] = (node, path)
        return self._next_fd

    def close(self, fd: int) -> None:
        if self.off:
            return
        node = self._get(fd)
        if node.lock == fd:
            node.lock = None
        del self._fds[fd]

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        node = self._get(fd)
        cut = self._step("write")
        room = max(0, self.capacity - self._used()) + max(0, node.used() - offset)
        piece = bytes(data[: max(0, room)])
        if self.short_writes:
            self.short_writes -= 1
            piece = piece[: len(data) // 2]
        if not piece and len(data):
            raise _error(errno.ENOSPC)
        if len(node.cache) < offset + len(piece):
            node.cache.extend(bytes(offset + len(piece) - len(node.cache)))
        node.cache[offset : offset + len(piece)] = piece
        node.pending.append((offset, piece))
        if cut:
            raise PowerCut
        return len(piece)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return bytes(self._get(fd).cache[offset : offset + count])

    def fdatasync(self, fd: int) -> None:
        self._sync(fd, "datasync")

    def fsync(self, fd: int) -> None:
        self._sync(fd, "sync")

    def _sync(self, fd: int, kind: str) -> None:
        node = self._get(fd)
        assert fd not in self._failed_fds, "a second sync on a descriptor whose sync has failed"
        try:
            if self._step(kind):
                raise PowerCut
        except OSError:
            # the pages are marked clean all the same: the cache lies from now on
            self._failed_fds.add(fd)
            node.pending.clear()
            raise
        node.flush()

    def fsync_dir(self, path: str) -> None:
        folder = self._node(path)
        assert isinstance(folder, Folder)
        if self._step("dirsync"):
            raise PowerCut
        folder.flush()

    def hold_dir(self, path: str) -> None:
        assert isinstance(self._node(path), Folder)

    def let_go(self, path: str) -> None:
        pass

    def fallocate(self, fd: int, size: int) -> bool:
        node = self._get(fd)
        if not self.fallocates:
            return False
        cut = self._step("fallocate")
        if self._used() - node.used() + max(size, node.used()) > self.capacity:
            raise _error(errno.ENOSPC)
        node.reserved = max(node.reserved, size)
        if cut:
            raise PowerCut
        return True

    def truncate(self, fd: int, size: int) -> None:
        node = self._get(fd)
        cut = self._step("truncate")
        del node.cache[size:]
        node.cache.extend(bytes(size - len(node.cache)))
        node.reserved = 0
        node.pending.append((size, None))
        if cut:
            raise PowerCut

    def size(self, fd: int) -> int:
        return len(self._get(fd).cache)

    def stat(self, path: str) -> os.stat_result:
        node = self._node(path)
        folder = isinstance(node, Folder)
        mode = stat.S_IFDIR | 0o700 if folder else stat.S_IFREG | 0o600
        size = 0 if isinstance(node, Folder) else len(node.cache)
        return os.stat_result((mode, 0, 0, 1, os.geteuid(), os.getegid(), size, 0, 0, 0))

    lstat = stat

    def rename(self, source: str, target: str) -> None:
        old, old_name = self._parent(source)
        new, new_name = self._parent(target)
        cut = self._step("rename")
        new.entries[new_name] = old.entries.pop(old_name)
        old.changed()
        if new is not old:
            new.changed()
        if cut:
            raise PowerCut

    def link(self, source: str, target: str) -> None:
        old, old_name = self._parent(source)
        new, new_name = self._parent(target)
        if new_name in new.entries:
            raise _error(errno.EEXIST)
        cut = self._step("link")
        new.entries[new_name] = old.entries[old_name]
        new.changed()
        if cut:
            raise PowerCut

    def unlink(self, path: str) -> None:
        folder, name = self._parent(path)
        if name not in folder.entries:
            raise _error(errno.ENOENT)
        cut = self._step("unlink")
        del folder.entries[name]
        folder.changed()
        if cut:
            raise PowerCut

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        folder, name = self._parent(path)
        if name in folder.entries:
            raise _error(errno.EEXIST)
        cut = self._step("mkdir")
        folder.entries[name] = Folder()
        folder.changed()
        if cut:
            raise PowerCut

    def rmdir(self, path: str) -> None:
        folder, name = self._parent(path)
        node = folder.entries[name]
        assert isinstance(node, Folder)
        if node.entries:
            raise _error(errno.ENOTEMPTY)
        cut = self._step("rmdir")
        del folder.entries[name]
        folder.changed()
        if cut:
            raise PowerCut

    def listdir(self, path: str) -> list[str]:
        folder = self._node(path)
        assert isinstance(folder, Folder)
        return sorted(folder.entries)

    def drop_cache(self, fd: int) -> None:
        node = self._get(fd)
        if not node.pending:
            node.cache = bytearray(node.disk)

    def try_lock(self, fd: int) -> bool:
        node = self._get(fd)
        if node.lock is not None:
            return False
        node.lock = fd
        return True

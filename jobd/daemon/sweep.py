"""Removes a folder that somebody else could write to: no link followed, no depth too deep."""

from __future__ import annotations

import os
from itertools import islice

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SLICE = 4096


def remove_tree(parent: int, name: str) -> bool:
    """Remove `name` in the folder `parent` (a descriptor) with all in it; nothing there is fine.

    False where something stays (another user's, busy): it is left beside as `.removing.*` for
    the next time. Needs a fixed number of descriptors and no recursion: an attempt can nest
    folders deeper than Python's stack and PATH_MAX, so folders are lifted out before they are
    emptied. Raises no OSError.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass  # a folder, or something that stays
    waiting = [name]
    clean = True
    lift = _Lift(parent, f".removing.{name}")
    while waiting:
        current = waiting.pop()
        try:
            clean = _empty(current, lift) and clean
            waiting.extend(lift.take())
            os.rmdir(current, dir_fd=parent)
        except FileNotFoundError:
            continue
        except OSError:
            clean = False
            waiting.extend(lift.take())
    return clean


class _Lift:
    """Moves folders up into `parent` under names of its own."""

    def __init__(self, parent: int, stem: str) -> None:
        self.parent = parent
        self._stem = stem
        self._count = 0
        self._lifted: list[str] = []

    def lift(self, folder: int, entry: str) -> None:
        """Move `entry` of `folder` up. Raises OSError."""
        free = self._free_name()
        try:
            os.rename(entry, free, src_dir_fd=folder, dst_dir_fd=self.parent)
        except PermissionError:
            # moving a folder changes its "..": one without a right to write is opened up first
            os.close(_open(folder, entry))
            os.rename(entry, free, src_dir_fd=folder, dst_dir_fd=self.parent)
        self._lifted.append(free)

    def take(self) -> list[str]:
        """The names lifted since the last call."""
        taken, self._lifted = self._lifted, []
        return taken

    def _free_name(self) -> str:
        while True:
            name = f"{self._stem}.{self._count}"
            self._count += 1
            try:
                os.stat(name, dir_fd=self.parent, follow_symlinks=False)
            except FileNotFoundError:
                return name


def _empty(name: str, lift: _Lift) -> bool:
    """Unlink the files of a folder and lift its folders out; whether nothing stayed."""
    fd = _open(lift.parent, name)
    try:
        while True:
            # a slice at a time: an attempt can leave a million files
            with os.scandir(fd) as entries:
                names = [entry.name for entry in islice(entries, _SLICE)]
            stayed = sum(not _take_out(fd, entry, lift) for entry in names)
            if stayed == len(names) or (not stayed and len(names) < _SLICE):
                return not stayed
    finally:
        os.close(fd)


def _take_out(folder: int, entry: str, lift: _Lift) -> bool:
    try:
        os.unlink(entry, dir_fd=folder)
        return True
    except OSError:
        pass  # a folder, or something that stays
    try:
        os.rmdir(entry, dir_fd=folder)
        return True
    except NotADirectoryError:
        return False
    except OSError:
        pass  # something is in it
    try:
        lift.lift(folder, entry)
    except OSError:
        return False
    return True


def _open(parent: int, name: str) -> int:
    """The folder `name`, its mode opened up where it is ours; a link is refused by OSError."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # without a right to read: O_PATH needs none. chmod by name would follow a link
        mark = os.open(name, _MARK, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{mark}", 0o700)
        finally:
            os.close(mark)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(fd, 0o700)
    except OSError:
        pass  # another user's: what cannot be unlinked says so
    return fd

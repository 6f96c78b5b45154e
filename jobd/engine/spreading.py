"""Keeps folders that come and go by the hundred cheap to make, on ext4."""

from __future__ import annotations

import array
import fcntl
import os
from pathlib import Path

#: linux/fs.h: read and set a file's flags; ext4: what is made in this folder has nothing to do
#: with each other (chattr +T)
_GET, _SET, _TOP_DIR = 0x80086601, 0x40086602, 0x00020000


def spread(folder: Path) -> None:
    """Have the folders that are made in this one spread over the whole file system.

    ext4 looks at each inode that was removed within the last minute or five before it takes a free
    one of the same group: where folders are made and removed at 50 a second, that was an eighth of
    all the daemon's time. Elsewhere nothing happens. Raises no OSError.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET, flags)
        if not flags[0] & _TOP_DIR:
            fcntl.ioctl(fd, _SET, array.array("l", [flags[0] | _TOP_DIR]))
    except OSError:
        pass  # a file system that has no flags, or not this one
    finally:
        os.close(fd)

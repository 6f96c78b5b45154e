"""Whether a file is open for writing, and where inotify tells nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

#: file systems that others write to: the kernel here hears nothing of that (inotify(7))
_REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "glusterfs", "lustre", "virtiofs")


def is_written(fd: int) -> bool | None:
    """Whether anybody has the file open for writing; None where the kernel does not say.

    By a lease, which it gives only where nobody has (fcntl(2)): to the file's owner, and to root.
    """
    try:
        # who opens the file meanwhile makes the kernel send a signal: one that nobody minds
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def is_remote(path: str) -> bool:
    """Whether what others do there has to be looked for again and again."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    best, kind = -1, b""
    real = os.fsencode(os.path.realpath(path))
    for line in lines:
        fields = line.split(b" ")
        place = fields[4].replace(b"\\040", b" ")
        inside = real == place or real.startswith(place.rstrip(b"/") + b"/")
        if inside and len(place) >= best:
            best, kind = len(place), fields[fields.index(b"-") + 1]
    return kind.decode("ascii", "replace").startswith(_REMOTE)

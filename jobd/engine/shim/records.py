"""What the shim writes for others to read, and who a process is. For both sides."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself costs a millisecond of every start
if TYPE_CHECKING:
    from collections.abc import Mapping

#: what a shim says over its channel, each with what follows in one message: the record `started`;
#: the record `exit` (a command that could not be executed, or one that has ended); why nothing was
#: begun. And what it is told: that its daemon has the end on the disk
STARTED, REFUSED, ENDED, FAILED = b"started ", b"refused ", b"ended ", b"failed "
DONE = b"done"
#: an order comes in messages of this size; its last field says that it is whole
PIECE = 32 << 10

#: what the record of the end may take; in its file the last words follow behind that
RESERVED = 4096

#: for a file that must not be there yet
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
#: for one that may be left of an earlier try
AGAIN = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def process_state(pid: int) -> tuple[str, str]:
    """`(state letter, start in the kernel's ticks)`; the start tells a process from a later one
    with the same number. Raises OSError where there is none."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields[0].decode(), fields[19].decode()


_boot = ""


def boot_id() -> str:
    """Which start of the kernel this is."""
    global _boot  # no process sees another
    if not _boot:
        _boot = read("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot


def read(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises OSError. By hand: a file object costs six calls of the kernel more."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = piece = os.read(fd, 8 << 10)
        while piece:
            piece = os.read(fd, 64 << 10)
            data += piece
        return data
    finally:
        os.close(fd)


def encode(fields: Mapping[str, object]) -> bytes:
    """Fields as lines of `key value`; whole where the last one is `end`."""
    lines = [f"{key} {' '.join(str(value).split())}\n" for key, value in fields.items()]
    return "".join([*lines, "end\n"]).encode("utf-8", "replace")


def decode(data: bytes) -> dict[str, str] | None:
    """The fields, or None where they are not all there."""
    lines = data.rstrip(b"\0").decode("utf-8", "replace").split("\n")
    if lines[-2:] != ["end", ""]:
        return None
    return dict(line.partition(" ")[::2] for line in lines[:-2])

"""By what is known which files changed since a moment: their own times, and a number for each."""

from __future__ import annotations

import ctypes
import os
import struct
from hashlib import blake2b

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _NOFOLLOW, _BTIME = -100, 0x100, 0x800
#: of `struct statx`: which fields are there, and when the file was made (seconds, nanoseconds)
_MASK, _MADE = struct.Struct("=I"), struct.Struct("=qI")
_MADE_AT = 80


def number_of(path: bytes, changed_ns: int) -> int:
    """What stands for one state of a file, in 63 bits."""
    digest = blake2b(b"%d %s" % (changed_ns, path), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def made_ns(path: bytes) -> int | None:
    """When the file was made (ns UTC); None where the file system or the kernel does not know."""
    call = getattr(_libc, "statx", None)
    if call is None:
        return None
    buffer = ctypes.create_string_buffer(256)
    if call(_AT_FDCWD, ctypes.c_char_p(path), _NOFOLLOW, _BTIME, buffer) != 0:
        return None
    if not _MASK.unpack_from(buffer)[0] & _BTIME:
        return None
    seconds, nanos = _MADE.unpack_from(buffer, _MADE_AT)
    return int(seconds * 1_000_000_000 + nanos)


def happened(path: bytes, found: os.stat_result, mark: int, wanted: tuple[str, ...]) -> str | None:
    """What of `wanted` has happened to a file since `mark` (ns UTC), by its times; or None.

    A file that was moved keeps the time of its bytes; so does one whose mode was changed.
    """
    if found.st_ctime_ns < mark:
        return None
    made = made_ns(path)
    is_new = (found.st_ctime_ns if made is None else made) >= mark
    if "closed" in wanted and (is_new or found.st_mtime_ns >= mark):
        return "closed"
    if is_new:
        return "created" if "created" in wanted else None
    return "moved" if "moved" in wanted and found.st_mtime_ns < mark else None

"""The only door to msgpack: fixed options, and limits on size and depth.

Nothing that came from outside is unpacked anywhere else, so no caller can forget a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from jobd.errors import UsageError

#: what one frame on the socket may hold, in bytes (DURABILITY, rulings)
MAX_FRAME = 1 << 20
#: how deep maps and arrays may be nested in what others send
MAX_DEPTH = 16
#: maps and arrays in what others send: a million of one byte each would take 64 MiB and a second
MAX_CONTAINERS = 50_000

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
#: what msgpack makes of maps and arrays: these very types, never a subclass
_NESTED = frozenset({dict, list})


def pack(value: Any) -> bytes:
    """`value` as msgpack bytes. Not thread-safe: the core loop's own packer."""
    packed: bytes = _packer.pack(value)
    return packed


def pack_shared(value: Any) -> bytes:
    """Like :func:`pack`, for other threads."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """The value in `data`, which this program wrote and checked by a checksum."""
    return msgpack.unpackb(data, strict_map_key=False, use_list=True)


def unpack_foreign(data: bytes | memoryview, *, limit: int = MAX_FRAME) -> Any:
    """The value in `data`, which somebody else wrote.

    Raises UsageError when it is longer than `limit` bytes, nested deeper than MAX_DEPTH, has over
    MAX_CONTAINERS maps and arrays, a map key that is not text or bytes, an extension type, or is
    not one whole msgpack value.
    """
    if len(data) > limit:
        raise UsageError(f"message of {len(data)} bytes: at most {limit} are taken")
    try:
        count = _counter()
        value = msgpack.unpackb(
            data,
            strict_map_key=True,
            use_list=True,
            list_hook=count,
            object_hook=count,
            ext_hook=_refuse_extension,
            max_ext_len=0,
        )
    except UsageError:
        raise
    except (ValueError, RecursionError, TypeError) as error:
        # msgpack's own errors are ValueErrors; an unhashable map key is a TypeError
        raise UsageError(f"message is not valid msgpack: {error or type(error).__name__}") from None
    if type(value) in _NESTED and _too_deep(value, MAX_DEPTH):
        raise UsageError(f"message is nested deeper than {MAX_DEPTH} levels")
    return value


def _counter() -> Callable[[Any], Any]:
    """Gives back what it is given, so many times and no more."""
    left = MAX_CONTAINERS

    def count(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise UsageError(f"message has more than {MAX_CONTAINERS} maps and arrays")
        return value

    return count


def _refuse_extension(code: int, data: bytes) -> Any:
    raise UsageError(f"message holds msgpack extension type {code}: none is taken")


def _too_deep(value: dict[Any, Any] | list[Any], left: int) -> bool:
    if left == 0:
        return True
    for item in value.values() if type(value) is dict else value:
        if type(item) in _NESTED and _too_deep(item, left - 1):
            return True
    return False

"""Sets one flipped bit right, by the checksum over the bytes that it is in.

A single flipped bit changes a CRC-32 in a way that no other single one does, so it can be found.
Several flipped bits may look like one elsewhere: what is mended here is shown to a person and
never acted on by itself.
"""

from __future__ import annotations

from zlib import crc32

#: longer ones are left as they are: the search takes half a second for so many bytes
MOST = 1 << 20

_TABLE = [crc32(bytes((n,))) ^ crc32(b"\0") for n in range(256)]
#: what each bit of the last byte does to the checksum
_LAST = {_TABLE[1 << bit]: bit for bit in range(8)}
#: the table's entry by its highest byte, which is unique: one step of a CRC undone
_BY_TOP = {entry >> 24: n for n, entry in enumerate(_TABLE)}


def mend(data: bytes, stored: int, seed: int = 0) -> bytes | None:
    """`data` as it was before one of its bits, or one of `stored`'s, was flipped; None otherwise.

    `stored` is the CRC-32 that was kept of it, begun with `seed`.
    """
    residue = crc32(data, seed) ^ stored
    if residue & (residue - 1) == 0:
        return data  # it fits, or the bit is one of the checksum's own
    if len(data) > MOST:
        return None
    for back in range(len(data)):
        bit = _LAST.get(residue)
        if bit is not None:
            changed = bytearray(data)
            changed[-1 - back] ^= 1 << bit
            return bytes(changed)
        number = _BY_TOP[residue >> 24]
        residue = ((residue ^ _TABLE[number]) << 8 | number) & 0xFFFFFFFF
    return None

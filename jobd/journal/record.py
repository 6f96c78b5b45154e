"""The bytes of batches and records, exactly as FORMAT.md says.

Nothing here touches a file. What is written often (a batch) is packed without making an object
per record; what is read once (a segment's header) is a small class in `segment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

#: the first bytes of every batch
BATCH_MAGIC = b"JBAT"
#: magic, flags, records, salt, lsn, synced watermark, payload length, payload CRC, previous CRC
_BATCH = Struct("<4sHHQQQIII")
#: the same with the CRC of those 44 bytes behind it
BATCH = Struct("<4sHHQQQIIII")
BATCH_BYTES = BATCH.size
BATCH_CRC_AT = _BATCH.size
#: what one batch may hold (FORMAT.md, "Limits")
MAX_RECORDS = 0xFFFF
MAX_PAYLOAD = 16 << 20

#: body length, type, kind, zero, id, revision, body CRC
_FRAME = Struct("<IBBHQII")
#: the same with the CRC of those 24 bytes, seeded by the segment's salt, behind it
FRAME = Struct("<IBBHQIII")
FRAME_BYTES = FRAME.size
FRAME_CRC_AT = _FRAME.size
_U32 = Struct("<I")
_U64 = Struct("<Q")

#: flags of a batch; an unknown one of the low eight must be understood, a high one need not be
CLEAN = 1
IDLE = 2
KNOWN_FLAGS = CLEAN | IDLE
MUST_KNOW_FLAGS = 0x00FF

#: bit 7 of the stored type: readers that do not know the type skip the record (DURABILITY, layout)
IGNORABLE = 0x80
TYPE_MASK = 0x7F

_ZEROS = (b"", b"\0", b"\0\0", b"\0\0\0", b"\0" * 4, b"\0" * 5, b"\0" * 6, b"\0" * 7)


class RecordIn(NamedTuple):
    """One record to be written: the state of one thing after one change.

    `type` is 0..127, with `IGNORABLE` added where a reader that does not know it may skip it.
    """

    type: int
    kind: int
    id: int
    revision: int
    body: bytes


#: the same as a plain tuple, which costs a fifth to make: the hot path makes one for each event
RecordFields = tuple[int, int, int, int, bytes]


class Record(NamedTuple):
    """One record as replay yields it; `where` is what `Journal.read` takes."""

    type: int
    kind: int
    id: int
    revision: int
    body: bytes
    where: int
    lsn: int


class Named(NamedTuple):
    """A record known by its frame alone: `whole` says whether its body is intact too."""

    type: int
    kind: int
    id: int
    revision: int
    offset: int
    whole: bool


def record_cost(body_bytes: int) -> int:
    """The bytes that a record with a body of `body_bytes` takes in a batch."""
    return (FRAME_BYTES + body_bytes + 3) & ~3


def seed_of(salt: int) -> int:
    """What the CRC of a record's frame starts from, so that a frame of another segment fails."""
    return crc32(_U64.pack(salt))


def encode_batch(
    records: Sequence[RecordFields],
    base: int,
    salt: int,
    seed: int,
    lsn: int,
    watermark: int,
    previous: int,
    flags: int,
) -> tuple[bytes, int, list[int]]:
    """One whole batch at `base`: its bytes, the CRC of its header, `where` of each record.

    Raises ValueError for more than a batch may hold, and struct.error for a number out of its
    range; nothing was written then. The loop makes no object per record but its bytes: this is
    the hot path.
    """
    parts: list[bytes] = []
    add = parts.append
    where: list[int] = []
    at = BATCH_BYTES
    pack_frame, pack_u32 = _FRAME.pack, _U32.pack
    for type_, kind, id_, revision, body in records:
        size = len(body)
        frame = pack_frame(size, type_, kind, 0, id_, revision, crc32(body))
        add(frame + pack_u32(crc32(frame, seed)))
        add(body)
        where.append(base + at)
        if size & 3:
            add(_ZEROS[-size & 3])
        at += (FRAME_BYTES + size + 3) & ~3
    if at & 7:
        add(_ZEROS[4])
        at += 4
    length = at - BATCH_BYTES
    if length > MAX_PAYLOAD or len(where) > MAX_RECORDS:
        raise ValueError(
            f"batch of {len(where)} records, {length} bytes: at most {MAX_RECORDS} records and"
            f" {MAX_PAYLOAD} bytes go into one"
        )
    payload = b"".join(parts)
    head = _BATCH.pack(
        BATCH_MAGIC, flags, len(where), salt, lsn, watermark, length, crc32(payload), previous
    )
    crc = crc32(head)
    return head + pack_u32(crc) + payload, crc, where


def named_in(data: bytes, seed: int, offset: int) -> Iterator[Named]:
    """The records whose frame verifies anywhere in `data`, which starts at file offset `offset`.

    A length is used only after the frame's own CRC has vouched for it. Behind a frame that
    verifies the search goes on after its body, so that log bytes inside a body are not named.
    """
    at = -offset & 3
    last = len(data) - FRAME_BYTES
    while at <= last:
        # two zero bytes in each frame spare the checksum at most of the places that are none
        if data[at + 6] or data[at + 7]:
            at += 4
            continue
        size, type_, kind, _, id_, revision, body_crc, frame_crc = FRAME.unpack_from(data, at)
        if crc32(data[at : at + FRAME_CRC_AT], seed) != frame_crc:
            at += 4
            continue
        start = at + FRAME_BYTES
        whole = start + size <= len(data) and crc32(data[start : start + size]) == body_crc
        yield Named(type_ & TYPE_MASK, kind, id_, revision, offset + at, whole)
        at += record_cost(size) if whole else FRAME_BYTES

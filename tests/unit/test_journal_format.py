"""FORMAT.md is enough to read the queue: a second reader, written from it alone, agrees."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.journal import IGNORABLE, Fs, Journal, RecordIn
from jobd.journal.record import encode_batch, seed_of
from jobd.journal.segment import Header, Predecessor, pack_header
from jobd.journal.snapshot import SnapshotWriter
from tests.support.sim_disk import SimDisk

GOLDEN = (
    "4a42415400000200887766554433221107000000000000000600000000000000400000008f84028c124298b828a06386"
    "050000000102000003000000000000000400000065d8878584a061056162636465000000"
    "00000000850600000700000000000000080000000000000039bedac4"
)

Row = tuple[int, int, int, int, bytes, int]

# --- the second reader: nothing of jobd below this line -----------------------------------------


def second_reader(folder: Path) -> Iterator[Row]:
    """(type, kind, id, revision, body, lsn) of every record; ValueError where it must refuse."""
    last: tuple[int, int, int, int] | None = None
    store = b""
    covered = 0
    snapshots = sorted(folder.glob("snap-*.snap"))
    while snapshots:
        statements = list(second_snapshot(snapshots.pop().read_bytes()))
        if statements:
            (store, covered, last), *rest = statements
            yield from rest
            break
    for path in sorted(folder.glob("seg-*.log")):
        if int(path.name[4:24]) <= covered:
            continue
        data = path.read_bytes()
        magic, major, _minor, size = struct.unpack_from("<8sHHI", data, 0)
        if magic != b"JOBDSEG\n" or size > 65536 or len(data) < size:
            raise ValueError(f"{path.name}: no header")
        (crc,) = struct.unpack_from("<I", data, size - 4)
        if zlib.crc32(data[: size - 4]) != crc:
            raise ValueError(f"{path.name}: header checksum")
        if major != 1:
            raise ValueError(f"{path.name}: version {major}")
        its_store, salt, first, _ms, *link, bits = struct.unpack_from("<16sQQQQQQII", data, 16)
        if path.name != f"seg-{first:020d}.log" or (store and its_store != store):
            raise ValueError(f"{path.name}: not this queue's")
        if (tuple(link) if bits & 1 else None) != last or first != (last[2] + 1 if last else 1):
            raise ValueError(f"{path.name}: predecessor")
        store = its_store
        at, lsn, chain = size, first - 1, crc
        flags = 0
        while flags & 1 == 0 and at + 48 <= len(data):
            (magic4, flags_, count, its_salt, its_lsn, mark, length, body_crc, before, head_crc) = (
                struct.unpack_from("<4sHHQQQIIII", data, at)
            )
            payload = data[at + 48 : at + 48 + length]
            if (
                (magic4, its_salt, its_lsn, before) != (b"JBAT", salt, lsn + 1, chain)
                or zlib.crc32(data[at : at + 44]) != head_crc
                or mark >= its_lsn
                or length > 16 << 20
                or len(payload) < length
                or zlib.crc32(payload) != body_crc
            ):
                break
            if flags_ & 0xFC:
                raise ValueError(f"{path.name}: flags at {at}")
            yield from records(payload, count, zlib.crc32(struct.pack("<Q", salt)), its_lsn)
            at, lsn, chain, flags = at + 48 + length, its_lsn, head_crc, flags_
        if data[at:].strip(b"\0"):
            raise ValueError(f"{path.name}: torn or damaged at {at}")
        if at > size:
            last = (first, at, lsn, chain)


def second_snapshot(data: bytes) -> list[Any]:
    """[(store, lsn, predecessor)], then its statements; empty where it is damaged."""
    if len(data) < 16:
        return []
    magic, major, _minor, size = struct.unpack_from("<8sHHI", data, 0)
    if magic != b"JOBDSNP\n" or not 92 <= size <= 65536 or len(data) < size:
        return []
    (crc,) = struct.unpack_from("<I", data, size - 4)
    if zlib.crc32(data[: size - 4]) != crc:
        return []
    if major != 1:
        raise ValueError(f"snapshot of version {major}")
    store, salt, first, _ms, *link, bits = struct.unpack_from("<16sQQQQQQII", data, 16)
    if first != 1 or not bits & 1:
        return []
    at, lsn, chain, ended = size, 0, crc, False
    batches: list[tuple[int, list[Row]]] = []
    seed = zlib.crc32(struct.pack("<Q", salt))
    while not ended:
        if at + 48 > len(data):
            return []
        (magic4, flags, count, its_salt, its_lsn, mark, length, body_crc, before, head_crc) = (
            struct.unpack_from("<4sHHQQQIIII", data, at)
        )
        payload = data[at + 48 : at + 48 + length]
        if (
            (magic4, its_salt, its_lsn, before) != (b"JBAT", salt, lsn + 1, chain)
            or zlib.crc32(data[at : at + 44]) != head_crc
            or mark != lsn
            or zlib.crc32(payload) != body_crc
            or len(payload) < length
        ):
            return []
        batches.append((at, list(records(payload, count, seed, its_lsn))))
        at, lsn, chain, ended = at + 48 + length, its_lsn, head_crc, bool(flags & 1)
    *told, (_, (footer, *none)), (_, nothing) = batches
    statements = [row for _, rows in told for row in rows]
    number, taken, last, last_crc, entries = struct.unpack_from("<QQQII", footer[4])
    index = list(struct.iter_unpack("<IQQ", footer[4][32:]))
    if (
        at != len(data)
        or none
        or nothing
        or footer[:4] != (127, 0, last, 0)
        or (number, entries) != (len(statements), len(index))
        or taken != sum(28 + (len(row[4]) + 3) // 4 * 4 for row in statements)
        or [last, last_crc] != link[2:]
        or index != [(rows[0][1], rows[0][2], place) for place, rows in told]
        or [row[1:3] for row in statements] != sorted(row[1:3] for row in statements)
    ):
        return []
    return [(store, last, tuple(link)), *statements]


def records(payload: bytes, count: int, seed: int, lsn: int) -> Iterator[Row]:
    at = 0
    for _ in range(count):
        n, kind_of, kind, _zero, id_, revision, body_crc, crc = struct.unpack_from(
            "<IBBHQIII", payload, at
        )
        body = payload[at + 28 : at + 28 + n]
        if zlib.crc32(payload[at : at + 24], seed) != crc or zlib.crc32(body) != body_crc:
            raise ValueError(f"record checksum in batch {lsn}")
        yield kind_of & 0x7F, kind, id_, revision, body, lsn
        at = (at + 28 + n + 3) // 4 * 4


# --- and the comparison -------------------------------------------------------------------------

a_record = st.builds(
    RecordIn,
    st.integers(0, 126).map(lambda t: t | IGNORABLE) | st.integers(0, 126),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40) | st.integers(0, 3000).map(bytes),
)
a_step = st.lists(a_record, max_size=6) | st.sampled_from(
    ["idle", "spare", "clean", "reopen", "snapshot", "snapshot"]
)


def rows(journal: Journal) -> list[Row]:
    return [(r.type, r.kind, r.id, r.revision, r.body, r.lsn) for r in journal.replay()]


def snapshot(journal: Journal, disk: Fs, last_words: dict[tuple[int, int], RecordIn]) -> None:
    """A snapshot that says of each thing what its last record said."""
    journal.seal()
    end = journal.sealed()
    if end is None or (journal.snapshot is not None and journal.snapshot.lsn >= end.last_lsn):
        return
    writer = SnapshotWriter(disk, "/q/snap-1.tmp", journal.store, end, 7)
    writer.add_all(last_words[key] for key in sorted(last_words))
    journal.adopt(writer.finish())
    journal.retire()


@settings(max_examples=60, deadline=None)
@given(st.lists(a_step, max_size=25))
def test_second_reader_agrees(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | list[RecordIn]]
) -> None:
    folder = tmp_path_factory.mktemp("queue")
    disk = SimDisk()

    def open_it() -> Journal:
        return Journal.open("/q", fs=disk, segment_bytes=16 << 10, reserve_bytes=100)

    journal = open_it()
    written: list[RecordIn] = []
    words: dict[tuple[int, int], RecordIn] = {}
    for step in steps:
        if step == "idle":
            journal.idle()
        elif step == "spare":
            journal.spare()
        elif step == "snapshot":
            snapshot(journal, disk, words)
            if journal.snapshot is not None:
                written = [words[key] for key in sorted(words)]
        elif step in ("clean", "reopen"):
            journal.close(clean=step == "clean")
            journal = open_it()
        elif isinstance(step, list):
            where = journal.write(step)
            written.extend(step)
            words.update({(one.kind, one.id): one for one in step})
            assert [journal.read(place) for place in where] == [r.body for r in step]
    mine = rows(journal)
    for name in disk.listdir("/q"):
        (folder / name).write_bytes(disk.data(f"/q/{name}"))
    assert list(second_reader(folder)) == mine
    assert [(r[0], *r[1:5]) for r in mine] == [(r.type & 0x7F, *r[1:]) for r in written]
    journal.close()
    disk.exit_process()


def test_second_reader_goes_by_the_older_snapshot_too(tmp_path: Path) -> None:
    folder = tmp_path / "q"
    journal = Journal.open(folder, segment_bytes=1 << 16, reserve_bytes=0)
    words = {}
    for number in range(6):
        one = RecordIn(1, 2, number, 1, b"abc" * number)
        journal.write([one])
        words[2, number] = one
        if number % 2:
            journal.seal()
            end = journal.sealed()
            assert end is not None
            writer = SnapshotWriter(Fs(), str(folder / "one.tmp"), journal.store, end, 7)
            writer.add_all(words[key] for key in sorted(words))
            journal.adopt(writer.finish())
            journal.retire()
    journal.close()
    older, newest = sorted(folder.glob("snap-*"))
    first = [row[2:5] for row in second_reader(folder)]
    assert first == [(one.id, 1, one.body) for one in words.values()]
    data = bytearray(newest.read_bytes())
    for at in (0, 9, 100, 4096 + 5, 4096 + 50, len(data) - 49, len(data) - 1):
        data[at] ^= 1
        newest.write_bytes(data)
        assert [row[2:5] for row in second_reader(folder)] == first
        data[at] ^= 1
    newest.write_bytes(data)
    assert older.exists()


def test_the_bytes_of_a_snapshot() -> None:
    """A change of these bytes is a new format, with a new number (DURABILITY 28)."""
    disk = SimDisk()
    after = Predecessor(3, 5000, 6, 99)
    writer = SnapshotWriter(disk, "/one", bytes(range(16)), after, 1000)
    writer.add_all([(64, 1, 1, 4, b"abcde"), (72, 2, 9, 1, b"")])
    writer.finish()
    data = disk.data("/one")
    assert data[:12] + data[16:32] + data[40:88] == bytes.fromhex(
        "4a4f4244534e500a0100000000010203" "0405060708090a0b0c0d0e0f"
        "0100000000000000e80300000000000003000000000000008813000000000000060000000000000063000000"
        "01000000"
    )  # fmt: skip
    footer = struct.pack("<QQQII", 2, 64, 6, 99, 1) + struct.pack("<IQQ", 1, 1, 4096)
    at = 4096 + 48 + 64 + 48
    assert data[at + 4 : at + 20] == struct.pack("<BBHQI", 255, 0, 0, 6, 0)
    assert data[at + 28 :].startswith(footer)
    assert len(data) == at + 28 + len(footer) + 48
    store, *rows_ = second_snapshot(data)
    assert store == (bytes(range(16)), 6, (3, 5000, 6, 99))
    assert rows_ == [(64, 1, 1, 4, b"abcde", 1), (72, 2, 9, 1, b"", 1)]


def test_second_reader_refuses_what_the_first_refuses(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "q", segment_bytes=1 << 16, reserve_bytes=0)
    journal.write([RecordIn(1, 1, 1, 1, b"abc")])
    journal.close()
    assert len(list(second_reader(tmp_path / "q"))) == 1
    (path,) = (tmp_path / "q").glob("seg-*.log")
    data = bytearray(path.read_bytes())
    for at in (0, 9, 100, 4096 + 5, 4096 + 50, len(data) - 1):
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError):
            list(second_reader(tmp_path / "q"))
        data[at] ^= 1


def test_the_bytes_of_format_1_0() -> None:
    """A change of these bytes is a new format, with a new number (DURABILITY 28)."""
    header = Header(bytes(range(16)), 0x1122334455667788, 7, 1000, Predecessor(3, 5000, 6, 99))
    packed, crc = pack_header(header)
    assert packed[:88].hex() == (
        "4a4f42445345470a0100000000100000000102030405060708090a0b0c0d0e0f8877665544332211"
        "0700000000000000e80300000000000003000000000000008813000000000000060000000000000063000000"
        "01000000"
    )
    assert len(packed) == 4096
    assert packed[88:4092] == bytes(4004)
    records_in = [RecordIn(1, 2, 3, 4, b"abcde"), RecordIn(5 | IGNORABLE, 6, 7, 8, b"")]
    blob, _, where = encode_batch(records_in, 4096, header.salt, seed_of(header.salt), 7, 6, crc, 0)
    assert where == [4096 + 48, 4096 + 48 + 36]
    assert blob.hex() == GOLDEN


def test_a_real_queue_on_this_file_system(tmp_path: Path) -> None:
    """The same on real files, through rolls, marks and an unclean end."""
    folder = tmp_path / "q"
    written = []
    for life in range(3):
        journal = Journal.open(folder, segment_bytes=1 << 20, reserve_bytes=1 << 20)
        for number in range(40):
            batch = [RecordIn(1, 2, life * 1000 + number, 1, os.urandom(number * 997))]
            journal.write(batch)
            written.extend(batch)
            if number % 10 == 0:
                journal.spare()
        journal.idle()
        journal.close(clean=life != 1)
    journal = Journal.open(folder, segment_bytes=1 << 20, reserve_bytes=1 << 20)
    assert len(list(folder.glob("seg-*.log"))) > 3
    mine = rows(journal)
    assert [r[2:5] for r in mine] == [(r.id, r.revision, r.body) for r in written]
    assert list(second_reader(folder)) == mine
    places = {r.id: r.where for r in journal.replay()}
    assert all(journal.read(places[r.id]) == r.body for r in written)
    journal.close()

"""Damaged bytes are told from torn ones, named, and never served (DURABILITY 5-12, 28)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from struct import pack_into
from zlib import crc32

import pytest
from sim_disk import SimDisk

from jobd.errors import QueueDamagedError, VersionError
from jobd.journal import IGNORABLE, Journal, RecordIn
from jobd.journal.examine import examine
from jobd.journal.record import BATCH_BYTES, MAX_PAYLOAD
from jobd.journal.segment import HEADER_BYTES

Q = "/q"


def open_on(disk: SimDisk, **options: object) -> Journal:
    return Journal.open(Q, fs=disk, segment_bytes=32 << 10, reserve_bytes=0, **options)  # type: ignore[arg-type]


def rec(number: int, body: bytes = b"payload") -> RecordIn:
    return RecordIn(1, 2, number, 1, body)


def names(disk: SimDisk) -> list[str]:
    return [name for name in disk.listdir(Q) if name.startswith("seg-")]


def ids(disk: SimDisk) -> list[int]:
    journal = open_on(disk)
    found = [record.id for record in journal.replay()]
    journal.close()
    return found


class Store:
    """A small queue of two segments, with the place of every batch in the last one."""

    def __init__(self, *, idle: bool = False, clean: bool = False) -> None:
        disk = SimDisk()
        journal = open_on(disk)
        for number in (1, 2):
            journal.write([rec(number)])
        journal.close()
        journal = open_on(disk)
        self.starts: list[int] = []
        for number in (3, 4, 5):
            self.starts.append(journal.stats().bytes - self._first(disk))
            journal.write([rec(number), rec(number * 10, b"second" * 3)])
        if idle:
            self.starts.append(journal.stats().bytes - self._first(disk))
            assert journal.idle()
        self.end = journal.stats().bytes - self._first(disk)
        journal.close(clean=clean)
        if clean:
            self.starts.append(self.end)
            self.end += BATCH_BYTES
        disk.exit_process()
        self.disk = disk
        self.first, self.last = (f"{Q}/{name}" for name in names(disk))
        self.data = {path: disk.data(path) for path in (self.first, self.last)}
        #: the sound store as it is without the zeroes that were filled ahead
        self.data[self.last] = self.data[self.last][: self.end]
        self.restore()

    @staticmethod
    def _first(disk: SimDisk) -> int:
        return len(disk.data(f"{Q}/{names(disk)[0]}"))

    def restore(self) -> None:
        for path, data in self.data.items():
            self.disk.put(path, data)

    def batch_at(self, offset: int) -> int:
        """Where the batch begins that holds `offset`; -1 in the header."""
        return max((start for start in self.starts if start <= offset), default=-1)


def flips(data: bytes) -> range:
    return range(len(data) * 8)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def refusal(disk: SimDisk) -> QueueDamagedError:
    with pytest.raises(QueueDamagedError) as caught:
        examine(disk, Q)
    return caught.value


def test_every_bit_of_the_first_segment() -> None:
    store = Store()
    bounds = [HEADER_BYTES]
    data = store.data[store.first]
    while bounds[-1] < len(data):
        at = bounds[-1]
        bounds.append(at + BATCH_BYTES + int.from_bytes(data[at + 32 : at + 36], "little"))
    assert len(bounds) == 4  # two batches and the clean mark
    for bit in flips(data):
        store.disk.put(store.first, flipped(data, bit))
        error = refusal(store.disk)
        at = max((start for start in bounds if start <= bit >> 3), default=0)
        assert (error.details["file"], error.details["offset"]) == (store.first, at), bit


@pytest.mark.parametrize("idle", [False, True])
def test_every_bit_of_the_last_segment(idle: bool) -> None:
    store = Store(idle=idle)
    data = store.data[store.last]
    torn = 0
    for bit in flips(data):
        store.disk.put(store.last, flipped(data, bit))
        at = store.batch_at(bit >> 3)
        if at < store.starts[-1]:
            error = refusal(store.disk)
            assert (error.details["file"], error.details["offset"]) == (store.last, max(at, 0)), bit
            if at > 0:
                assert int(str(error.details["intact"])) >= (0 if idle else 2)
            continue
        found = examine(store.disk, Q)
        assert found.tear is not None
        assert found.tear.start == at, bit
        assert found.segments[-1].end == at
        torn += 1
        if not idle:
            # one of the two records at least is outside the flipped bit, and is named
            whole = {record.id for record in found.tear.records if record.whole}
            assert whole & {5, 50}
            named = {record.id for record in found.tear.records}
            in_frame = any(
                start <= (bit >> 3) - at < start + 28 for start in (BATCH_BYTES, BATCH_BYTES + 36)
            )
            assert named == {5, 50} or in_frame
    assert torn == (store.end - store.starts[-1]) * 8


def test_bits_behind_a_clean_stop_are_damage() -> None:
    store = Store(clean=True)
    data = store.data[store.last]
    for at in range(40):
        store.disk.put(store.last, data + bytes(at) + b"\1")
        error = refusal(store.disk)
        assert error.details["offset"] == len(data)
        assert "clean stop" in str(error)
    for bit in range(store.starts[-2] * 8, store.starts[-1] * 8):
        store.disk.put(store.last, flipped(data, bit))
        assert refusal(store.disk).details["offset"] == store.starts[-2]


def test_a_refusal_changes_nothing_and_says_what_is_intact() -> None:
    store = Store(idle=True)
    data = bytearray(store.data[store.last])
    place = data.index(b"payload", store.starts[1])
    data[place] ^= 1
    store.disk.put(store.last, bytes(data))
    before = {name: store.disk.data(f"{Q}/{name}") for name in names(store.disk)}
    with pytest.raises(QueueDamagedError) as caught:
        open_on(store.disk)
    assert {name: store.disk.data(f"{Q}/{name}") for name in names(store.disk)} == before
    assert store.disk.open_files() == 0
    error = caught.value
    assert error.status == 65
    assert error.details["lsn"] == 4
    assert error.details["damaged"] == [
        {"kind": 2, "id": 4, "revision": 1},
        {"kind": 2, "id": 40, "revision": 1},
    ]
    assert error.details["intact"] == 2
    for part in (store.last, f"offset {store.starts[1]}", "id 4 ", "id 5 ", "id 50 ", "jobd fsck"):
        assert part in str(error)


@pytest.mark.parametrize("zeroes", [0, 3000])
def test_truncation_at_every_byte(zeroes: int) -> None:
    """Cut, or cut and followed by the zeroes that were filled ahead."""
    store = Store()
    data = store.data[store.last]
    for size in range(len(data) + 1):
        store.restore()
        store.disk.put(store.last, data[:size] + bytes(zeroes))
        disk = store.disk.snapshot()
        if disk.data(store.last)[:HEADER_BYTES] != data[:HEADER_BYTES]:
            assert refusal(disk).details["offset"] == 0
            continue
        # the zeroes may stand in for the padding of a batch that was cut there
        ends = [*store.starts[1:], len(data)]
        sound = [end for end in ends if disk.data(store.last)[:end] == data[:end]]
        whole = (3, 4, 5)[: len(sound)]
        start = [HEADER_BYTES, *ends][len(sound)]
        torn = data[start:size].rstrip(b"\0")
        journal = open_on(disk)
        assert [r.id for r in journal.replay()] == [1, 2, *(i for n in whole for i in (n, n * 10))]
        report = journal.report
        assert (report.torn_bytes, report.torn_lsn) == (
            (len(torn), 4 + len(whole)) if torn else (0, 0)
        )
        if torn:
            assert report.torn_offset == start
            assert report.quarantine is not None
            assert disk.data(report.quarantine) == torn
            assert str(start) in disk.data(report.quarantine + ".txt").decode()
        else:
            assert "quarantine" not in disk.listdir(Q)
        journal.close()
        assert ids(disk) == [1, 2, *(i for n in whole for i in (n, n * 10))]


def test_truncation_of_an_inner_segment_at_every_byte() -> None:
    store = Store()
    data = store.data[store.first]
    for size in range(len(data)):
        store.disk.put(store.first, data[:size])
        error = refusal(store.disk)
        assert error.details["file"] == store.first


@pytest.mark.parametrize("width", [512, 4096])
@pytest.mark.parametrize("filling", ["zeroes", "other", "older"])
def test_windows_of_zeroes_and_of_stale_bytes(width: int, filling: str) -> None:
    """A lost or misplaced write; other: an older segment's bytes, older: this one's own."""
    disk = SimDisk()
    for start in (0, 100):
        journal = open_on(disk)
        for number in range(start, start + 30):
            journal.write([rec(number, bytes([number]) * (number * 7 % 300))])
        end = journal.stats().bytes
        journal.close(clean=False)
    disk.exit_process()
    one, two = (disk.data(f"{Q}/{name}") for name in names(disk))
    path = f"{Q}/{names(disk)[1]}"
    two = two[: end - len(one)]
    sound = [*range(30), *range(100, 130)]
    prefixes = [sound[:count] for count in range(30, 61)]
    for start in range(0, len(two), 256):
        stop = min(start + width, len(two))
        stale = {
            "zeroes": b"",
            "other": one[start:stop],
            "older": two[start - width : stop - width],
        }
        window = stale[filling].ljust(stop - start, b"\0")[: stop - start]
        copy = disk.snapshot()
        copy.put(path, two[:start] + window + two[stop:])
        if two[start:stop] == window:
            continue
        try:
            found = ids(copy)
        except QueueDamagedError as refused:
            error = refused
        else:
            # only what reaches the very end can pass for a tear
            assert stop == len(two)
            assert found in prefixes[:-1]
            continue
        assert error.details["file"] == path
        assert int(str(error.details["offset"])) <= stop


def test_a_batch_twice_and_batches_in_another_order() -> None:
    store = Store()
    data = store.data[store.last]
    one, two, three, end = (*store.starts, store.end)
    for changed, at in (
        (data + data[three:end], end),
        (data + data[one:two], end),
        (data[:two] + data[one:two] + data[two:], two),
        (data[:one] + data[two:three] + data[one:two] + data[three:], one),
        (data[:two] + data[three:], two),
    ):
        store.disk.put(store.last, changed)
        error = refusal(store.disk)
        assert (error.details["file"], error.details["offset"]) == (store.last, at)


def three_segments() -> SimDisk:
    disk = SimDisk()
    for number in (1, 2, 3):
        journal = open_on(disk)
        journal.write([rec(number)])
        journal.close()
    return disk


def test_segments_missing_swapped_or_of_another_queue() -> None:
    disk = three_segments()
    one, two, three = (f"{Q}/{name}" for name in names(disk))

    missing = disk.snapshot()
    missing.remove(two)
    assert two.rpartition("/")[2] in str(refusal(missing))
    missing = disk.snapshot()
    missing.remove(one)
    assert one.rpartition("/")[2] in str(refusal(missing))

    swapped = disk.snapshot()
    swapped.put(one, disk.data(two))
    swapped.put(two, disk.data(one))
    assert refusal(swapped).details["file"] == one

    other = three_segments()
    for path in (one, two, three):
        mixed = disk.snapshot()
        mixed.put(path, other.data(path))
        error = refusal(mixed)
        assert error.details["file"] in (path, two)
        assert "another queue" in str(error)


def test_a_copy_of_an_older_state_of_an_inner_segment() -> None:
    disk = three_segments()
    path = f"{Q}/{names(disk)[1]}"
    disk.put(path, disk.data(path)[:-BATCH_BYTES])
    assert refusal(disk).details["offset"] == len(disk.data(path))


def reseal(data: bytearray, at: int) -> None:
    """Gives a batch header at `at` a checksum that fits what it says."""
    pack_into("<I", data, at + 44, crc32(data[at : at + 44]))


@pytest.mark.parametrize(
    "length", [0, 1, 7, 8, 1 << 20, MAX_PAYLOAD, 1 << 31, 2**32 - 2, 2**32 - 1]
)
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_lengths_at_extremes(length: int, sealed: bool, index: int) -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    at = store.starts[index]
    pack_into("<I", data, at + 32, length)
    if sealed:
        reseal(data, at)
    store.disk.put(store.last, bytes(data))
    tracemalloc.start()
    try:
        found: object = ids(store.disk.snapshot())
    except QueueDamagedError as refused:
        found = refused.details["offset"]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found == at or (index == 2 and found == [1, 2, 3, 30, 4, 40])
    assert peak < 8 << 20


@pytest.mark.parametrize("count", [0, 1, 3, 65535])
def test_record_counts_that_do_not_fit(count: int) -> None:
    """Sealed by somebody who knows the checksums: still no record is made up."""
    store = Store()
    data = bytearray(store.data[store.last])
    pack_into("<H", data, store.starts[2] + 6, count)
    reseal(data, store.starts[2])
    store.disk.put(store.last, bytes(data))
    try:
        found = ids(store.disk.snapshot())
    except QueueDamagedError:
        return
    assert found[:6] == [1, 2, 3, 30, 4, 40]
    assert set(found[6:]) <= {5}


def test_a_payload_that_holds_log_bytes_is_never_log() -> None:
    store = Store()
    journal = open_on(store.disk)
    log_bytes = store.data[store.last]
    journal.write([rec(6, log_bytes[HEADER_BYTES:]), rec(7, log_bytes)])
    own = store.disk.data(f"{Q}/{names(store.disk)[-1]}")
    start = journal.stats().bytes - sum(len(data) for data in store.data.values())
    journal.write([rec(8, own[:start])])  # this very segment's own batches, salt and all
    journal.close(clean=False)
    store.disk.exit_process()
    want = [1, 2, 3, 30, 4, 40, 5, 50, 6, 7, 8]
    assert ids(store.disk.snapshot()) == want
    path = f"{Q}/{names(store.disk)[-1]}"
    data = store.disk.data(path)
    assert data[start : start + 4] == b"JBAT"
    stop = len(data.rstrip(b"\0"))
    # the batch that holds them, torn at every 64 bytes: a tear, and nothing inside comes to life
    for cut in range(start + BATCH_BYTES + 64, stop, 64):
        disk = store.disk.snapshot()
        disk.put(path, data[:cut])
        assert ids(disk) == want[:-1], cut


def test_header_of_the_torn_batch_lost_and_its_body_kept() -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    data[store.starts[2] : store.starts[2] + BATCH_BYTES] = bytes(BATCH_BYTES)
    store.disk.put(store.last, bytes(data))
    journal = open_on(store.disk)
    assert [(r.id, r.whole) for r in journal.report.torn_records] == [(5, True), (50, True)]
    assert "id 5 " in journal.report.lines[0]
    journal.close()


def test_quarantine_is_never_overwritten() -> None:
    store = Store()
    data = store.data[store.last]
    for turn in range(3):
        # the same tear again and again, as if each recovery had been undone
        for name in names(store.disk):
            store.disk.remove(f"{Q}/{name}")
        store.restore()
        store.disk.put(store.last, data[: -10 * (turn + 1)])
        open_on(store.disk).close()
    kept = [n for n in store.disk.listdir(f"{Q}/quarantine") if not n.endswith(".txt")]
    assert len(kept) == 3
    assert len({store.disk.data(f"{Q}/quarantine/{n}") for n in kept}) == 3


def test_unfinished_files_are_removed_when_empty_and_kept_when_not() -> None:
    store = Store()
    store.disk.put(f"{Q}/spare-9-9.tmp", bytes(5000))
    store.disk.put(f"{Q}/foreign.tmp", bytes(HEADER_BYTES) + b"something")
    open_on(store.disk).close()
    assert not [name for name in store.disk.listdir(Q) if name.endswith(".tmp")]
    assert store.disk.listdir(f"{Q}/quarantine") == ["foreign.tmp"]


def change_header(store: Store, change: Callable[[bytearray], None]) -> None:
    data = bytearray(store.data[store.last])
    change(data)
    pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    # the first batch chains on the header; what matters here comes before it
    store.disk.put(store.last, bytes(data))


def test_unknown_major_version_is_refused_with_the_version_needed() -> None:
    store = Store()
    change_header(store, lambda data: pack_into("<HH", data, 8, 2, 5))
    with pytest.raises(VersionError, match=r"format 2\.5"):
        open_on(store.disk)
    # the same bytes without a fitting checksum are damage, not a version
    data = bytearray(store.data[store.last])
    pack_into("<H", data, 8, 2)
    store.disk.put(store.last, bytes(data))
    assert refusal(store.disk).details["offset"] == 0


def test_newer_minor_version_is_read() -> None:
    disk = SimDisk()
    open_on(disk).close()
    path = f"{Q}/{names(disk)[0]}"
    data = bytearray(disk.data(path)[:HEADER_BYTES])
    pack_into("<H", data, 10, 7)
    pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    disk.put(path, bytes(data))
    assert ids(disk) == []


def test_unknown_flag_that_must_be_known_is_refused() -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    data[store.starts[2] + 4] |= 0x80
    reseal(data, store.starts[2])
    store.disk.put(store.last, bytes(data))
    with pytest.raises(VersionError, match="flags 0x0080"):
        open_on(store.disk)
    data[store.starts[2] + 4] &= 0x7F
    data[store.starts[2] + 5] |= 0x80
    reseal(data, store.starts[2])
    store.disk.put(store.last, bytes(data))
    assert ids(store.disk)[-1] == 50


def test_unknown_types_are_refused_or_skipped() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write([RecordIn(1, 1, 1, 1, b"a"), RecordIn(9 | IGNORABLE, 1, 2, 1, b"b")])
    journal.write([RecordIn(2 | IGNORABLE, 1, 3, 1, b"c")])
    journal.close()
    journal = open_on(disk, known_types={1, 2})
    assert [(r.type, r.id) for r in journal.replay()] == [(1, 1), (2, 3)]
    journal.write([RecordIn(5, 1, 4, 1, b"d")])
    journal.close()
    journal = open_on(disk, known_types={1, 2})
    with pytest.raises(VersionError, match="type 5"):
        list(journal.replay())
    journal.close()
    journal = open_on(disk)
    assert [(r.type, r.id) for r in journal.replay()] == [(1, 1), (9, 2), (2, 3), (5, 4)]
    journal.close()


def test_damage_after_opening_is_never_served() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    first, second = journal.write([rec(1, b"x" * 6000), rec(2)])
    path = f"{Q}/{names(disk)[0]}"
    data = disk.data(path)
    for place, where in ((data.index(b"xxx") + 5999, first), (data.index(b"payload"), second)):
        disk.file(path).cache[place] ^= 4
        with pytest.raises(QueueDamagedError, match=r"id [12] revision 1 is damaged"):
            journal.read(where)
        with pytest.raises(QueueDamagedError, match=f"offset {HEADER_BYTES}"):
            list(journal.replay())
        disk.file(path).cache[place] ^= 4
    frame = data.index(b"payload") - 28
    disk.file(path).cache[frame] ^= 4
    with pytest.raises(QueueDamagedError, match="frame"):
        journal.read(second)
    disk.file(path).cache[frame] ^= 4
    assert journal.read(first) == b"x" * 6000
    assert journal.read(second) == b"payload"
    journal.close()


class BadSector(SimDisk):
    """Reads of one file fail from an offset on."""

    bad = ""
    behind = 0

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        if self._fds[fd][1] == self.bad and offset + count > self.behind:
            raise OSError(5, "Input/output error")
        return super().pread(fd, count, offset)


@pytest.mark.parametrize("behind", [0, HEADER_BYTES])
@pytest.mark.parametrize("which", [0, 1])
def test_a_read_error_is_not_a_tear(which: int, behind: int) -> None:
    disk = Store().disk
    disk.__class__ = BadSector
    assert isinstance(disk, BadSector)
    disk.bad = f"{Q}/{names(disk)[which]}"
    disk.behind = behind
    with pytest.raises(QueueDamagedError, match="cannot be read") as caught:
        open_on(disk)
    assert caught.value.details["file"] == disk.bad
    assert "quarantine" not in disk.listdir(Q)


FIELDS = {"lsn": (16, "<Q"), "chain": (40, "<I"), "watermark": (24, "<Q")}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_sealed_header_that_does_not_fit_is_damage(field: str, index: int) -> None:
    """Each rule by itself: the header's own checksum is right, one number in it is not."""
    store = Store()
    data = bytearray(store.data[store.last])
    at = store.starts[index]
    place, form = FIELDS[field]
    for value in (0xFFFF_FFFF, 7777):
        pack_into(form, data, at + place, value)
        reseal(data, at)
        store.disk.put(store.last, bytes(data))
        assert refusal(store.disk).details["offset"] == at


def test_a_sealed_header_of_another_salt_is_stale() -> None:
    store = Store()
    data = bytearray(store.data[store.last])
    at = store.starts[2]
    pack_into("<Q", data, at + 8, 12345)
    reseal(data, at)
    store.disk.put(store.last, bytes(data))
    assert ids(store.disk.snapshot()) == [1, 2, 3, 30, 4, 40]
    # nor does a stale batch behind a tear, with whatever lsn, prove anything
    batch = data[at:]
    pack_into("<Q", batch, 16, 10**6)
    reseal(batch, 0)
    store.disk.put(store.last, bytes(data[:at]) + b"torn...." + bytes(batch))
    assert ids(store.disk.snapshot()) == [1, 2, 3, 30, 4, 40]


def test_a_batch_that_stands_too_far_on_is_damage() -> None:
    """Its lsn is the expected one: bytes were inserted, which no crash does."""
    store = Store()
    data = store.data[store.last]
    at = store.starts[2]
    store.disk.put(store.last, data[:at] + b"inserted" + data[at:])
    assert refusal(store.disk).details["offset"] == at


def test_a_sound_batch_behind_a_clean_stop_is_damage() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write([rec(1)])
    writer = journal._writer
    writer.mark_clean()
    end = journal.stats().bytes
    journal.write([rec(2)])
    journal.close(clean=False)
    disk.exit_process()
    error = refusal(disk)
    assert error.details["offset"] == end
    assert "clean stop" in str(error)


@pytest.mark.parametrize("gap", [0, 5000])
def test_something_behind_an_inner_segment_is_damage(gap: int) -> None:
    store = Store()
    data = store.data[store.first]
    store.disk.put(store.first, data + bytes(gap) + b"\1" + bytes(20))
    assert refusal(store.disk).details["offset"] == len(data)
    store.disk.put(store.first, data + bytes(gap))
    assert ids(store.disk) == [1, 2, 3, 30, 4, 40, 5, 50]


@pytest.mark.parametrize("window", [48, 56, 60, 100])
def test_small_windows_see_the_same(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """Batches and headers across the edges of what is read at once."""
    monkeypatch.setattr("jobd.journal.segment._WINDOW", window)
    store = Store(idle=True)
    data = store.data[store.last]
    assert ids(store.disk.snapshot()) == [1, 2, 3, 30, 4, 40, 5, 50]
    for start in store.starts[:-1]:
        for at in range(start, start + BATCH_BYTES):
            store.disk.put(store.last, flipped(data, at * 8))
            assert refusal(store.disk).details["offset"] == start
    store.disk.put(store.last, data[:-1])
    found = examine(store.disk, Q).tear
    assert found is not None
    assert (found.start, found.stop) == (store.starts[-1], len(data) - 1)

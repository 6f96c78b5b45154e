"""Damaged bytes are told from torn ones, named, and never served (DURABILITY 5-8, 11, 12)."""

from __future__ import annotations

import tracemalloc
from struct import pack_into

import pytest

from jobd.errors import QueueDamagedError
from jobd.journal.examine import examine
from jobd.journal.record import BATCH_BYTES, MAX_PAYLOAD
from jobd.journal.segment import HEADER_BYTES
from tests.support.damaged_store import (
    Q,
    Store,
    flipped,
    flips,
    ids,
    names,
    open_on,
    rec,
    refusal,
    reseal,
)
from tests.support.sim_disk import SimDisk


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
    # the other record of the same batch is intact by its own checksum
    assert error.details["damaged"] == [{"kind": 2, "id": 4, "revision": 1}]
    assert error.details["intact"] == 3
    assert [one["id"] for one in error.details["intact_records"]] == [40, 5, 50]
    for part in (store.last, f"offset {store.starts[1]}", "id 4 ", "3 records behind"):
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

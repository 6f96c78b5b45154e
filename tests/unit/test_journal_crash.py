"""A power cut, a kill, a failed operation at every step of a queue's life (DURABILITY 2-4, 25)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest
from sim_disk import PowerCut, SimDisk

from jobd.errors import DiskFailedError, RefusedError
from jobd.journal import BATCH_COST, Journal, RecordIn, live, record_cost, space
from jobd.journal import journal as facade

SMALL = 12 << 10  # a segment of two pages of data
Issued = list[list[RecordIn]]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeroes in steps of a page, so that a small segment sees several."""
    for module in (space, live, facade):
        monkeypatch.setattr(module, "FILL_STEP", 4096)
    monkeypatch.setattr(space, "_LEAST", 4096)


def open_on(disk: SimDisk, **options: int) -> Journal:
    options = {"segment_bytes": SMALL, "reserve_bytes": 8192, **options}
    return Journal.open("/q", fs=disk, clock_ms=lambda: 1_700_000_000_000, **options)


def batch(number: int, records: int = 2, size: int = 700) -> list[RecordIn]:
    return [
        RecordIn(1, 2, number * 100 + index, number, bytes([number % 251]) * (size + index))
        for index in range(records)
    ]


class Client:
    """Writes batches and remembers which were asked for and which were acknowledged."""

    def __init__(self) -> None:
        self.issued: Issued = []
        self.acked = 0

    def write(self, journal: Journal, records: int = 2, size: int = 700) -> None:
        what = batch(len(self.issued) + 1, records, size)
        self.issued.append(what)
        try:
            journal.write(what)
        except RefusedError:
            self.issued.pop()
            raise
        self.acked = len(self.issued)

    def verify(self, journal: Journal) -> None:
        """All acknowledged batches are there, in order, whole, and at most the next one more."""
        got = [(r.kind, r.id, r.revision, r.body) for r in journal.replay()]
        for count in range(self.acked, len(self.issued) + 1):
            want = [tuple(r)[1:] for what in self.issued[:count] for r in what]
            if got == want:
                break
        else:
            pytest.fail(f"{len(got)} records, {self.acked} of {len(self.issued)} batches acked")
        # what was not acknowledged and is there is settled now: it may not vanish later
        self.issued = self.issued[:count]
        self.acked = count


def live_through(disk: SimDisk, client: Client) -> None:
    """A life with everything in it: rolls, idle marks, spares, clean and unclean ends."""
    journal = open_on(disk)
    client.write(journal)
    client.write(journal, records=1, size=10)
    assert journal.idle()
    journal.spare()
    for _ in range(8):
        client.write(journal)
    journal.spare()
    client.write(journal, records=1, size=30)
    journal.close()
    journal = open_on(disk)
    client.verify(journal)
    client.write(journal)
    journal.idle()
    journal.close(clean=False)
    journal = open_on(disk)
    journal.spare()
    client.write(journal, records=5, size=1)
    journal.close()


def operations() -> int:
    disk = SimDisk()
    live_through(disk, Client())
    return disk.ops


def states(disk: SimDisk, seed: int) -> Iterator[SimDisk]:
    yield disk.after_cut("lost")
    yield disk.after_cut("kept")
    for number in range(4):
        yield disk.after_cut("torn", seed * 10 + number)


def carry_on(disk: SimDisk, client: Client) -> None:
    """Opens, checks, writes, closes, opens and checks again."""
    journal = open_on(disk)
    client.verify(journal)
    client.write(journal)
    journal.close()
    journal = open_on(disk)
    assert journal.report.clean
    client.verify(journal)
    journal.close()


def copy_of(client: Client) -> Client:
    other = Client()
    other.issued, other.acked = list(client.issued), client.acked
    return other


def test_life_without_a_cut() -> None:
    disk = SimDisk()
    client = Client()
    live_through(disk, client)
    assert disk.open_files() == 0
    assert client.acked == len(client.issued) == 13
    carry_on(disk, client)
    kinds = set(disk.log)
    assert {"write", "datasync", "sync", "dirsync", "rename", "fallocate", "truncate"} <= kinds
    names = [name for name in disk.listdir("/q") if name.startswith("seg-")]
    assert len(names) > 4


@pytest.mark.parametrize("part", range(4))
def test_power_cut_at_every_operation(part: int) -> None:
    for cut in range(1 + part, operations() + 1, 4):
        disk = SimDisk()
        disk.cut_at = cut
        client = Client()
        with pytest.raises(PowerCut):
            live_through(disk, client)
        for after in states(disk, cut):
            settled = copy_of(client)
            journal = open_on(after)
            settled.verify(journal)
            settled.write(journal)
            journal.close(clean=False)
            # what recovery cut must stay cut
            carry_on(after.after_cut("lost"), settled)


def test_second_power_cut_in_recovery() -> None:
    for cut in range(1, operations() + 1, 3):
        disk = SimDisk()
        disk.cut_at = cut
        client = Client()
        with pytest.raises(PowerCut):
            live_through(disk, client)
        torn = disk.after_cut("torn", cut)
        for again in range(1, 40, 2):
            second = torn.snapshot()
            second.cut_at = again
            settled = copy_of(client)
            try:
                open_on(second).close(clean=False)
            except PowerCut:
                carry_on(second.after_cut("torn", again), settled)
            else:
                break


def torn_store() -> tuple[SimDisk, Client, bytes]:
    """A queue whose last batch is torn, and the torn bytes."""
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    end = journal.stats().bytes
    client.write(journal)
    journal.close(clean=False)
    disk.exit_process()
    path = f"/q/{FIRST}"
    data = disk.data(path).rstrip(b"\0")[:-200]
    disk.put(path, data)
    client.acked = 1
    return disk.snapshot(), client, data[end:]


def kept_copies(disk: SimDisk) -> list[bytes]:
    if "quarantine" not in disk.listdir("/q"):
        return []
    names = disk.listdir("/q/quarantine")
    return [disk.data(f"/q/quarantine/{name}") for name in names if not name.endswith(".txt")]


FIRST = "seg-00000000000000000001.log"


def test_torn_bytes_are_never_lost_whenever_recovery_is_cut() -> None:
    """They are whole in the segment or whole in the quarantine, and all can be read after it."""
    start, client, torn = torn_store()
    for cut in range(1, 100):
        disk = start.snapshot()
        disk.cut_at = cut
        try:
            open_on(disk).close()
            done = True
        except PowerCut:
            done = False
        for after in states(disk, cut):
            for _ in range(2):  # and cut again, with all that was not synced lost
                in_place = after.data(f"/q/{FIRST}").endswith(torn)
                assert in_place or torn in kept_copies(after)
                before = kept_copies(after)
                open_on(after).close(clean=False)
                after = after.after_cut("lost")
                assert [k for k in kept_copies(after) if k == torn]
                assert all(copy in kept_copies(after) for copy in before)
            carry_on(after, copy_of(client))
        # and killed there, with the cache kept
        disk.off = False
        disk.exit_process()
        carry_on(disk, copy_of(client))
        assert torn in kept_copies(disk)
        if done:
            return
    pytest.fail("recovery did not end")


def test_kill_at_every_operation() -> None:
    """The process dies, the cache stays; then the power goes after the next start."""
    for cut in range(1, operations() + 1):
        disk = SimDisk()
        disk.cut_at = cut
        client = Client()
        with pytest.raises(PowerCut):
            live_through(disk, client)
        disk.off = False
        disk.exit_process()
        journal = open_on(disk)
        client.verify(journal)
        if cut % 2:
            client.write(journal)
        journal.close(clean=False)
        disk.exit_process()
        # all that the opening showed must be durable by now
        carry_on(disk.after_cut("lost"), client)


def write_until_refused(client: Client, journal: Journal) -> None:
    for _ in range(100):
        client.write(journal)


def one_fault(number: int, at: int, kinds: set[str]) -> Callable[[str, int], int | None]:
    return lambda kind, op: number if op == at and kind in kinds else None


def from_then_on(number: int, at: int, kinds: set[str]) -> Callable[[str, int], int | None]:
    return lambda kind, op: number if op >= at and kind in kinds else None


SYNCS = {"datasync", "sync", "dirsync"}
SPACE = {"create", "write", "fallocate", "mkdir", "rename"}


@pytest.mark.parametrize("make", [one_fault, from_then_on])
@pytest.mark.parametrize(
    ("number", "kinds"),
    [(errno.EIO, SYNCS), (errno.EIO, SYNCS | SPACE), (errno.ENOSPC, SPACE)],
)
def test_error_at_every_operation(
    make: Callable[[int, int, set[str]], Callable[[str, int], int | None]],
    number: int,
    kinds: set[str],
) -> None:
    """A refusal or a stop, never a lost batch, never a second sync on a failed descriptor."""
    ended: set[type[BaseException] | None] = set()
    for at in range(1, operations() + 1):
        disk = SimDisk()
        disk.fault = make(number, at, kinds)
        client = Client()
        try:
            live_through(disk, client)
        except (RefusedError, DiskFailedError) as error:
            ended.add(type(error))
        else:
            ended.add(None)
        disk.exit_process()
        carry_on(disk.after_cut("kept"), copy_of(client))
        carry_on(disk.after_cut("lost"), copy_of(client))
        carry_on(disk, client)
    assert ended == {None, DiskFailedError} if number == errno.EIO else RefusedError in ended


def test_after_a_failed_sync_the_cache_is_not_believed() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    disk.fault = lambda kind, op: errno.EIO if kind == "datasync" else None
    with pytest.raises(DiskFailedError, match="outcome of the last requests is unknown"):
        client.write(journal)
    disk.fault = lambda kind, op: None
    # the device has healed; nothing may be promised all the same
    for call in (
        lambda: journal.write(batch(9)),
        lambda: journal.idle(),
        lambda: journal.room(),
        lambda: journal.read(1),
        lambda: journal.spare(),
        lambda: next(journal.replay()),
    ):
        with pytest.raises(DiskFailedError):
            call()
    journal.close()
    lied = disk.data("/q/seg-00000000000000000001.log")
    assert bytes([2]) * 700 in lied  # the cache shows what the disk lacks
    disk.exit_process()
    journal = open_on(disk)
    assert [r.id for r in journal.replay()] == [100, 101]
    journal.close()


def test_failed_sync_in_the_background_stops_the_queue() -> None:
    disk = SimDisk()
    journal = open_on(disk)
    journal.write(batch(1))
    disk.fault = lambda kind, op: errno.EIO if kind in SYNCS else None
    with pytest.raises(DiskFailedError):
        journal.spare()
    disk.fault = lambda kind, op: None
    with pytest.raises(DiskFailedError):
        journal.write(batch(2))
    journal.close()


def test_full_disk_refuses_and_goes_on_when_there_is_space() -> None:
    disk = SimDisk(capacity=40 << 10)
    lines: list[str] = []
    journal = Journal.open("/q", fs=disk, segment_bytes=SMALL, reserve_bytes=8192, log=lines.append)
    client = Client()
    journal.spare()
    disk.capacity = disk._used()  # somebody else has taken all that is not reserved
    with pytest.raises(RefusedError, match="free some space"):
        write_until_refused(client, journal)
    # the spare segment and the one made of the freed reserve were used first
    assert client.acked >= 11
    assert "reserve" not in disk.listdir("/q")
    for _ in range(3):
        journal.spare()
    assert len([line for line in lines if "space" in line.lower()]) == 1
    assert journal.room() < 2000
    disk.capacity = 1 << 30
    journal.spare()
    assert journal.room() > 4096
    client.write(journal)
    assert "reserve" in disk.listdir("/q")
    journal.close()
    carry_on(disk, client)


def test_room_is_kept() -> None:
    """What `room` promised is written on a disk that has not a byte left."""
    for size in (1, 40, 300, 900):
        disk = SimDisk()
        journal = open_on(disk, segment_bytes=64 << 10, reserve_bytes=0)
        journal.write(batch(1, size=5000))
        journal.spare()
        disk.capacity = 0
        room = journal.room()
        assert room > 100_000
        cost = BATCH_COST + record_cost(size)
        for number in range(room // cost):
            journal.write([RecordIn(1, 2, number, 1, bytes(size))])
        journal.close()


def test_marks_always_have_room() -> None:
    """A segment that is full to the last record still takes the idle mark and the clean one."""
    for size in range(0, 60, 4):
        disk = SimDisk()
        journal = open_on(disk, reserve_bytes=0)
        disk.capacity = 0
        while True:
            try:
                journal.write([RecordIn(1, 2, 1, 1, bytes(size))])
            except RefusedError:
                break
        assert journal.stats().lsn > 50
        assert journal.idle()
        journal.close()
        disk.capacity = 1 << 30
        journal = open_on(disk)
        assert journal.report.clean
        journal.close()


def test_full_disk_at_the_start_frees_the_reserve() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    journal.close()
    disk.capacity = disk._used() + 100
    journal = open_on(disk)
    client.verify(journal)
    client.write(journal, records=1, size=100)
    journal.close()
    assert "reserve" not in disk.listdir("/q")
    disk.capacity = disk._used() + 100
    with pytest.raises(RefusedError):
        open_on(disk)
    assert disk.open_files() == 0
    disk.capacity = 1 << 30
    carry_on(disk, client)


def test_without_fallocate_only_written_zeroes_are_room() -> None:
    disk = SimDisk(fallocates=False)
    client = Client()
    journal = open_on(disk)
    assert journal.room() < 4096
    for _ in range(10):
        client.write(journal)
        journal.spare()
    assert "reserve" not in disk.listdir("/q")
    disk.capacity = 0
    with pytest.raises(RefusedError):
        write_until_refused(client, journal)
    disk.capacity = 1 << 30
    client.write(journal)
    journal.close()
    carry_on(disk, client)


def test_short_write_is_repeated_whole_and_twice_is_taken_back() -> None:
    disk = SimDisk()
    client = Client()
    journal = open_on(disk)
    client.write(journal)
    disk.short_writes = 1
    client.write(journal)
    client.write(journal)
    end = journal.stats().bytes
    disk.short_writes = 2
    with pytest.raises(DiskFailedError, match="short write"):
        client.write(journal)
    assert len(disk.data("/q/seg-00000000000000000001.log")) == end
    journal.close()
    disk.exit_process()
    journal = open_on(disk)
    assert journal.report.torn_bytes == 0
    assert [r.id for r in journal.replay()] == [100, 101, 200, 201, 300, 301]
    journal.close()

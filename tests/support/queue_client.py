"""A client of a queue on a simulated disk, which checks that nothing it was promised is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobd.errors import RefusedError
from jobd.journal import Journal, RecordIn, live, space
from jobd.journal import journal as facade
from tests.support.sim_disk import SimDisk

SMALL = 12 << 10  # a segment of two pages of data
Issued = list[list[RecordIn]]
FIRST = "seg-00000000000000000001.log"


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


def write_until_refused(client: Client, journal: Journal, most: int = 100) -> None:
    for _ in range(most):
        client.write(journal)


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

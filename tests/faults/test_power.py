"""Real file systems whose power goes, that turn read-only, that lack fallocate: 3, 4, 21, 64.

ext4 on a loop device; the cut is its own shutdown ioctl, which leaves nothing that was not synced.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from jobctl.client import Client
from jobd.errors import JobdError, OutcomeUnknownError, RefusedError
from jobd.journal import Journal
from tests.faults.conftest import MakeDisk, MakeHost
from tests.support.fakehost import ENVIRONMENT
from tests.support.small_disk import SmallDisk
from tests.support.struck import StruckHost
from tests.support.waiting import until

MB = 1 << 20
#: a seed of its own for each life of these tests
SEED = int(os.environ.get("JOBD_TEST_SEED", "7"))

#: writes batches in segments of three, so that files are made and renamed all the time
WRITER = """
import sys
from jobd.errors import DiskFailedError
from jobd.journal import Journal, RecordIn
try:
    journal = Journal.open(sys.argv[1], segment_bytes=32 << 10, reserve_bytes=16 << 10)
    number = int(sys.argv[2])
    while True:
        journal.write([RecordIn(1, 2, number, 1, bytes([number % 251]) * 9_000)])
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        journal.spare()
        number += 1
except DiskFailedError:
    sys.exit(74)
"""


def test_what_was_not_synced_is_gone_and_what_was_is_there(make_disk: MakeDisk) -> None:
    """Without this the tests below would prove nothing."""
    disk = make_disk("ext4", 16 * MB)
    for name in ("synced", "loose"):
        fd = os.open(disk.path / name, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"x" * 5000)
        if name == "synced":
            os.fsync(fd)
        os.close(fd)
    disk.cut_power()
    with pytest.raises(OSError):
        (disk.path / "more").touch()
    disk.again()
    assert (disk.path / "synced").read_bytes() == b"x" * 5000
    assert not (disk.path / "loose").exists()


def test_power_cuts_while_segments_come_and_go(make_disk: MakeDisk) -> None:
    """Rows 3 and 4, and a second cut in the middle of the recovery."""
    disk = make_disk("ext4", 16 * MB)
    rng, acked = random.Random(SEED), 0
    for cycle in range(8):
        process = writer(disk, acked)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(rng.randrange(0, 25))]
        disk.cut_power()
        said += process.stdout.read().split()
        process.stdout.close()
        assert process.wait(60) == 74, f"seed {SEED}, cycle {cycle}"
        disk.again()
        acked = max(acked, int(said[-1]) if said else 0)
        for _ in range(cycle % 3):
            # recovery begins, and the power goes again
            process = writer(disk, acked)
            disk.cut_power()
            rest = process.communicate(timeout=60)[0].split()
            disk.again()
            acked = max(acked, int(rest[-1]) if rest else 0)
        acked = whole(disk, acked)
    assert acked > 30


def writer(disk: SmallDisk, acked: int) -> subprocess.Popen[bytes]:
    """One that goes on behind what is there."""
    words = [sys.executable, "-c", WRITER, disk.path / "q", str(acked + 1)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT)


def whole(disk: SmallDisk, acked: int) -> int:
    """All that was acknowledged is there, in order, and at most one batch more; how many."""
    journal = Journal.open(disk.path / "q", segment_bytes=32 << 10, reserve_bytes=0)
    got = [(record.id, record.body) for record in journal.replay()]
    journal.close(clean=False)
    assert len(got) in (acked, acked + 1), f"seed {SEED}"
    assert got == [(n, bytes([n % 251]) * 9_000) for n in range(1, len(got) + 1)]
    return len(got)


def fill(client: Client, acked: list[int], count: int) -> None:
    """Queue until it fails, each noted once it was acknowledged."""
    try:
        for _ in range(count):
            acked.append(client.queue("job", b"x" * 300)["runs"][0]["id"])
    except JobdError:
        pass


@pytest.mark.parametrize("how", ["power", "read-only"])
def test_a_daemon_whose_disk_goes(make_disk: MakeDisk, make_host: MakeHost, how: str) -> None:
    """It stops and says why (74); on the disk that is mounted again all is there (row 21)."""
    disk = make_disk("ext4", 192 * MB, options=",errors=remount-ro")
    home = disk.path / "h"
    home.mkdir(mode=0o700)
    host = make_host(home)
    host.start()
    host.job()
    acked: list[int] = []
    with host.client(request_timeout=5) as client:
        fill(client, acked, 20)
        client.queue("job", b"large" * 30_000, key="large")
        if how == "power":
            disk.cut_power()
        else:
            disk.turn_read_only()
        with pytest.raises(OutcomeUnknownError):
            client.queue("job", b"late", key="late")
    assert host.ended() == 74
    word = "Input/output error" if how == "power" else "Read-only file system"
    assert word in host.said()
    if how == "read-only":
        host.begin()
        assert host.ended() in (74, 78), "it can be locked, read, and not written"
    disk.again()
    again(host, acked)


def again(host: StruckHost, acked: list[int]) -> None:
    """What was promised is there, and all goes on."""
    host.start()
    with host.client() as client:
        found = {run["id"] for run in client.runs()}
        assert found >= set(acked)
        late = client.queue("job", b"late", key="late")["runs"][0]["id"]
        large = client.queue("job", b"large" * 30_000, key="large")["runs"][0]["id"]
        assert client.payload(late) == b"late"
        assert client.payload(large) == b"large" * 30_000
        assert len(client.runs()) == len(acked) + 2


def test_a_file_system_without_fallocate(make_disk: MakeDisk, make_host: MakeHost) -> None:
    """Row 64: what was zeroed is room; where that is used up, refused until there is more."""
    disk = make_disk("ext4", 192 * MB, features="^extents,^64bit,^metadata_csum")
    home = disk.path / "h"
    home.mkdir(mode=0o700)
    host = make_host(home)
    host.start()
    host.job()
    with host.client() as client:
        client.queue("job", b"first")
        assert client.snapshot()["problem"] is None
        disk.fill()
        taken = 0
        while taken < 1_000 and is_taken(client):
            taken += 1
        assert 10 < taken < 1_000, "what was written ahead is room, and no more"
        with pytest.raises(RefusedError, match="bytes are missing"):
            client.queue("job", b"x" * 3900, count=100)
        assert host.ctl("cancel", "1").status == 0
        disk.empty()
        until(lambda: is_taken(client))
    count = host.json("status")["counts"]
    host.restart()
    assert host.json("status")["counts"] == count


def is_taken(client: Client) -> bool:
    """Whether a large request is taken again."""
    try:
        client.queue("job", b"x" * 3900, count=100)
    except RefusedError:
        return False
    return True

"""Processes that are killed, or run into their own limits, in the middle of a write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobd.journal import Journal

WRITER = """
import os, sys
from jobd.journal import Journal, RecordIn
journal = Journal.open(sys.argv[1], segment_bytes=1 << 20, reserve_bytes=0)
number = int(sys.argv[2])
while True:
    size = number * 613 % 20_000
    journal.write([RecordIn(1, 2, number, 1, bytes([number % 251]) * size)] * (1 + number % 3))
    os.write(1, b"%d\\n" % number)
    if number % 7 == 0:
        journal.idle()
    if number % 5 == 0:
        journal.spare()
    number += 1
"""

LIMITED = """
import os, resource, sys
from jobd.errors import DiskFailedError
from jobd.journal import Journal, RecordIn
journal = Journal.open(sys.argv[1], segment_bytes=1 << 20, reserve_bytes=0)
journal.write([RecordIn(1, 2, 1, 1, b"first")])
limit = journal.stats().bytes + 224
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    journal.write([RecordIn(1, 2, 2, 1, bytes(400))])
except DiskFailedError as error:
    print(limit - 224, error.status, error)
"""


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Every acknowledged batch is there once, in order; at most one more."""
    rng = random.Random(7)
    acked = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "q", str(acked + 1)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        journal = Journal.open(tmp_path / "q", segment_bytes=1 << 20, reserve_bytes=0)
        got = [(r.id, r.body) for r in journal.replay()]
        journal.close()
        acked_before, acked = acked, max((n for n, _ in got), default=0)
        lines = [int(line) for line in rest.split(b"\n")[:-1]]
        assert not lines or lines[-1] in (acked, acked - 1)
        assert acked > acked_before
        assert got == [
            (n, bytes([n % 251]) * (n * 613 % 20_000))
            for n in range(1, acked + 1)
            for _ in range(1 + n % 3)
        ]


def test_a_write_cut_short_by_a_limit_leaves_no_torn_batch(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: a real partial write of 224 bytes, then EFBIG (DURABILITY W5, 15)."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "q"], capture_output=True, text=True, check=True
    )
    end, status, sentence = run.stdout.split(" ", 2)
    assert status == "74"
    assert "cannot be written" in sentence
    (path,) = (tmp_path / "q").glob("seg-*.log")
    assert path.stat().st_size == int(end)
    journal = Journal.open(tmp_path / "q", segment_bytes=1 << 20, reserve_bytes=0)
    assert [r.body for r in journal.replay()] == [b"first"]
    assert journal.report.torn_bytes == 0
    journal.close()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs")
def test_on_tmpfs() -> None:
    """A state directory in memory works the same (DURABILITY 64)."""
    folder = Path("/dev/shm") / f"jobd-test-{os.getpid()}"
    try:
        run = subprocess.run(
            [sys.executable, "-c", LIMITED, folder], capture_output=True, text=True, check=True
        )
        assert " 74 " in run.stdout
        journal = Journal.open(folder, segment_bytes=1 << 20, reserve_bytes=0)
        assert [r.body for r in journal.replay()] == [b"first"]
        journal.close()
    finally:
        for path in folder.glob("*"):
            path.unlink()
        folder.rmdir()

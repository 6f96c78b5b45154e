"""`jobd fsck` and the daemon's refusal, on a real queue with one byte changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jobd.core.events import RUN, TYPE_OF, RunQueued
from jobd.journal import Journal, RecordIn


def jobd(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobd", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def queue_of(home: Path, runs: int) -> Path:
    state = home / "state"
    state.mkdir(parents=True, mode=0o700)
    journal = Journal.open(state)
    list(journal.replay())
    for run in range(1, runs + 1):
        journal.write([RecordIn(TYPE_OF[RunQueued], RUN, run, 1, b"body of run %d" % run)])
    journal.close()
    return next(state.glob("seg-*.log"))


def test_a_sound_queue_is_said_to_be_sound(tmp_path: Path) -> None:
    queue_of(tmp_path, 5)
    done = jobd("fsck", "--home", str(tmp_path), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["sound"], found["records"], found["clean"]) == (0, True, 5, True)
    assert "5 records" in jobd("fsck", "--home", str(tmp_path)).stdout


def test_one_changed_byte_names_the_run_and_stops_the_daemon(tmp_path: Path) -> None:
    segment = queue_of(tmp_path, 5)
    data = bytearray(segment.read_bytes())
    data[data.index(b"body of run 3")] ^= 0x20
    segment.write_bytes(bytes(data))
    done = jobd("fsck", "--home", str(tmp_path))
    assert done.returncode == 65
    assert "damaged: run 3, its change 1" in done.stdout
    started = jobd("run", "--home", str(tmp_path), "--engine", "fake")
    assert started.returncode == 65
    assert "jobd: damaged: run 3, its change 1" in started.stderr
    assert segment.read_bytes() == bytes(data)


def test_no_queue_is_told(tmp_path: Path) -> None:
    done = jobd("fsck", "--home", str(tmp_path / "none"))
    assert done.returncode == 78
    assert "no such folder" in done.stderr

"""`jobd fsck --salvage` as its user meets it: five jobs, one bit flipped in the third (DURABILITY,
"The findings that matter most": beanstalkd and Redis hand the changed bytes out, SQLite, RocksDB
and NATS lose 3, 4 and 5; none says a word)."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.test_fsck import jobd
from tests.support.fakehost import SMALL, FakeHost, queue
from tests.support.waiting import until

PAYLOADS = [b"body of run %d" % number for number in range(1, 6)]


@pytest.fixture
def five(tmp_path: Path) -> FakeHost:
    """Five runs queued, the daemon killed with -9."""
    host = FakeHost(tmp_path / "home").start()
    with host.client() as client:
        client.register({"name": "good", "image": "img", "command": ["payload"], **SMALL})
        client.drain()
        for payload in PAYLOADS:
            queue(client, "good", payload=payload)
    host.end(signal.SIGKILL)
    return host


def segment_of(host: FakeHost) -> Path:
    state = host.home / "state"
    return next(p for p in state.glob("seg-*.log") if PAYLOADS[1] in p.read_bytes())


def damage(host: FakeHost, at: int, *bits: int) -> None:
    """Flip bits of the payload of run 3, from byte `at` of it on."""
    path = segment_of(host)
    data = bytearray(path.read_bytes())
    start = data.index(PAYLOADS[2]) + at
    for number, bit in enumerate(bits):
        data[start + number] ^= bit
    path.write_bytes(bytes(data))


def salvage(host: FakeHost) -> dict[str, object]:
    refused = jobd("run", "--home", str(host.home), "--engine", "fake")
    assert refused.returncode == 65
    assert str(segment_of(host)) in refused.stderr
    assert "damaged: run 3, its change 1" in refused.stderr
    assert f"`jobd fsck --salvage --home {host.home}`" in refused.stderr
    done = jobd("fsck", "--salvage", "--home", str(host.home), "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    assert "is sound" in jobd("fsck", "--salvage", "--home", str(host.home)).stdout
    assert jobd("fsck", "--home", str(host.home)).returncode == 0
    return report


def finished(host: FakeHost) -> bool:
    rows = host.json("ls", "--all")
    return all(row["status"] == "succeeded" for row in rows if row["id"] != 3)


def test_five_jobs_and_one_bit_flipped_in_the_third(five: FakeHost) -> None:
    damage(five, 8, 0x20)
    report = salvage(five)
    assert [one["run"] for one in report["suspect"]] == [3]  # type: ignore[attr-defined]
    assert (report["kept"], report["missing"]) == (4, [])
    five.start()
    rows = {row["id"]: row for row in five.json("ls", "--all")}
    assert {number: row["status"] for number, row in rows.items()} == {
        1: "queued", 2: "queued", 3: "held", 4: "queued", 5: "queued"
    }  # fmt: skip
    assert rows[3]["reason"]["code"] == "suspect"
    five.json("undrain")
    until(lambda: finished(five))
    # it is never started by itself; what its checksum tells was set right, for a person to judge
    assert five.json("show", "3")["status"] == "held"
    for number in (1, 2, 3, 4, 5):
        assert five.ctl("payload", str(number)).out.encode() == PAYLOADS[number - 1]
    assert five.json("retry", "3")["retry_of"] == 3
    assert five.ctl("release", "3").status == 0
    until(lambda: five.json("show", "3")["status"] == "succeeded")
    five.end()


def test_what_cannot_be_read_is_held_and_can_only_be_cancelled(five: FakeHost) -> None:
    damage(five, 0, 0x20, 0x11, 0x42)
    report = salvage(five)
    assert [(one["run"], one["code"]) for one in report["suspect"]] == [  # type: ignore[attr-defined]
        (3, "unreadable")
    ]
    five.start()
    assert five.json("show", "3")["status"] == "held"
    for verb in ("release", "retry"):
        said = five.ctl(verb, "3")
        assert said.status == 73, said.err
    assert five.ctl("cancel", "3").status == 0
    five.json("undrain")
    until(lambda: finished(five))
    five.end()


def test_a_running_daemon_and_another_users_queue_are_refused(five: FakeHost) -> None:
    five.start()
    done = jobd("fsck", "--salvage", "--home", str(five.home))
    assert done.returncode == 73
    assert "in use" in done.stderr
    five.end()
    done = jobd("fsck", "--salvage", "--home", str(five.home / "none"))
    assert done.returncode == 78

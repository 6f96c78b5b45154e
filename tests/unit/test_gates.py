"""Whether the live host lets anything start: pressure, load, disks, without flapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobd.capacity import probe
from jobd.capacity.gates import Disk, Gates, Readings, Thresholds
from jobd.capacity.ledger import Host, Ledger
from jobd.core.states import Kind
from tests.support.core import Bench

MIB = 1 << 20


def test_a_gate_closes_at_its_limit_and_opens_a_fifth_below() -> None:
    gates = Gates(Thresholds(pressure_cpu=0.5))
    closed = []
    for value in (0.4, 0.49, 0.5, 0.45, 0.41, 0.39, 0.45, 0.6):
        gates.look(Readings({"cpu": value}))
        closed.append(gates.closed(Kind.PROCESS) is not None)
    assert closed == [False, False, True, True, True, False, False, True]
    reason = gates.closed(Kind.CONTAINER)
    assert reason == (
        "capacity",
        "the host waits for cpu 60% of its time (admission.pressure_cpu 50%; "
        "runs start again below 40%)",
    )


@pytest.mark.parametrize("what", ["cpu", "memory", "io"])
def test_each_pressure_has_its_own_limit(what: str) -> None:
    gates = Gates(Thresholds(**{f"pressure_{what}": 0.2, "disk_free": None}))
    gates.look(Readings({what: 0.3}))
    assert [gate.name for gate in gates.gates if not gate.ok] == [f"pressure-{what}"]


def test_load_is_counted_for_each_core() -> None:
    gates = Gates(Thresholds(load=2.0))
    assert gates.look(Readings({}, load=2.5))
    assert not gates.look(Readings({}, load=1.7)), "closed still"
    assert gates.look(Readings({}, load=1.5))


def test_a_full_disk_of_images_holds_up_containers_alone() -> None:
    gates = Gates(Thresholds(disk_free=100 * MIB))
    disks = (Disk("/logs", 200 * MIB, 1 << 40), Disk("/images", 50 * MIB, 1 << 40, images=True))
    gates.look(Readings({}, disks=disks))
    assert gates.closed(Kind.PROCESS) is None
    reason = gates.closed(Kind.CONTAINER)
    assert reason is not None
    assert (reason.code, reason.text.partition(" (")[0]) == ("disk", "/images has 50M free")


def test_of_a_small_disk_a_tenth_is_enough() -> None:
    gates = Gates(Thresholds(disk_free=100 * MIB))
    gates.look(Readings({}, disks=(Disk("/logs", 20 * MIB, 64 * MIB),)))
    assert gates.closed(Kind.PROCESS) is None


def test_what_the_host_does_not_tell_closes_nothing() -> None:
    gates = Gates(Thresholds(pressure_cpu=0.1, load=0.1))
    assert not gates.look(Readings({}))
    assert gates.closed(Kind.PROCESS) is None


def test_nothing_starts_while_one_is_closed() -> None:
    bench, ledger = Bench(), Ledger(Host(4.0, 1 << 40, 0.0, 0))
    ledger.engines = dict.fromkeys(Kind)
    bench.register()
    bench.queue()
    ledger.gates.look(Readings({"memory": 0.9}))
    assert bench.claim(ledger) == []
    ledger.gates.look(Readings({"memory": 0.1}))
    assert bench.claim(ledger) == [1]


def test_this_host_is_read(tmp_path: Path) -> None:
    (disk,) = probe.disks([(str(tmp_path), True), (str(tmp_path), False), ("/no/where", True)])
    assert 0 < disk.free <= disk.total
    assert not disk.images, "a file system that is for both is for both"
    assert probe.load() >= 0

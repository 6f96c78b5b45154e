"""Whether a run fits: declared capacity, the reserve, the one that runs alone, and what is free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.capacity.ledger import Host, Ledger, Sample, mib
from jobd.core.model import Needs, Reason
from jobd.core.states import Kind
from tests.support.core import Bench

MIB = 1 << 20
HOST = Host(cpus=4.0, memory=4096 * MIB, reserve_cpus=0.5, reserve_memory=512 * MIB)
NONE = Needs(0.0, 0)


def opened(host: Host = HOST) -> Ledger:
    ledger = Ledger(host)
    ledger.engines = dict.fromkeys(Kind)
    return ledger


def fits(
    ledger: Ledger, cpus: float, memory: int, reserved: Needs = NONE, running: int = 0
) -> bool:
    return ledger.shortfall(Needs(cpus, memory * MIB), reserved, running) is None


def test_nothing_starts_before_the_engine_was_looked_at() -> None:
    ledger = Ledger(HOST)
    for kind in Kind:
        held = ledger.closed(kind)
        assert held is not None
        assert held.code == "reconciling"
    ledger.engines[Kind.PROCESS] = None
    assert ledger.closed(Kind.PROCESS) is None
    assert ledger.closed(Kind.CONTAINER) == held, "one engine's trouble is its own"
    ledger.disk = Reason("disk", "full")
    assert ledger.closed(Kind.PROCESS) == ("disk", "full")
    ledger.hold = Reason("drain", "draining")
    assert {ledger.closed(kind) for kind in Kind} == {("drain", "draining")}


def test_the_reserve_is_kept_while_others_run() -> None:
    ledger, one = opened(), Needs(1.0, 1024 * MIB)
    assert fits(ledger, 2.5, 1024, one, 1)
    assert not fits(ledger, 2.6, 1024, one, 1)
    assert fits(ledger, 1.0, 2560, one, 1)
    assert not fits(ledger, 1.0, 2561, one, 1)


def test_a_run_that_fits_only_without_the_reserve_starts_alone() -> None:
    ledger = opened()
    assert fits(ledger, 4.0, 4096)
    assert not fits(ledger, 4.0, 1, Needs(0.01, MIB), 1)
    assert not fits(ledger, 4.01, 1)
    assert not fits(ledger, 1, 4097)


def test_beside_one_that_took_the_reserve_nothing_fits() -> None:
    assert not fits(opened(), 0.01, 6, Needs(4.0, 4096 * MIB), 1)


def test_tenths_of_a_core_add_up() -> None:
    reserved = Needs(0.1 + 0.2, 0)  # 0.30000000000000004
    assert fits(opened(Host(0.4, MIB * 64, 0.0, 0)), 0.1, 6, reserved, 2)


def test_a_shortfall_tells_the_numbers() -> None:
    ledger, one = opened(), Needs(1.0, 1024 * MIB)
    cpus = ledger.shortfall(Needs(3.0, 6 * MIB), one, 1)
    assert cpus == (
        "capacity",
        "needs 3 cpus: 2.50 of 4 free (1 reserved by 1 running, 0.5 kept in reserve)",
    )
    memory = ledger.shortfall(Needs(1.0, 3000 * MIB), one, 1)
    assert memory == (
        "capacity",
        "needs 3000M of memory: 2560M of 4096M free (1024M reserved by 1 running, "
        "512M kept in reserve)",
    )
    alone = ledger.shortfall(Needs(5.0, 6 * MIB), NONE, 0)
    assert alone is not None
    assert "reserve" not in alone.text.replace("reserved", "")


def test_the_live_rule_counts_what_is_promised_and_not_yet_taken() -> None:
    ledger, one = opened(), Needs(1.0, 1024 * MIB)
    # 2000M are available, the attempt that runs will take 600M more of its 1024M
    ledger.sample = Sample(2000 * MIB, 10.0, 600 * MIB, 1024 * MIB)
    assert fits(ledger, 1, 2000 - 600 - 512, one, 1)
    assert not fits(ledger, 1, 2000 - 600 - 512 + 1, one, 1)
    reason = ledger.shortfall(Needs(1.0, 1000 * MIB), one, 1)
    assert reason is not None
    assert reason.text == (
        "needs 1000M of memory: the host has 2000M available, of which 600M are promised to "
        "running attempts and 512M kept in reserve"
    )


def test_the_live_rule_for_one_that_would_run_alone() -> None:
    ledger = opened()
    ledger.sample = Sample(2000 * MIB, 10.0, 0, 0)
    assert fits(ledger, 1, 2000)
    assert not fits(ledger, 1, 2001)


def test_what_was_claimed_since_the_last_sample_is_promised_too() -> None:
    # the case: thirty runs of 512M claimed in one pass on a host with 2000M available
    ledger = opened(Host(64.0, 64 << 30, 0.0, 0))
    ledger.sample = Sample(2000 * MIB, 0.0, 0, 0)
    reserved, running = NONE, 0
    while fits(ledger, 1, 512, reserved, running):
        reserved, running = Needs(reserved.cpus + 1, reserved.memory + 512 * MIB), running + 1
        assert running < 30
    assert running == 3


def test_what_ended_since_the_last_sample_is_free_again() -> None:
    ledger = opened(Host(64.0, 64 << 30, 0.0, 0))
    ledger.sample = Sample(100 * MIB, 0.0, 200 * MIB, 1024 * MIB)
    assert not fits(ledger, 1, 512, Needs(1.0, 1024 * MIB), 1)
    assert fits(ledger, 1, 512, NONE, 0)


def test_what_can_never_fit() -> None:
    ledger = opened()
    assert ledger.never(Needs(4.0, 4096 * MIB)) is None
    assert ledger.never(Needs(4.1, MIB)) == ("capacity", "needs 4.1 cpus, this host has 4")
    assert ledger.never(Needs(1.0, 4097 * MIB)) == (
        "capacity",
        "needs 4097M of memory, this host has 4096M",
    )


amounts = st.tuples(st.floats(0.01, 8), st.integers(1, 8192 * MIB)).map(lambda pair: Needs(*pair))


@given(amounts, st.lists(amounts, max_size=5), st.none() | st.integers(0, 8192 * MIB))
def test_what_is_let_in_never_exceeds_the_host(
    needs: Needs, others: list[Needs], available: int | None
) -> None:
    ledger = opened()
    if available is not None:
        ledger.sample = Sample(available, 0.0, 0, 0)
    reserved, running = NONE, 0
    for one in [*others, needs]:
        if ledger.shortfall(one, reserved, running) is None:
            reserved = Needs(reserved.cpus + one.cpus, reserved.memory + one.memory)
            running += 1
    assert reserved.cpus <= HOST.cpus + 1e-6
    assert reserved.memory <= HOST.memory
    if available is not None:
        assert reserved.memory <= available
    if ledger.never(needs) is not None:
        assert ledger.shortfall(needs, NONE, 0) is not None


def test_what_active_runs_have_not_taken_yet() -> None:
    bench = Bench()
    bench.register(resources={"memory": "100M"})
    runs = [bench.queue() for _ in range(3)]
    used = {runs[0].id: 30 * MIB, runs[1].id: 150 * MIB}  # the last one has no figure yet
    assert opened().unused(runs, used) == (70 + 0 + 100) * MIB


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (512, "512"), (1 << 20, "1M"), ((3 << 20) - 1, "2M"), (2048, "2K")]
)
def test_sizes_in_messages(size: int, text: str) -> None:
    assert mib(size) == text

"""A power cut or a kill at every step of a queue's life and recovery (DURABILITY 2-4, 25)."""

from __future__ import annotations

import pytest

from tests.support.queue_client import (
    FIRST,
    Client,
    carry_on,
    copy_of,
    kept_copies,
    live_through,
    open_on,
    operations,
    states,
    torn_store,
)
from tests.support.queue_client import small_steps as small_steps  # used by pytest
from tests.support.sim_disk import PowerCut, SimDisk


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

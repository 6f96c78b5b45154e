"""A device whose writes fail, and which heals: rows 13 and 14, on a real kernel's page cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobd.errors import OutcomeUnknownError
from tests.faults.conftest import MakeHost
from tests.support.failing_disk import FailingDisk, failing, why_no_failing_disk

MB = 1 << 20


@pytest.fixture
def device(folder: Path) -> Iterator[FailingDisk]:
    """Skips loudly where it cannot be had."""
    reason = why_no_failing_disk()
    if reason is not None:
        pytest.skip(f"NOT TESTED on this host, a failing device: {reason}")
    into = folder / "n"
    into.mkdir()
    with failing(into, 160 * MB) as made:
        yield made


def test_the_cache_lies_after_a_failed_sync(device: FailingDisk) -> None:
    """Without this the test below would prove nothing: a second sync succeeds, on nothing."""
    fd = os.open(device.path / "f", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, b"a" * 8192, 0)
        os.fsync(fd)
        device.fail()
        os.pwrite(fd, b"b" * 8192, 0)
        with pytest.raises(OSError):
            os.fdatasync(fd)
        device.heal()
        assert os.pread(fd, 1, 0) == b"b"
        os.fdatasync(fd)
    finally:
        os.close(fd)
    device.again()
    assert (device.path / "f").read_bytes() == b"a" * 8192


def test_what_only_the_cache_shows_is_not_served(device: FailingDisk, make_host: MakeHost) -> None:
    home = device.path / "h"
    home.mkdir(mode=0o700)
    host = make_host(home)
    host.start()
    host.job()
    with host.client() as client:
        client.queue("job", b"first", key="k1")
        device.fail()
        with pytest.raises(OutcomeUnknownError, match="outcome of the last requests is unknown"):
            client.queue("job", b"second", key="k2")
    assert host.ended() == 74
    shown = b"second" in host.segment().read_bytes()
    device.heal()
    host.start()
    served = host.payloads()
    host.close()
    # the truth is what is on the device
    device.again()
    host.start()
    assert host.payloads() == served == [b"first"], f"the cache showed it: {shown}"
    with host.client() as client:
        client.queue("job", b"second", key="k2")
    assert host.payloads() == [b"first", b"second"]
    host.close()

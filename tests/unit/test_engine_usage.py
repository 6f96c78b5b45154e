"""Usage is read right from trees of cgroup v1 and v2 as the kernel lays them out.

Of files on disk: this machine has one version only, and the other must be read as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobd.engine.base import Usage
from jobd.engine.cgroupfiles import Reading, Throttled
from jobd.engine.usage import Cgroups, CgroupSettings, usage_of

REF = "jobd-00000000-1-1"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def v1(tmp_path):
    for controller in ("memory", "cpuacct", "pids"):
        (tmp_path / controller).mkdir()
    (tmp_path / "cpu").symlink_to(tmp_path / "cpuacct")
    return Cgroups(CgroupSettings(root=tmp_path))


@pytest.fixture
def v2(tmp_path):
    write(tmp_path, cgroup__controllers="cpu memory pids\n")
    return Cgroups(CgroupSettings(root=tmp_path))


def test_a_parent_of_version_1(v1, tmp_path):
    write(
        tmp_path / "memory" / "jobd" / REF,
        memory__max_usage_in_bytes="33554432\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    )
    write(tmp_path / "cpuacct" / "jobd" / REF, cpuacct__usage="1500000000\n")
    reading = v1.read_parent(REF)
    # a parent counts no kills there, so 0 says nothing
    assert reading == Reading(1.5, 32 << 20, None)
    assert usage_of(reading, None) == Usage(1.5, 32 << 20, "parent", cpu_source="parent")


def test_a_parent_of_version_2(v2, tmp_path):
    write(
        tmp_path / "jobd" / REF,
        memory__peak="33554432\n",
        memory__current="0\n",
        memory__events="low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n",
        cpu__stat="usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
    )
    assert v2.read_parent(REF) == Reading(1.5, 32 << 20, 1)


def test_a_kernel_without_a_peak_has_none_after_the_end(v2, tmp_path):
    # what is in use after the end says nothing of what was
    write(tmp_path / "jobd" / REF, memory__current="4096\n", cpu__stat="usage_usec 1\n")
    reading = v2.read_parent(REF)
    assert reading is not None
    assert reading.memory_peak is None
    assert usage_of(reading, None) == Usage(cpu_seconds=1e-6, cpu_source="parent")
    # but the samples know, and are believed where the parent is silent
    assert usage_of(reading, Reading(0.5, 99)) == Usage(1e-6, 99, "sampled", cpu_source="parent")


def test_no_parent_is_no_reading(v1, v2):
    assert v1.read_parent(REF) is None
    assert v2.read_parent(REF) is None
    assert usage_of(None, None) == Usage()


def own_cgroup(tmp_path: Path) -> str:
    """The last part of this process's own cgroup name of version 2, to stand for a container's."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.split(":", 2)[2] for line in lines if line.startswith("0::"))


def test_samples_keep_the_greatest(v2, tmp_path):
    name = own_cgroup(tmp_path)
    here = tmp_path / name[1:]
    write(here, memory__current="100\n", cpu__stat="usage_usec 2000000\n")
    v2.found_at(REF, os.getpid(), name.rsplit("/", 1)[-1])
    assert v2.is_placed(REF)
    assert v2.sample(REF) == Reading(2.0, 100, None, 100)
    write(here, memory__current="50\n", cpu__stat="usage_usec 3000000\n")
    assert v2.sample(REF) == Reading(3.0, 100, None, 50)
    # the container ended: its files are gone, the last sample stays
    for file in ("memory.current", "cpu.stat"):
        (here / file).unlink()
    assert v2.sample(REF) == Reading(3.0, 100, None, None)
    v2.forget(REF)
    assert v2.sample(REF) is None
    assert not v2.is_placed(REF)


def test_a_process_that_is_not_the_containers_is_not_measured(v2):
    # its pid was used again, or the engine is on another host
    v2.found_at(REF, os.getpid(), "f" * 64)
    v2.found_at(REF, 2**22 + 1, "")
    assert not v2.is_placed(REF)


def test_parents_go_when_they_are_forgotten_and_only_then(v1, tmp_path):
    for controller in ("memory", "cpuacct", "pids"):
        (tmp_path / controller / "jobd" / REF).mkdir(parents=True)
        (tmp_path / controller / "jobd" / "jobd-00000000-2-1").mkdir()
    v1.forget(REF)
    v1.forget(REF)
    assert {path.name for path in tmp_path.glob("*/jobd/*")} == {"jobd-00000000-2-1"}


def test_sweep_keeps_what_is_still_to_be_collected_and_what_is_others(v1, tmp_path):
    names = ["jobd-00000000-1-1", "jobd-00000000-2-1", "jobd-ffffffff-1-1", "something"]
    for name in names:
        (tmp_path / "memory" / "jobd" / name).mkdir(parents=True)
    busy = tmp_path / "memory" / "jobd" / "jobd-00000000-3-1" / "child"
    busy.mkdir(parents=True)
    v1.sweep("jobd-00000000-", ["jobd-00000000-2-1"])
    left = {path.name for path in tmp_path.glob("memory/jobd/*")}
    assert left == {*names[1:], "jobd-00000000-3-1"}


def test_without_parents_nothing_is_removed(tmp_path):
    folder = tmp_path / "jobd" / REF
    write(tmp_path, cgroup__controllers="\n")
    folder.mkdir(parents=True)
    cgroups = Cgroups(CgroupSettings(parents=False, root=tmp_path))
    cgroups.forget(REF)
    cgroups.sweep("jobd-", [])
    assert folder.exists()
    assert not cgroups.can_parent("cgroupfs")


def test_parents_need_the_driver_cgroupfs(v2):
    assert not v2.can_parent("systemd")
    assert v2.can_parent("cgroupfs") == (os.geteuid() == 0)


# -- trees as they were seen, or as the kernel's documentation lays them out where this project's
# machines have none; see tests/data/cgroup


def tree(name: str, tmp_path: Path) -> Cgroups:
    """The files of a recorded tree, laid out again below `tmp_path`."""
    text = (Path(__file__).parents[1] / "data" / "cgroup" / f"{name}.txt").read_text()
    for part in text.split("== ")[1:]:
        path, _, content = part.partition("\n")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    if (tmp_path / "cpu,cpuacct").exists():
        for alias in ("cpu", "cpuacct"):
            (tmp_path / alias).symlink_to("cpu,cpuacct")
    return Cgroups(CgroupSettings(root=tmp_path, proc=tmp_path / "proc"))


@pytest.mark.parametrize("name", ["v1-systemd", "v2-systemd"])
def test_systemds_cgroups_are_found_and_read(name, tmp_path):
    cgroups = tree(name, tmp_path)
    cgroups.found_at(REF, 4242, "0123456789abcdef" * 4)
    reading = cgroups.sample(REF)
    # in use are 70 MiB, of which 50 are cached files, of which 10 are shared memory
    expected = Reading(2.512345, 100 << 20, 1, 30 << 20, 1572864, 4194304, Throttled(3456, 48, 120))
    assert reading == expected
    assert usage_of(None, reading) == Usage(
        cpu_seconds=2.512345,
        memory_peak=100 << 20,
        memory_peak_source="sampled",
        memory_now=30 << 20,
        cpu_source="sampled",
        block_read=1572864,
        block_written=4194304,
        block_source="sampled",
        throttled_ms=3456,
        throttled_periods=48,
        periods=120,
        throttle_source="sampled",
    )


def test_the_attempts_own_cgroup_below_its_parent(tmp_path):
    cgroups = tree("v1-cgroupfs", tmp_path)
    cgroups.found_below_parent(REF)
    assert cgroups.is_placed(REF)
    parent, own = cgroups.read_parent(REF, alive=True), cgroups.sample(REF)
    assert parent is not None
    assert own is not None
    # the parent counts its own limit's periods, of which there is none
    assert (parent.throttled, own.throttled) == (None, Throttled(1788, 26, 29))
    usage = usage_of(parent, own)
    assert (usage.cpu_seconds, usage.cpu_source) == (0.545997979, "parent")
    assert (usage.memory_peak, usage.memory_peak_source) == (4337664, "parent")
    assert usage.memory_now == 1753088 - 962560
    assert (usage.throttled_ms, usage.throttle_source) == (1788, "sampled")
    # that kernel counted no bytes, which is not the same as none
    assert (usage.block_read, usage.block_source) == (None, "none")


def test_block_bytes_are_the_greater_of_what_a_parent_and_the_samples_saw():
    parent, own = Reading(block_read=10, block_written=0), Reading(block_read=10, block_written=5)
    assert usage_of(parent, own).block_written == 5
    assert usage_of(parent, own).block_source == "sampled"
    assert usage_of(own, parent).block_source == "parent"
    assert usage_of(own, None).block_written == 5

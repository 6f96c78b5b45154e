"""What an attempt may do, what it is limited to, and what it is said to have used."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from jobd.engine.base import Mount, Usage
from jobd.engine.docker import DockerEngine
from jobd.engine.usage import CgroupSettings
from tests.support.engine_support import ended, run, silent, text

# CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10
CAPABILITIES = sum(1 << number for number in (0, 1, 3, 5, 6, 7, 10))


def status_of_attempt(lines) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text(lines).splitlines() if ":\t" in line)


def test_capabilities_are_the_interfaces_and_no_more(engine, order):
    _, lines = run(engine, order("cat", "/proc/self/status"))
    status = status_of_attempt(lines)
    assert int(status["CapEff"], 16) == CAPABILITIES
    assert int(status["CapBnd"], 16) == CAPABILITIES
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_init_is_process_one(engine, order):
    _, lines = run(engine, order("sh", "-c", "cat /proc/1/comm; cat /proc/self/oom_score_adj"))
    assert text(lines).split() == ["docker-init", "500"]


def test_an_ordinary_user_has_no_capabilities(engine, order):
    _, lines = run(engine, order("cat", "/proc/self/status", user="65534:65534"))
    status = status_of_attempt(lines)
    assert int(status["CapEff"], 16) == 0
    assert status["Uid"].split() == ["65534"] * 4
    _, lines = run(engine, order("id", "-un", user="nobody"))
    assert text(lines) == "nobody\n"


def test_processes_are_limited(engine, order):
    script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all"
    ending, lines = run(engine, order("sh", "-c", script, pids=20))
    assert "all" not in text(lines)
    assert ending.exit_code != 0


def test_core_files_are_off(engine, order):
    _, lines = run(engine, order("sh", "-c", "ulimit -c; ulimit -Hc"))
    assert text(lines).split() == ["0", "0"]


def test_network_none_has_loopback_only(engine, order):
    _, lines = run(engine, order("ls", "/sys/class/net"))
    assert text(lines).split() == ["lo"]


def test_network_host_sees_the_hosts(engine, order):
    with open("/proc/net/dev", encoding="ascii") as table:
        wanted = {line.split(":")[0].strip() for line in table.readlines()[2:]}
    _, lines = run(engine, order("cat", "/proc/net/dev", network="host"))
    seen = {line.split(":")[0].strip() for line in text(lines).splitlines()[2:]}
    assert seen == wanted


def test_mounts_are_read_only_unless_told_otherwise(engine, order, tmp_path):
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
    mounts = (Mount(str(tmp_path / "ro"), "/ro"), Mount(str(tmp_path / "rw"), "/rw", False))
    ending, _ = run(engine, order("sh", "-c", "touch /rw/a && ! touch /ro/a", mounts=mounts))
    assert ending.exit_code == 0
    assert [file.name for file in tmp_path.rglob("a")] == ["a"]


def test_out_of_memory_is_told(engine, order):
    # the shell's own process grows, so it is the one that is killed
    one = order("awk", 'BEGIN { s = "x"; while (1) s = s s }', memory=16 << 20)
    ending, _ = run(engine, one)
    assert ending.exit_code == 137
    assert ending.oom
    assert ending.usage.memory_peak is not None
    assert 12 << 20 < ending.usage.memory_peak <= 17 << 20


def test_a_child_out_of_memory_is_a_hint(engine, order):
    script = "(awk 'BEGIN { s = \"x\"; while (1) s = s s }'); echo the child is gone; exit 0"
    ending, lines = run(engine, order("sh", "-c", script, memory=16 << 20))
    assert ending.exit_code == 0
    assert ending.oom
    assert "the child is gone" in text(lines)


def test_peak_and_cpu_time_are_those_of_a_known_load(engine, order):
    script = (
        "dd if=/dev/zero of=/dev/null bs=30M count=1 2>/dev/null;"
        " timeout 1 sh -c 'while :; do :; done'"
    )
    ending, _ = run(engine, order("sh", "-c", script))
    usage = ending.usage
    assert usage.memory_peak_source == "parent"
    assert usage.memory_peak is not None
    assert 30 << 20 < usage.memory_peak < 45 << 20
    assert usage.cpu_seconds is not None
    # one second of spinning, on a machine whose cores may be somebody else's half the time
    assert 0.2 < usage.cpu_seconds < 2.0


def test_what_is_used_now_and_what_the_limit_held_back(engine, order):
    script = (
        'x=$(dd if=/dev/zero bs=1M count=8 2>/dev/null | tr "\\0" x); read -r _ </job/go;'
        " x=; while :; do :; done"
    )
    one = order("sh", "-c", script, cpus=0.2, memory=128 << 20)
    os.mkfifo(one.task_dir / "go")
    engine.start(one, silent)
    give_up = time.monotonic() + 60
    while ((seen := engine.usage(one.ref)).memory_now or 0) < 8 << 20:
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
    assert seen.memory_peak is not None
    (one.task_dir / "go").write_text("go\n")
    while not (seen := engine.usage(one.ref)).throttled_ms:
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
    engine.signal(one.ref, "SIGKILL")
    usage = ended(engine, one.ref).usage
    # what ended uses nothing now; what held it back is known from the last look
    assert usage.memory_now is None or usage.memory_now < 1 << 20
    assert usage.throttle_source == "sampled"
    assert usage.throttled_ms is not None
    assert usage.throttled_ms >= (seen.throttled_ms or 0)
    assert 0 < (usage.throttled_periods or 0) <= (usage.periods or 0)


def test_without_a_parent_cgroup_usage_is_sampled(engine, order, url):
    other = DockerEngine(url, bytes.fromhex(engine.store), cgroups=CgroupSettings(parents=False))
    assert any("sampled" in note for note in other.connect().notes)
    one = order("sh", "-c", "dd if=/dev/zero of=/dev/null bs=30M count=1; sleep 30")
    other.start(one, silent)
    give_up = time.monotonic() + 20
    while (seen := other.usage(one.ref)).memory_peak is None or seen.memory_peak < 30 << 20:
        assert time.monotonic() < give_up, seen
        time.sleep(0.1)
    assert seen.memory_peak_source == "sampled"
    assert seen.cpu_seconds is not None
    other.signal(one.ref, "SIGKILL")
    ending = ended(other, one.ref)
    assert ending.usage.memory_peak_source == "sampled"
    assert ending.usage.memory_peak is not None
    assert ending.usage.memory_peak >= 30 << 20
    other.discard(one.ref)
    assert other.usage(one.ref) == Usage()
    other.close()


def test_discard_leaves_no_cgroup(engine, order):
    one = order("true")
    run(engine, one)
    root = CgroupSettings().root
    assert list(root.glob(f"**/{one.ref}"))
    engine.discard(one.ref)
    assert not list(root.glob(f"**/{one.ref}"))


def test_a_cgroup_left_behind_is_swept_at_connect(engine, order, sdk, url):
    lost, ended_one = order("true"), order("true")
    run(engine, lost)
    run(engine, ended_one)
    sdk.remove_container(lost.ref)  # as by a jobd that was killed in mid-discard
    root = CgroupSettings().root
    assert list(root.glob(f"**/{lost.ref}"))
    again = DockerEngine(url, bytes.fromhex(engine.store))
    again.connect()
    again.close()
    assert not list(root.glob(f"**/{lost.ref}"))
    ending = engine.ending(ended_one.ref)
    assert ending is not None
    assert ending.usage.memory_peak_source == "parent"


def test_the_usage_of_a_running_attempt_grows(engine, order):
    one = order("sh", "-c", "while :; do :; done")
    engine.start(one, silent)
    first = engine.usage(one.ref).cpu_seconds
    assert first is not None
    give_up = time.monotonic() + 20
    while (engine.usage(one.ref).cpu_seconds or 0) < first + 0.2:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    engine.signal(one.ref, "SIGKILL")


def test_many_threads_share_one_engine(engine, order):
    def work(number: int) -> None:
        for turn in range(3):
            one = order("sh", "-c", f"echo {number}.{turn}; exit {number}")
            ending, lines = run(engine, one)
            assert ending.exit_code == number
            assert text(lines) == f"{number}.{turn}\n"
            engine.discard(one.ref)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert engine.found() == []

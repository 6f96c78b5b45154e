"""The same daemon on Podman's socket: what it does otherwise is met (facts, 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_rig import FaultRig
from tests.support.podman_engine import PodmanEngine
from tests.support.private_engine import end_of


@pytest.fixture(scope="module")
def podman() -> Iterator[PodmanEngine]:
    """A service of the module's own."""
    made = PodmanEngine()
    yield made
    made.close()


@pytest.fixture
def rig(podman: PodmanEngine, tmp_path: Path) -> Iterator[FaultRig]:
    """A daemon on it, told to expect it."""
    made = FaultRig(tmp_path / "0", podman.socket, kind="podman")
    yield made
    made.close()


def test_a_life_its_output_and_its_exit_statuses(rig: FaultRig, podman: PodmanEngine) -> None:
    row = rig.api.status()["engine"]
    assert (row["name"], row["reachable"]) == ("podman", True)
    assert row["version"]
    rig.register("fine", "echo err >&2; cat $PAYLOAD_FILE; echo yes >$RESULT_FILE; printf end")
    rig.register("fails", "exit 7")
    rig.ctl(*_plain("missing"), rig.image, "no-such-command")
    rig.ctl(*_plain("refused"), rig.image, "/etc/passwd")
    rig.ctl(*_plain("user"), "--user", "nobody-here", rig.image, "true")
    names = ("fine", "fails", "missing", "refused", "user")
    numbers = {name: rig.queue(name, "-p", "hello\n") for name in names}
    ended = {name: rig.ended(number) for name, number in numbers.items()}
    assert ended["fine"]["status"] == "succeeded"
    assert rig.text(numbers["fine"], "--stdout") == "begin 1\nhello\nend"
    assert rig.ctl("logs", str(numbers["fine"]), "--stderr").stderr == "err\n"
    assert rig.ctl("result", str(numbers["fine"])).stdout == "yes\n"
    codes = {name: (run["status"], run["exit_code"]) for name, run in ended.items()}
    assert codes["fails"] == ("failed", 7), ended["fails"]
    assert codes["missing"] == ("failed", 127), ended["missing"]
    assert codes["refused"] == ("failed", 126), ended["refused"]
    assert codes["user"] == ("failed", None), ended["user"]
    assert "cannot execute" in ended["missing"]["reason"]["text"]
    assert "user" in ended["user"]["reason"]["text"]
    assert podman.podman("ps", "--all", "--quiet") == ""


def _plain(name: str) -> list[str]:
    limits = ["--network", "none", "--memory", "32M", "--cpus", "0.1"]
    return ["register", "--name", name, *limits]


def test_an_image_that_podman_made_itself_is_found_by_its_short_name(
    rig: FaultRig, podman: PodmanEngine
) -> None:
    podman.podman("tag", rig.image, "localhost/mine:1")
    rig.image = "mine:1"
    rig.register("mine", "exit 0")
    assert rig.ended(rig.queue("mine"))["status"] == "succeeded"


def test_stop_timeout_and_memory(rig: FaultRig) -> None:
    rig.register("stop", "sleep 60")
    rig.register("deaf", "trap '' TERM; sleep 60 & wait; sleep 60", "--stop-grace", "1s")
    rig.register("late", "sleep 60", "--timeout", "1s")
    rig.register("hungry", "exec tail /dev/zero", "--memory", "16M")
    numbers = {name: rig.queue(name) for name in ("stop", "deaf", "late", "hungry")}
    for name in ("stop", "deaf"):
        rig.begun(numbers[name])
        rig.ctl("cancel", str(numbers[name]))
    ended = {name: rig.ended(number) for name, number in numbers.items()}
    found = {name: (run["status"], run["exit_code"]) for name, run in ended.items()}
    assert found["stop"] == ("cancelled", 143)
    assert found["deaf"] == ("cancelled", 137)
    assert found["late"][0] == "timed-out"
    assert found["hungry"] == ("oom-killed", 137)


def test_lines_come_once_over_two_kills_of_jobd(rig: FaultRig) -> None:
    """Its times are whole seconds, so hundreds of lines share one."""
    program = (
        "i=0; while [ $i -lt 60 ]; do seq $((i * 200 + 1)) $((i * 200 + 200)); i=$((i + 1)); "
        "sleep 0.1; done; printf end; exit 3"
    )
    rig.register("lines", program, "--cpus", "0.5")
    number = rig.queue("lines")
    container = rig.begun(number)["attempts"][0]["container"]
    for _ in range(2):
        rig.until(number, lambda run: run["status"] == "running")
        rig.again()
    run = rig.ended(number)
    assert rig.outcomes(number) == [("failed", 3)]
    assert run["attempts"][0]["container"] == container
    lines = rig.text(number, "--stdout").split("\n")
    assert lines == ["begin 1", *map(str, range(1, 12_001)), "end"]


def test_its_service_may_come_and_go(rig: FaultRig, podman: PodmanEngine) -> None:
    """Containers outlive it: one goes on, one ends meanwhile; neither is lost or interrupted."""
    rig.register("goes", "sleep 4; echo end; exit 4")
    rig.register("ends", "sleep 1; kill -9 $$", attempts=1)
    goes, ends = rig.queue("goes"), rig.queue("ends")
    rig.begun(goes)
    pid = podman.sdk.inspect_container(rig.container(ends))["State"]["Pid"]
    podman.kill()
    end_of(pid)
    assert rig.run(goes)["status"] == "running"
    podman.up()
    rig.ended(goes)
    rig.ended(ends)
    assert rig.outcomes(goes) == [("failed", 4)]
    assert rig.text(goes) == "begin 1\nend\n"
    assert rig.outcomes(ends)[0][1] == 137


def test_from_inside_by_files_and_by_a_mount_of_its_own(rig: FaultRig) -> None:
    rig.register("child", "cat $PAYLOAD_FILE")
    rig.register(
        "parent",
        'test -S "$JOBD_SOCKET" && ! touch /job/api/x && echo 70 >/job/progress'
        " && echo by file >/job/queue/child/one",
        *("--api-queue", "child"),
    )
    run = rig.ended(rig.queue("parent"))
    assert run["status"] == "succeeded"
    assert run["progress"] == {"percent": 70, "message": None}
    (child,) = run["children"]
    assert rig.ended(child)["status"] == "succeeded"
    assert "by file" in rig.text(child)

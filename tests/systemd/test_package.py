"""The Debian package under a real systemd: installed, used, hurt, upgraded, removed.

One machine for the file, and its tests go on from one another, as its life does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, until, why_not

ROOT = Path(__file__).parents[2]
IMAGE = "jobd-test:busybox"
pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SLEEPER = f"""
name = "sleeper"
image = "{IMAGE}"
command = ["sleep", "300"]
network = "none"
[resources]
memory = "16M"
cpus = 0.1
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package of this tree, and the same with the next version's number."""
    folder = tmp_path_factory.mktemp("deb")
    built = _do(str(ROOT / "contrib/packaging/build-deb"), str(folder)).split()[-1]
    tree = folder / "tree"
    _do("dpkg-deb", "-R", built, str(tree))
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text(
        "".join(f"{line}+next\n" if line.startswith("Version:") else f"{line}\n" for line in lines)
    )
    later = folder / "later.deb"
    _do("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(later))
    return [Path(built), later]


@pytest.fixture(scope="module")
def machine(packages: list[Path]) -> Iterator[Machine]:
    reason = why_not()
    if reason is not None:
        pytest.fail(f"no machine can be booted: {reason}")
    made = Machine()
    for package, name in zip(packages, ("first.deb", "later.deb"), strict=True):
        shutil.copy(package, made.root / "root" / name)
    yield made
    made.close()


def _do(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env={**os.environ}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _json(machine: Machine, *words: str) -> Any:
    return json.loads(machine.run("jobctl", "--json", *words).stdout)


def _status(machine: Machine, number: str) -> str:
    return str(_json(machine, "show", number)["status"])


def _becomes(machine: Machine, number: str, status: str) -> None:
    until(
        lambda: _status(machine, number) == status,
        said=lambda: (
            machine.run("jobctl", "why", number, check=False).stdout
            + machine.run("journalctl", "-u", "jobd", "-n", "30", check=False).stdout
        ),
    )


def _main_pid(machine: Machine) -> str:
    return machine.asked("jobd", "MainPID")["MainPID"]


def test_installing_it_starts_it(machine: Machine) -> None:
    said = machine.run("dpkg", "-i", "/root/first.deb").stdout
    assert "adduser NAME jobd" in said
    unit = machine.asked("jobd", "ActiveState", "StatusText", "UnitFileState", "User")
    assert unit["ActiveState"] == "active"
    assert unit["StatusText"] == "serving /run/jobd/jobd.sock"
    assert (unit["UnitFileState"], unit["User"]) == ("enabled", "jobd")
    owners = machine.shell("stat -c '%U:%G:%a' /var/lib/jobd /var/log/jobd /etc/jobd/secrets")
    assert owners.split() == ["jobd:jobd:700", "jobd:jobd:750", "root:jobd:750"]


def test_a_member_of_the_group_queues_and_others_may_not(machine: Machine) -> None:
    machine.shell("chgrp docker /run/docker.sock; chmod 660 /run/docker.sock")
    machine.shell("useradd -m alice; useradd -m mallory; usermod -aG jobd alice")
    register = ["register", "--name", "hello", "--network", "none", "--memory", "16M"]
    machine.run("jobctl", *register, IMAGE, "sh", "-c", "cat $PAYLOAD_FILE")
    said = machine.run("runuser", "-u", "alice", "--", "jobctl", "run", "hello", "-p", "hi there")
    assert said.stdout == "hi there"
    refused = machine.run("runuser", "-u", "mallory", "--", "jobctl", "queue", "hello", check=False)
    assert refused.returncode == 77, refused.stderr


def test_a_reload_takes_job_files_and_refuses_bad_ones_whole(machine: Machine) -> None:
    folder = machine.root / "etc/jobd/jobs.d"
    machine.shell(f"cat > /etc/jobd/jobs.d/sleeper.toml <<'END'{SLEEPER}END")
    machine.run("systemctl", "reload", "jobd")
    until(lambda: "sleeper" in [job["name"] for job in _json(machine, "jobs")])
    machine.shell("echo 'name = 7' > /etc/jobd/jobs.d/wrong.toml")
    machine.run("systemctl", "reload", "jobd")
    until(lambda: "reload refused" in machine.asked("jobd", "StatusText")["StatusText"])
    assert "wrong.toml" in machine.asked("jobd", "StatusText")["StatusText"]
    (folder / "wrong.toml").unlink()
    machine.run("systemctl", "reload", "jobd")
    until(lambda: machine.asked("jobd", "StatusText")["StatusText"].startswith("serving"))


def test_the_watchdog_kills_one_that_hangs_and_the_next_takes_over(machine: Machine) -> None:
    drop_in = "/etc/systemd/system/jobd.service.d"
    machine.shell(f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec=3s\\n' > {drop_in}/t.conf")
    machine.shell("systemctl daemon-reload; systemctl restart jobd")
    number = machine.run("jobctl", "queue", "sleeper").stdout.strip()
    _becomes(machine, number, "running")
    before = _main_pid(machine)
    machine.run("kill", "-STOP", before)
    until(lambda: machine.asked("jobd", "NRestarts")["NRestarts"] == "1")
    until(lambda: machine.asked("jobd", "ActiveState")["ActiveState"] == "active")
    assert _main_pid(machine) != before
    assert _status(machine, number) == "running"
    machine.run("jobctl", "cancel", number)
    _becomes(machine, number, "cancelled")
    assert len(_json(machine, "show", number)["attempts"]) == 1
    machine.shell(f"rm -r {drop_in}; systemctl daemon-reload")


def test_a_stop_leaves_what_runs_and_an_upgrade_takes_it_over(machine: Machine) -> None:
    running = machine.run("jobctl", "queue", "sleeper").stdout.strip()
    _becomes(machine, running, "running")
    machine.run("systemctl", "stop", "jobd")
    assert machine.asked("jobd", "Result")["Result"] == "success"
    machine.run("systemctl", "start", "jobd")
    waiting = machine.run("jobctl", "queue", "hello", "--in", "1h", "-p", "later").stdout.strip()
    before = _main_pid(machine)
    machine.run("dpkg", "-i", "/root/later.deb")
    assert machine.asked("jobd", "ActiveState")["ActiveState"] == "active"
    assert _main_pid(machine) != before
    assert _status(machine, running) == "running"
    assert _status(machine, waiting) == "delayed"
    machine.run("jobctl", "cancel", running, waiting)
    _becomes(machine, running, "cancelled")
    assert len(_json(machine, "show", running)["attempts"]) == 1


def test_a_unit_that_fails_queues_a_run(machine: Machine) -> None:
    register = ["register", "--name", "unit-failed", "--network", "none", "--memory", "16M"]
    machine.run("jobctl", *register, IMAGE, "sh", "-c", "cat $PAYLOAD_FILE")
    unit = "[Unit]\\nOnFailure=jobd-onfailure@%%n.service\\n[Service]\\nExecStart=/bin/false\\n"
    machine.shell(f"printf '{unit}' > /etc/systemd/system/breaks.service")
    machine.shell("systemctl daemon-reload; systemctl start breaks || true")
    until(
        lambda: _json(machine, "ls", "--job", "unit-failed"),
        said=lambda: machine.run("journalctl", "-n", "30", check=False).stdout,
    )
    [run] = _json(machine, "ls", "--job", "unit-failed")
    until(lambda: _status(machine, str(run["id"])) == "succeeded")
    told = json.loads(machine.run("jobctl", "logs", str(run["id"])).stdout)
    assert (told["unit"], told["result"], told["exit_status"]) == (
        "breaks.service",
        "exit-code",
        "1",
    )


def test_units_are_what_systemd_understands_and_hardened() -> None:
    units = sorted(str(path) for path in (ROOT / "systemd").glob("*.service"))
    said = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    ).stderr
    # on a host where jobd is not installed that is all there is to say
    wrong = [line for line in said.splitlines() if "is not executable" not in line]
    assert wrong == []
    # what reaches the network cannot have less
    for unit, most in (("jobd", 12), ("jobd-notify", 16)):
        _do(
            "systemd-analyze", "security", "--offline=true", f"--threshold={most}",
            str(ROOT / f"systemd/{unit}.service"),
        )  # fmt: skip


def test_an_alert_goes_out_by_its_own_unit(machine: Machine) -> None:
    machine.shell(
        'printf \'[alerts.commands]\nnote = ["/bin/sh", "-c", '
        '"id -un > /tmp/note; cat >> /tmp/note"]\n\' >> /etc/jobd/jobd.toml'
    )
    machine.run("systemctl", "reload", "jobd")
    until(
        lambda: machine.asked("jobd-notify", "ActiveState")["ActiveState"] == "active",
        said=lambda: machine.run("journalctl", "-u", "jobd-notify", "-n", "20", check=False).stdout,
    )
    settings = 'alert=[{"on": ["failed"], "command": "note"}]'
    register = ["register", "--name", "fails", "--network", "none", "--memory", "16M"]
    machine.run("jobctl", *register, "--attempts", "1", IMAGE, "sh", "-c", "exit 3")
    machine.run("jobctl", "set", "fails", settings)
    machine.run("jobctl", "queue", "fails")
    tmp = "/proc/$(systemctl show -p MainPID --value jobd-notify)/root/tmp/note"
    until(
        lambda: machine.shell(f"cat {tmp} 2>/dev/null || true"),
        said=lambda: (
            machine.run("jobctl", "alerts", check=False).stdout
            + machine.run("journalctl", "-n", "20", check=False).stdout
        ),
    )
    until(lambda: "fails" in machine.shell(f"cat {tmp}"))
    assert machine.shell(f"head -n 1 {tmp}") == "jobd-notify"


def test_a_wrong_configuration_is_told_once_and_not_tried_again(machine: Machine) -> None:
    machine.shell("echo 'no_such_key = 1' >> /etc/jobd/jobd.toml")
    machine.run("systemctl", "restart", "jobd", check=False)
    unit = machine.asked("jobd", "ActiveState", "ExecMainStatus", "NRestarts")
    assert (unit["ActiveState"], unit["ExecMainStatus"]) == ("failed", "78")
    assert "no_such_key" in machine.run("journalctl", "-u", "jobd", "-n", "20").stdout
    machine.shell("sed -i '/no_such_key/d' /etc/jobd/jobd.toml; systemctl start jobd")


def test_removing_keeps_the_queue_and_purging_does_not(machine: Machine) -> None:
    machine.run("dpkg", "-r", "jobd")
    assert machine.run("systemctl", "is-active", "jobd", check=False).stdout.strip() != "active"
    assert machine.shell("ls /var/lib/jobd /etc/jobd; command -v jobctl || echo none").endswith(
        "none"
    )
    assert machine.run("test", "-e", "/usr/lib/jobd", check=False).returncode == 1
    machine.run("dpkg", "-P", "jobd")
    left = "ls -d /var/lib/jobd /var/log/jobd /etc/jobd /var/spool/jobd 2>/dev/null || true"
    assert machine.shell(left) == ""

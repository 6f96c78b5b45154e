"""Jobs that are processes of the host, as their user meets them: jobctl and a whole daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import open_folder
from tests.support.zygote import ForkedDaemon


class Host(ForkedDaemon):
    """A daemon whose container engine does not answer, and whose processes run as nobody."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "")
        home.chmod(0o755)
        self.configure('user = "nobody"')
        secrets = home / "secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "key").write_text("s3cret\n")

    def configure(self, process: str) -> None:
        """Write the configuration; it counts from the next start."""
        (self.home / "jobd.toml").write_text(
            f'[engine]\nsocket = "unix:///nonexistent/docker.sock"\n[process]\n{process}\n'
            '[logs]\nper_attempt = "256K"\n'
        )

    def process(self, name: str, script: str, *options: str) -> None:
        """Register a shell script."""
        self.ctl("register", "--process", "--name", name, *options, "sh", "-c", script)

    def refused(self, *arguments: str) -> str:
        """What is said of a bad value."""
        done = self.ctl(*arguments, check=False)
        assert done.returncode == 78, done
        return done.stderr


@pytest.fixture
def host() -> Iterator[Host]:
    with open_folder() as folder:
        made = Host(folder / "h")
        made.start()
        made.ready()
        yield made
        if made.alive():
            made.ctl("cancel", "--job", "long", check=False)
            made.settled("--all")
        made.close()


def test_it_runs_while_the_container_engine_is_away(host: Host) -> None:
    registered = host.ctl("register", "--name", "boxed", "busybox", "true")
    assert "its runs will wait" in registered.stderr
    boxed = host.ctl("queue", "boxed").stdout.strip()
    host.process(
        "plain",
        'cat "$PAYLOAD_FILE" "$CONFIG_FILE" secrets/key; echo "$KEY $JOB_NAME $RUN_ID $ATTEMPT"; '
        '[ "$PWD" = "$TASK_DIR" ]; echo out >"$OUTPUT_DIR/file"; echo done >"$RESULT_FILE"; '
        "echo oops >&2; exit 3",
        *("--config", "config;", "--secret", "KEY=key", "--secret", "file:key=key"),
    )
    done = host.ctl("run", "plain", "-p", "payload;", check=False)
    assert done.returncode == 3
    assert done.stdout == "payload;config;s3cret\ns3cret plain 2 1\n"
    assert "oops" in done.stderr
    assert host.ctl("result", "2").stdout == "done\n"
    run = host.json("show", "2")
    assert run["isolation"] == "none"
    assert run["attempts"][0]["image_id"] is None
    assert run["attempts"][0]["container"].startswith("process ")
    assert "not isolated" in host.ctl("show", "plain").stdout
    status = host.json("status")
    assert status["engine"]["reachable"] is False
    assert status["process"]["reachable"] is True
    waiting = host.json("show", boxed)
    assert (waiting["status"], waiting["reason"]["code"]) == ("queued", "engine")
    assert host.json("jobs")[0]["image"] == "busybox"
    host.ctl("cancel", boxed)
    assert os.listdir(host.home / "state" / "process") == []
    assert os.listdir(host.home / "state" / "work") == []


def test_what_makes_no_sense_is_refused_by_its_key(host: Host) -> None:
    base = ("register", "--process", "--name", "job")
    assert "network: " in host.refused(*base, "--network", "none", "true")
    assert "pull: " in host.refused(*base, "--pull", "always", "true")
    assert "user 'root': " in host.refused(*base, "--user", "root", "true")
    assert "command: " in host.refused(*base, "./here")
    host.ctl("register", "--process", "--name", "job", "--user", "nobody", "true")
    done = host.ctl("register", "--process", "true", check=False)
    assert done.returncode == 2
    assert "--name" in done.stderr


def test_where_they_are_off_what_is_queued_waits_and_says_why(host: Host) -> None:
    host.process("job", "echo ran")
    run = host.ctl("queue", "job", "--in", "1h").stdout.strip()
    host.terminate()
    host.configure("enabled = false")
    host.start()
    host.ready()
    said = host.refused("register", "--process", "--name", "other", "true")
    assert "[process] enabled = true" in said
    assert "enabled = true" in host.refused("queue", "job")
    assert host.json("show", run)["status"] == "delayed"
    assert host.json("status")["process"]["enabled"] is False
    host.ctl("cancel", run)


def test_a_killed_shim_is_told_and_not_run_again(host: Host) -> None:
    host.process("long", "echo begun; setsid sleep 300 & wait")
    run = host.ctl("queue", "long").stdout.strip()
    host.ctl("wait", run, "--for", "running")
    (claim,) = (host.home / "state" / "process").glob("*/claim.1")
    os.kill(int(claim.read_text().split()[1]), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (shown := host.json("show", run))["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert shown["status"] == "held"
    assert shown["attempts"][0]["outcome"] == "lost"
    assert "its shim was killed" in shown["reason"]["text"]
    assert "begun" in host.ctl("logs", run).stdout
    host.ctl("cancel", run)


def test_a_flood_is_cut_in_the_middle_and_counted(host: Host) -> None:
    host.process("flood", "seq 200000")
    host.ctl("run", "flood", check=False)
    run = host.json("show", "last")
    assert run["status"] == "succeeded"
    assert run["attempts"][0]["log_truncated"] is True
    assert run["attempts"][0]["log_bytes"] == sum(len(str(n)) + 1 for n in range(1, 200_001))
    raw = host.ctl("-o", "jsonl", "logs", "last").stdout
    assert '"cut: ' in raw
    (path,) = (host.home / "log" / "flood").iterdir()
    notes = [line for line in path.read_text().splitlines() if " jobd F cut: " in line]
    (note,) = notes
    kept = sum(" stdout F " in line for line in path.read_text().splitlines())
    assert int(note.split(" cut: ")[1].split()[0]) == 200_000 - kept

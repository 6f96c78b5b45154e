"""Job files as people use them: `apply`, the daemon's own jobs.d/, and a reload of all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from jobctl.client import Client
from tests.support import waiting
from tests.support.served import ENVIRONMENT, Daemon

PATIENCE = 30.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "home")
    (one.home / "jobs.d").mkdir(parents=True)
    yield one
    one.end(signal.SIGTERM)


def write(folder: Path, **files: str) -> None:
    """Job files; an empty text removes one."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        path = folder / f"{name}.toml"
        path.write_text(text) if text else path.unlink()


until = partial(waiting.until, patience_s=PATIENCE)


def check(home: Path) -> subprocess.CompletedProcess[str]:
    """`jobd check`."""
    words = [sys.executable, "-m", "jobd", "check", "--home", str(home), "--engine", "fake"]
    return subprocess.run(
        words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )


def test_apply_shows_what_changes(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    jobs = tmp_path / "jobs"
    write(jobs, a='image = "x"\n', b='image = "x"\nenv = { A = "1" }\n')
    assert daemon.jobctl("apply", "-f", str(jobs), "--dry-run").stdout.endswith(b"2 created\n")
    assert daemon.jobctl("jobs", "-o", "id").stdout == b""
    assert daemon.jobctl("apply", "-f", str(jobs)).returncode == 0
    write(jobs, a="", b='image = "y"\nenv = { A = "2" }\n', c='image = "z"\n')
    done = daemon.jobctl("apply", "-f", str(jobs), "--prune")
    assert done.stdout.decode().splitlines() == [
        "b: changed (revision 2)",
        "  image: x -> y",
        "  env.A: 1 -> 2",
        "c: created (revision 1)",
        "a: pruned",
        "1 created, 1 changed, 1 pruned",
    ]
    rows = json.loads(daemon.jobctl("apply", "-f", str(jobs / "c.toml"), "--json").stdout)
    assert [(row["job"], row["action"], row["changes"]) for row in rows] == [("c", "unchanged", [])]


def test_apply_is_all_or_nothing_and_names_every_mistake(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    jobs = tmp_path / "jobs"
    write(jobs, a='image = "x"\n', b="imag = 1\n", c='image = "x"\n[retry]\nattempts = 0\n')
    done = daemon.jobctl("apply", "-f", str(jobs))
    said = done.stderr.decode()
    assert done.returncode == 78
    assert f"{jobs}/b.toml:1: 'imag': unknown key; did you mean image?" in said
    assert f"{jobs}/c.toml:3: retry.attempts: 0" in said
    # what only the daemon knows is told by file and line as well
    write(jobs, b='image = "x"\n\nnetwork = "n"\n', c='image = "x"\n[resources]\ncpus = 900\n')
    done = daemon.jobctl("apply", "-f", str(jobs))
    assert done.returncode == 78
    assert f"{jobs}/b.toml:3: network 'n' is not allowed here" in done.stderr.decode()
    assert f"{jobs}/c.toml:3: resources.cpus 900" in done.stderr.decode()
    assert daemon.jobctl("jobs", "-o", "id").stdout == b""
    error = json.loads(daemon.jobctl("apply", "-f", str(jobs), "--json").stdout)["error"]
    assert (error["code"], len(error["details"]["mistakes"])) == ("invalid", 2)
    (tmp_path / "empty").mkdir()
    assert daemon.jobctl("apply", "-f", str(tmp_path / "empty")).returncode == 2
    assert daemon.jobctl("apply", "-f", str(tmp_path / "none.toml")).returncode == 78
    done = daemon.jobctl("apply", "-f", "-", stdin=b'name = "i"\nimage = "x"\n')
    assert done.stdout == b"i: created (revision 1)\n1 created\n"


def test_the_daemons_own_folder_is_read_at_start_and_on_reload(daemon: Daemon) -> None:
    folder = daemon.home / "jobs.d"
    write(folder, a='image = "x"\n', b='image = "x"\ncommand = ["sleep=60"]\n')
    daemon.start()
    with Client(home=str(daemon.home)) as jobd:
        names = lambda: {row["name"] for row in jobd.jobs()}  # noqa: E731
        assert names() == {"a", "b"}
        assert jobd.job("a")["origin"] == "jobs.d/a.toml"
        done = daemon.jobctl("register", "--name", "a", "y")
        assert done.returncode == 73
        assert b"jobs.d/a.toml" in done.stderr
        assert daemon.jobctl("unregister", "a").returncode == 73
        number = jobd.queue("b")["runs"][0]["id"]
        write(folder, a="", b="", c='image = "x"\n')
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: names() == {"b", "c"})  # b has a live run
        jobd.cancel(number)
        jobd.wait(number)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: names() == {"c"})


def test_a_reload_is_taken_whole_or_not_at_all(daemon: Daemon) -> None:
    folder, config = daemon.home / "jobs.d", daemon.home / "jobd.toml"
    write(folder, a='image = "x"\n')
    daemon.start()
    with Client(home=str(daemon.home)) as jobd:
        problems = lambda: jobd.status()["configuration"]["problems"]  # noqa: E731
        config.write_text('[capacity]\ncpus = 99\n[allow]\nnetworks = ["n"]\n')
        write(folder, b='image = "x"\nnetwork = "n"\nfoo = 1\n', c="x = = 1\n")
        assert check(daemon.home).returncode == 78
        os.kill(daemon.pid, signal.SIGHUP)
        first, second, third = until(problems)
        assert f"{folder}/a.toml: network 'bridge' is not allowed here" in first
        assert f"{folder}/b.toml:3: 'foo': unknown key" in second
        assert f"{folder}/c.toml:1: is not valid TOML" in third
        assert b"CONFIGURATION NOT RELOADED" in daemon.jobctl("status").stdout
        assert jobd.status()["capacity"]["cpus"] != 99
        assert [row["name"] for row in jobd.jobs()] == ["a"]
        write(folder, a="", b='image = "x"\nnetwork = "n"\n', c="")
        done = check(daemon.home)
        assert (done.returncode, "cpus = 99.0" in done.stdout) == (0, True)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: not problems())
        assert jobd.status()["capacity"]["cpus"] == 99
        assert [row["name"] for row in jobd.jobs()] == ["b"]
        config.write_text("[capacity]\ncpus = 'all'\n")
        os.kill(daemon.pid, signal.SIGHUP)
        assert until(problems)[0].startswith(f"{config}:2: capacity.cpus: 'all'")


def test_a_daemon_does_not_start_with_a_wrong_job_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(home / "jobs.d", a='image = "x"\nfoo = 1\n', b="image = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "jobd", "run", "--home", str(home), "--engine", "fake"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert f"{home}/jobs.d/a.toml:2: 'foo': unknown key" in done.stderr
    assert f"{home}/jobs.d/b.toml:1: image: expected text" in done.stderr

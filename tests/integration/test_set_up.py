"""From nothing to a daemon that runs: init, doctor, and what each says next."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from jobctl.commands.init import config_folder
from jobd.daemon.places import usual
from tests.support.served import Daemon


def levels(daemon: Daemon) -> dict[str, list[str]]:
    """What doctor finds: levels by what they are about."""
    found: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = json.loads(daemon.jobctl("doctor", "--json").stdout)
    for row in rows:
        found.setdefault(row["about"], []).append(row["level"])
        assert row["level"] == "ok" or row["remedy"] or row["about"] == "engine"
    return found


def test_init_then_run(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "home")
    done = daemon.jobctl("init")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        f"{daemon.home}/jobd.toml",
        f"{daemon.home}/jobs.d/hello.toml",
    ]
    assert f"jobd run --home {daemon.home}".encode() in done.stderr
    assert stat.S_IMODE((daemon.home / "secrets").stat().st_mode) == 0o700
    config = daemon.home / "jobd.toml"
    config.write_text("# mine\n")
    done = daemon.jobctl("init")
    assert (done.returncode, config.read_text()) == (73, "# mine\n")
    config.unlink()
    assert daemon.jobctl("init").returncode == 73  # the example is there still
    assert not config.exists()
    daemon.start()
    assert daemon.jobctl("jobs", "-o", "id").stdout == b"hello\n"
    daemon.end(signal.SIGTERM)


def test_init_goes_where_the_users_daemon_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    for xdg, expected in (("/x", "/x/jobd"), ("", "/home/ann/.config/jobd")):
        monkeypatch.setenv("XDG_CONFIG_HOME", xdg)
        assert config_folder() == expected == str(usual().config.parent)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config_folder() == "/etc/jobd" == str(usual().config.parent)


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "home")
    done = daemon.jobctl("doctor")
    assert done.returncode == 69
    assert b"not running" in done.stdout
    daemon.start()
    try:
        found = levels(daemon)
        assert found["daemon"] == found["config"] == found["socket"] == found["secrets"] == ["ok"]
        assert found["engine"] == ["ok", "warning"]
        assert {"queue", "logs", "cgroups", "clock"} <= found.keys()
        assert daemon.jobctl("doctor").returncode == 0
        (daemon.home / "jobd.toml").write_text("[engine]\nkinds = 3\n")
        secrets = daemon.home / "secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "token").write_text("x")
        (secrets / "token").chmod(0o644)
        done = daemon.jobctl("doctor")
        assert done.returncode == 1
        said = done.stdout.decode()
        assert f"{daemon.home}/jobd.toml:2: engine.kinds: unknown key" in said
        assert f"chmod go= {secrets}/token" in said
    finally:
        daemon.end(signal.SIGTERM)

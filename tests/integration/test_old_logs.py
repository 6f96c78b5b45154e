"""Logs that are older than is wanted go; their runs stay, and tell what they last said."""

from __future__ import annotations

import os
import time
from pathlib import Path

from jobd.runlog.folder import LogFolder
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_they_go_by_age_and_those_of_live_runs_stay(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text('[logs]\nkeep = "1h"\n[history]\nwindow = 1\n')
    host = FakeHost(home).start()
    try:
        with host.client() as client:
            client.register({"name": "says", "image": "i", "command": ["print=hello"], **SMALL})
            client.register({"name": "hangs", "image": "i", "command": ["print=hi", "hang"],
                             "timeout": "1h", **SMALL})  # fmt: skip
            runs = [client.queue("says")["runs"][0]["id"] for _ in range(4)]
            client.wait(*runs)
            live = client.queue("hangs")["runs"][0]["id"]
            logs = home / "log"
            until(lambda: client.show(live)["status"] == "running")
            until(lambda: list(logs.glob(f"hangs/{live}.*")))
        paths = [logs / "says" / f"{run}.1.log" for run in runs]
        (hangs,) = logs.glob(f"hangs/{live}.*")
        for path in (*paths[:3], hangs):
            age(path, 7200)
        (logs / "says" / "note.txt").write_text("a person's own")
        age(logs / "says" / "note.txt", 7200)
        host.end()
        host.start()
        until(lambda: not any(path.exists() for path in paths[:3]))
        assert paths[3].exists()
        assert hangs.exists()
        assert (logs / "says" / "note.txt").exists()
        # from memory and from the archive alike
        for run in runs[:3]:
            said = host.ctl("logs", str(run))
            assert (said.status, said.out) == (0, "hello\n")
            assert "its log is not there: removed for its age" in said.err
        assert host.ctl("logs", str(runs[3])).err == ""
        assert host.json("show", str(runs[0]))["status"] == "succeeded"
        host.ctl("cancel", str(live))
    finally:
        host.end()


def test_what_is_no_log_of_ours_is_not_among_them(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path / "log")
    for name in ("1.1.log", "0.1.log", "01.1.log", "1.log", "1.1.log.bak", "x.1.log"):
        (tmp_path / "log" / "j").mkdir(exist_ok=True)
        (tmp_path / "log" / "j" / name).write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.1.log").write_text("x")
    (tmp_path / "log" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "log" / "file").write_text("x")
    ahead = round(time.time() * 1000) + 60_000
    assert list(folder.older(ahead)) == [("j", 1, 1)]
    assert list(folder.older(0)) == []
    folder.close()
